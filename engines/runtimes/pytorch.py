"""PyTorch, eager: the reference that everything is verified against, and the baseline that everything is measured against."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import torch
from torch import nn

from engines.runtimes.base import Device, Images, Runtime, check_images
from mimo.errors import EngineError, EngineUnavailable
from mimo.spec import ModelSpec, ShapeRange

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Source(Protocol):
    """What an engine is made from: a checkpoint, or a network of the comparison table."""

    @property
    def spec(self) -> ModelSpec: ...

    def build(self) -> nn.Module:
        """The network in evaluation mode; it returns one tensor of the input's shape, or several of which it is the last."""


class PyTorchEngine:
    """A checkpoint in eager PyTorch. See :class:`~engines.runtimes.base.Engine`.

    FP32 means FP32: TensorFloat-32 is off unless ``tf32``. ``channels_last`` lays weights and maps out as tensor cores read
    them; ``compiled`` goes through ``torch.compile``; ``cuda_graph`` lets a launch replay the captured network. All of them
    stand in the name. Raises :class:`EngineUnavailable` for ``cuda``, or a CUDA graph, without a GPU.
    """

    runtime: Runtime = "pytorch"
    shapes: ShapeRange | None = None
    memory_bytes: int | None = None

    def __init__(
        self,
        source: Source,
        device: Device = "cpu",
        compute: Literal["fp32", "fp16", "bf16"] = "fp32",
        *,
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
        self.device: Device = device
        self.compute = compute
        ways = {"tf32": tf32, "channels last": channels_last, "compiled": compiled, "CUDA graph": cuda_graph}
        chosen = [way for way, is_chosen in ways.items() if is_chosen]
        self.name = f"pytorch {device} {compute}" + (f" ({', '.join(chosen)})" if chosen else "")
        self.size_multiple = source.spec.size_multiple
        self.context = source.spec.context
        self._tf32 = tf32
        self._dtype = _DTYPES[compute]
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        network = source.build().to(device, self._dtype).to(memory_format=self._layout)  # type: ignore[call-overload]
        self._network: Callable[[torch.Tensor], Any] = torch.compile(network) if compiled else network
        self._cuda_graph = cuda_graph
        self._captured: Any = None

    def __call__(self, images: Images) -> Images:
        check_images(self, images)
        try:
            result: Images = self._forward(self._upload(images)).float().cpu().numpy()
        except RuntimeError as error:  # torch raises it for out of memory too
            raise EngineError(f"{self.name} failed at {images.shape}: {error}") from error
        return result

    def launcher(self, images: Images) -> Callable[[], None]:
        check_images(self, images)
        tensor = self._upload(images)
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
        self._captured = None
        del self._network

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _upload(self, images: Images) -> torch.Tensor:
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
