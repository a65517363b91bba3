"""PyTorch, eager: the reference that everything is verified against, and the baseline that everything is measured against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engines.runtimes.base import Device, Engine, Precision, Runtime
from engines.runtimes.threads import threads_for
from mimo.errors import EngineError, EngineUnavailable
from mimo.spec import ModelSpec

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Source(Protocol):
    """What an engine is made from: a checkpoint, or a network of the comparison table."""

    @property
    def spec(self) -> ModelSpec: ...

    def build(self) -> nn.Module:
        """The network in evaluation mode; it returns one tensor of the input's shape, or several of which it is the last."""


class PyTorchEngine(Engine):
    """A checkpoint in eager PyTorch. See :class:`~engines.runtimes.base.Engine`.

    FP32 means FP32: TensorFloat-32 is off unless ``tf32``. ``channels_last`` lays weights and maps out as tensor cores read
    them; ``compiled`` goes through ``torch.compile``; ``cuda_graph`` lets a launch replay the captured network. All of them
    stand in the name. ``threads`` are torch's for the whole process, so those of the engine opened last. Raises
    :class:`EngineUnavailable` for ``cuda``, or a CUDA graph, without a GPU.
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
        channels_last: bool = False,
        compiled: bool = False,
        cuda_graph: bool = False,
    ) -> None:
        if cuda_graph and device == "cpu":
            raise EngineUnavailable("a CUDA graph needs a GPU: leave --cuda-graph out, or use --device cuda.")
        if device == "cuda" and not torch.cuda.is_available():
            raise EngineUnavailable(
                "PyTorch sees no CUDA device: install a CUDA build of torch on a machine with a GPU, or use --device cpu."
            )
        self.device = device
        self.compute = compute
        ways = {"tf32": tf32, "channels last": channels_last, "compiled": compiled, "CUDA graph": cuda_graph}
        chosen = [way for way, is_chosen in ways.items() if is_chosen]
        self.name = f"pytorch {device} {compute}" + (f" ({', '.join(chosen)})" if chosen else "")
        self.size_multiple = source.spec.size_multiple
        self.context = source.spec.context
        if device == "cpu":
            torch.set_num_threads(threads_for(threads).count)
            self.threads = torch.get_num_threads()
        self._tf32 = tf32
        self._dtype = _DTYPES[compute]
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        network = source.build().to(device, self._dtype).to(memory_format=self._layout)  # type: ignore[call-overload]
        self._network: Any = torch.compile(network) if compiled else network
        self._cuda_graph = cuda_graph
        self._captured: Any = None

    def _run(self, source: NDArray[Any], result: NDArray[Any]) -> None:
        found = self._forward(self._upload(source))
        if tuple(found.shape) != result.shape:
            raise EngineError(f"{self.name} returned {tuple(found.shape)} for {result.shape}: this network changes the size.")
        np.copyto(result, found.float().cpu().numpy())

    def _launcher(self, source: NDArray[Any]) -> Callable[[], None]:
        self._captured = None  # the memory of an earlier capture is free for this one
        tensor = self._upload(source)
        if self._cuda_graph:
            return self._capture(tensor)

        def launch() -> None:
            self._forward(tensor)

        return launch

    def synchronize(self) -> None:
        if self.device == "cuda":
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
        if self.device == "cuda":
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
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=self._tf32):
            outputs = self._network(tensor)
        result: torch.Tensor = outputs if isinstance(outputs, torch.Tensor) else outputs[-1]
        return result
