"""ONNX Runtime on the CPU or on CUDA."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import numpy as np

from engines.runtimes.base import Device, Images, Runtime, check_images
from engines.runtimes.cuda import CudaDevice, open_cuda
from mimo.artifact import INPUT, OUTPUT, Artifact
from mimo.errors import EngineError, EngineUnavailable
from mimo.spec import ShapeRange


class OnnxRuntimeEngine:
    """An ONNX artifact in ONNX Runtime. See :class:`~engines.runtimes.base.Engine`.

    On ``cpu`` a FP16 graph is computed in FP32 between casts, for want of FP16 kernels. On ``cuda`` work is enqueued on a
    stream of ours without waiting. Raises :class:`EngineUnavailable` when ONNX Runtime or its CUDA provider is missing or
    does not start.
    """

    runtime: Runtime = "onnxruntime"
    shapes: ShapeRange | None = None
    memory_bytes: int | None = None

    def __init__(self, artifact: Artifact, device: Device = "cpu") -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineUnavailable("ONNX Runtime is not installed: pip install 'mimo-deblur[cpu]' (or [gpu]).") from error
        self._ort = onnxruntime
        self.device: Device = device
        self.compute = artifact.precision if device == "cuda" else "fp32"
        self.name = f"onnxruntime {device} {self.compute}"
        self.size_multiple = artifact.spec.size_multiple
        self.context = artifact.spec.context
        self._dtype = np.dtype(artifact.io)
        self._cuda: CudaDevice | None = None
        self._stream = 0
        self._bound: Any = None
        providers: list[Any] = ["CPUExecutionProvider"]
        if device == "cuda":
            # Ask first: ONNX Runtime goes on with the CPU, with a warning only, when CUDA does not start.
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise EngineUnavailable(
                    "this ONNX Runtime has no CUDA: pip install 'mimo-deblur[gpu]' in place of [cpu], or use --device cpu."
                )
            self._cuda = open_cuda()
            self._stream = self._cuda.create_stream()
            onnxruntime.preload_dlls()
            providers = [
                ("CUDAExecutionProvider", {"user_compute_stream": str(self._stream), "use_tf32": "0"}),
                "CPUExecutionProvider",
            ]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # A plan of all buffers in one block doubles the memory from the second run on, and every shape has its own.
        options.enable_mem_pattern = False
        try:
            self._session = onnxruntime.InferenceSession(str(artifact.path), options, providers=providers)
        except Exception as error:  # its exceptions share no public base
            raise EngineError(
                f"{self.name} cannot load {artifact.path.name} ({_first_line(error)}): export it again."
            ) from error
        if device == "cuda" and "CUDAExecutionProvider" not in self._session.get_providers():
            raise EngineUnavailable(
                "ONNX Runtime found no working CUDA device: check the driver, CUDA and cuDNN (mimo doctor)."
            )
        self._enqueue_only = onnxruntime.RunOptions()
        self._enqueue_only.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def __call__(self, images: Images) -> Images:
        check_images(self, images)
        result = np.full(images.shape, np.nan, self._dtype)
        binding = self._session.io_binding()
        source = images.astype(self._dtype, copy=False)
        binding.bind_cpu_input(INPUT, source)
        binding.bind_output(OUTPUT, "cpu", 0, self._dtype, list(result.shape), result.ctypes.data)
        self._run(binding, None)
        return result.astype(np.float32, copy=False)

    def launcher(self, images: Images) -> Callable[[], None]:
        check_images(self, images)
        source = images.astype(self._dtype, copy=False)
        place = ("cuda", 0) if self.device == "cuda" else ("cpu", 0)
        given = self._ort.OrtValue.ortvalue_from_numpy(source, *place)
        taken = self._ort.OrtValue.ortvalue_from_numpy(np.full(images.shape, np.nan, self._dtype), *place)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(INPUT, given)
        binding.bind_ortvalue_output(OUTPUT, taken)
        self._bound = (given, taken)  # the binding holds their memory, not them
        options = self._enqueue_only if self.device == "cuda" else None

        def launch() -> None:
            self._run(binding, options)

        return launch

    def synchronize(self) -> None:
        if self._cuda is not None:
            self._cuda.synchronize(self._stream)

    def device_seconds(self, launch: Callable[[], None]) -> float | None:
        return self._cuda.time(self._stream, launch) if self._cuda is not None else None

    def close(self) -> None:
        del self._session
        if self._cuda is not None:
            self._cuda.destroy_stream(self._stream)
            self._cuda = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(self, binding: Any, options: Any) -> None:
        try:
            self._session.run_with_iobinding(binding, options)
        except Exception as error:  # its exceptions share no public base
            raise EngineError(f"{self.name} failed: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
