"""PyTorch, eager: the reference that everything is verified against, and the baseline that everything is measured against."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

import torch

from engines.protocol import Device, Images, Runtime, check_images
from mimo.checkpoint import Checkpoint
from mimo.errors import EngineError, EngineUnavailable
from mimo.spec import ShapeRange

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class PyTorchEngine:
    """A checkpoint in eager PyTorch. See :class:`~engines.protocol.Engine`.

    FP32 means FP32: TensorFloat-32 is off unless ``tf32``. Raises :class:`EngineUnavailable` for ``cuda`` without one.
    """

    runtime: Runtime = "pytorch"
    shapes: ShapeRange | None = None

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: Device = "cpu",
        compute: Literal["fp32", "fp16", "bf16"] = "fp32",
        *,
        tf32: bool = False,
    ) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise EngineUnavailable(
                "PyTorch sees no CUDA device: install a CUDA build of torch on a machine with a GPU, or use --device cpu."
            )
        self.device: Device = device
        self.compute = compute
        self.name = f"pytorch {device} {compute}{' (tf32)' if tf32 else ''}"
        self.size_multiple = checkpoint.spec.size_multiple
        self.context = checkpoint.spec.context
        self._tf32 = tf32
        self._dtype = _DTYPES[compute]
        self._network = checkpoint.build().to(device, self._dtype)

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
        del self._network

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _upload(self, images: Images) -> torch.Tensor:
        return torch.from_numpy(images).to(self.device, self._dtype)

    def _forward(self, tensor: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=self._tf32):
            result: torch.Tensor = self._network(tensor)[-1]
        return result
