"""PyTorch, eager: the reference that everything is verified against, and the baseline that everything is measured against."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engines.runtimes.base import Device, Engine, Precision, Runtime, runtime_errors
from engines.runtimes.threads import threads_for
from mimo.errors import EngineError, EngineUnavailable
from mimo.networks.registry import deployed_form
from mimo.spec import ModelSpec

Compiling = Literal["default", "max-autotune-no-cudagraphs"]
"""The modes of ``torch.compile`` that are measured; CUDA graphs are this engine's own."""

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Source(Protocol):
    """What an engine is made from: a checkpoint, or a network of the comparison table."""

    @property
    def spec(self) -> ModelSpec: ...

    def build(self) -> nn.Module:
        """The network in evaluation mode; it returns one tensor of the input's shape, or several of which it is the last."""


class PyTorchEngine(Engine):
    """A checkpoint in eager PyTorch. See :class:`~engines.runtimes.base.Engine`.

    FP32 means FP32: TensorFloat-32 is off unless ``tf32``, and then :attr:`compute` says so. ``lean`` is the form in which the
    network is exported, where it has one; ``channels_last`` lays weights and maps out as tensor cores read them; ``compiled``
    goes through ``torch.compile`` in that mode, each shape compiled for itself; ``autotuned`` lets cuDNN try its algorithms at
    each new shape; ``cuda_graph`` captures the network at the shape at hand and replays it. All of them stand in the name.
    ``threads`` are torch's for the whole process, so those of the engine opened last.

    Raises :class:`EngineUnavailable` for ``cuda``, or a CUDA graph, without a GPU, and ``ValueError`` for ``tf32`` in another
    precision than fp32.
    """

    runtime: Runtime = "pytorch"

    def __init__(
        self,
        source: Source,
        device: Device = "cpu",
        compute: Precision = "fp32",
        *,
        threads: int | None = None,
        tf32: bool = False,
        lean: bool = False,
        channels_last: bool = False,
        compiled: Compiling | None = None,
        autotuned: bool = False,
        cuda_graph: bool = False,
    ) -> None:
        if cuda_graph and device == "cpu":
            raise EngineUnavailable("a CUDA graph needs a GPU: leave --cuda-graph out, or use --device cuda.")
        if device == "cuda" and not torch.cuda.is_available():
            raise EngineUnavailable(
                "PyTorch sees no CUDA device: install a CUDA build of torch on a machine with a GPU, or use --device cpu."
            )
        self.device = device
        if tf32 and compute != "fp32":
            raise ValueError(f"tf32 is a way to compute fp32, got {compute}")
        self.compute = "tf32" if tf32 else compute
        ways = {
            "lean": lean,
            "channels last": channels_last,
            "compiled" if compiled == "default" else f"compiled {compiled}": compiled is not None,
            "cuDNN benchmark": autotuned,
            "CUDA graph": cuda_graph,
        }
        chosen = [way for way, is_chosen in ways.items() if is_chosen]
        self.name = f"pytorch {device} {self.compute}" + (f" ({', '.join(chosen)})" if chosen else "")
        self.size_multiple = source.spec.size_multiple
        self.context = source.spec.context
        if device == "cpu":
            torch.set_num_threads(threads_for(threads).count)
            self.threads = torch.get_num_threads()
        self._tf32 = tf32
        self._autotuned = autotuned
        self._compiled = compiled is not None
        self.specialises = self._compiled
        self._dtype = _DTYPES[compute]
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        if compiled is not None:
            # For the whole process: past its limit of shapes Dynamo would go on eagerly, under the name of what is compiled.
            torch._dynamo.config.fail_on_recompile_limit_hit = True
        if device == "cuda":
            torch.cuda.init()  # type: ignore[no-untyped-call]
            torch.cuda.reset_peak_memory_stats()
        built = source.build()
        if lean and (deployed := deployed_form(source.spec)) is not None:
            built = deployed(built)
        network = built.to(device, self._dtype).to(memory_format=self._layout)  # type: ignore[call-overload]
        # Not dynamic: with free sizes Inductor gives up its layout optimisation, from the second shape of a process on.
        self._network: Any = network if compiled is None else torch.compile(network, dynamic=False, mode=compiled)
        self._cuda_graph = cuda_graph
        self._captured: Any = None
        if device == "cuda":
            self.free_bytes = torch.cuda.mem_get_info()[0]

    def _run(self, source: NDArray[Any], result: NDArray[Any]) -> None:
        found = self._replayed(source) if self._cuda_graph else self._forward(self._upload(source))
        if tuple(found.shape) != result.shape:
            raise EngineError(f"{self.name} returned {tuple(found.shape)} for {result.shape}: this network changes the size.")
        np.copyto(result, found.float().cpu().numpy())

    def _replayed(self, source: NDArray[Any]) -> torch.Tensor:
        """The result by the graph of this shape, which is captured first where the last one was of another shape."""
        tensor = self._upload(source)
        if self._captured is None or self._captured[1].shape != tensor.shape:
            self._captured = None
            self._capture(tensor)
        graph, given, result = self._captured
        given.copy_(tensor)
        graph.replay()
        replayed: torch.Tensor = result
        return replayed

    def _launcher(self, source: NDArray[Any]) -> Callable[[], None]:
        self._captured = None  # the memory of an earlier capture is free for this one
        tensor = self._upload(source)
        if self._cuda_graph:
            return self._capture(tensor)

        def launch() -> None:
            self._forward(tensor)

        return launch

    @property
    def memory_bytes(self) -> int | None:  # type: ignore[override]
        """The most that torch's allocator has had in use since this engine was opened, weights included; None on a CPU."""
        return torch.cuda.max_memory_allocated() if self.device == "cuda" else None

    def synchronize(self) -> None:
        if self.device == "cuda":
            with runtime_errors(f"{self.name} failed"):  # what was enqueued fails here
                torch.cuda.synchronize()

    def device_seconds(self, launch: Callable[[], None]) -> float | None:
        if self.device == "cpu":
            return None
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        launch()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    def close(self) -> None:
        self._captured = self._network = None
        if self._compiled:
            # What was compiled stays with the code object of the network's class, over engines.
            self._compiled = False
            torch._dynamo.reset()
        if self.device == "cuda":
            gc.collect()
            torch.cuda.empty_cache()  # what torch keeps would be missing for the next engine, whichever runtime that has

    def _upload(self, images: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(images).to(self.device, self._dtype, memory_format=self._layout)

    def _capture(self, tensor: torch.Tensor) -> Callable[[], None]:
        """Record one forward pass over ``tensor``; replaying it computes the same place in memory again."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # what is allocated and chosen at first must not be captured
                self._forward(tensor)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self._forward(tensor)
        self._captured = (graph, tensor, result)  # their memory is the graph's
        replay: Callable[[], None] = graph.replay
        return replay

    def _forward(self, tensor: torch.Tensor) -> torch.Tensor:
        cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=self._autotuned, allow_tf32=self._tf32)
        with torch.inference_mode(), cudnn:
            outputs = self._network(tensor)
        result: torch.Tensor = outputs if isinstance(outputs, torch.Tensor) else outputs[-1]
        return result
