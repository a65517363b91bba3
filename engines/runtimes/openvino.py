"""OpenVINO on the CPU: the default there, in bfloat16 where the processor computes in it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from engines.runtimes.base import Device, Images, Runtime, check_images
from mimo.artifact import Artifact
from mimo.errors import EngineError, EngineUnavailable
from mimo.spec import ShapeRange


class OpenVinoEngine:
    """An ONNX artifact in OpenVINO. See :class:`~engines.runtimes.base.Engine`.

    ``compute``: None takes bf16 where OpenVINO says the processor has it (AVX512-BF16 or AMX), fp32 otherwise. Asking for
    bf16 elsewhere raises :class:`EngineUnavailable`, as it would be emulated; so does a missing OpenVINO.
    """

    runtime: Runtime = "openvino"
    device: Device = "cpu"
    shapes: ShapeRange | None = None
    memory_bytes: int | None = None

    def __init__(self, artifact: Artifact, compute: Literal["fp32", "bf16"] | None = None) -> None:
        try:
            import openvino
        except ImportError as error:
            raise EngineUnavailable("OpenVINO is not installed: pip install 'mimo-deblur[cpu]'.") from error
        self._ov = openvino
        core = openvino.Core()
        native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if compute == "bf16" and not native:
            raise EngineUnavailable(
                "this processor has no bfloat16 (AVX512-BF16 or AMX): leave the precision out, or ask for fp32."
            )
        self.compute = compute or ("bf16" if native else "fp32")
        self.name = f"openvino cpu {self.compute}"
        self.size_multiple = artifact.spec.size_multiple
        self.context = artifact.spec.context
        self._dtype = np.dtype(artifact.io)
        properties = {
            "INFERENCE_PRECISION_HINT": "bf16" if self.compute == "bf16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            compiled = core.compile_model(str(artifact.path), "CPU", properties)
            self._request = compiled.create_infer_request()
        except RuntimeError as error:
            raise EngineError(
                f"{self.name} cannot load {artifact.path.name} ({_last_line(error)}): export it again."
            ) from error

    def __call__(self, images: Images) -> Images:
        check_images(self, images)
        source = np.ascontiguousarray(images, self._dtype)
        result = np.full(images.shape, np.nan, self._dtype)
        self._bind(source, result)
        self._infer()
        return result.astype(np.float32, copy=False)

    def launcher(self, images: Images) -> Callable[[], None]:
        check_images(self, images)
        source = np.ascontiguousarray(images, self._dtype)
        result = np.full(images.shape, np.nan, self._dtype)
        self._bind(source, result)
        return self._infer

    def synchronize(self) -> None:
        """Nothing to wait for: a launch returns when the work is done."""

    def device_seconds(self, launch: Callable[[], None]) -> float | None:
        return None

    def close(self) -> None:
        del self._request

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _bind(self, source: NDArray[Any], result: NDArray[Any]) -> None:
        # The request uses the arrays' memory without holding them: it must outlive the next launch.
        self._bound = (source, result)
        self._request.set_input_tensor(self._ov.Tensor(source, shared_memory=True))
        self._request.set_output_tensor(self._ov.Tensor(result, shared_memory=True))

    def _infer(self) -> None:
        try:
            self._request.infer()
        except RuntimeError as error:
            raise EngineError(f"{self.name} failed: {_last_line(error)}") from error


def _last_line(error: Exception) -> str:
    """OpenVINO's messages begin with where in its sources they arose and end with what happened."""
    return str(error).strip().rsplit("\n", 1)[-1][:300]
