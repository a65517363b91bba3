"""ONNX Runtime on the CPU or on CUDA."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.runtimes.base import Device, Engine, Runtime, runtime_errors
from engines.runtimes.cuda import CudaDevice, open_cuda
from engines.runtimes.threads import threads_for
from mimo.artifact import INPUT, OUTPUT, Artifact
from mimo.errors import EngineUnavailable
from mimo.installing import install
from mimo.telemetry import import_onnxruntime

CUDA_OPTIONS = {
    "arena_extend_strategy": "kSameAsRequested",  # otherwise it grows in powers of two, and those are what is measured
    "cudnn_conv_algo_search": "HEURISTIC",  # an exhaustive search begins anew at every shape
}
"""Of the CUDA provider, wherever a caller does not say otherwise."""


class OnnxRuntimeEngine(Engine):
    """An ONNX artifact in ONNX Runtime. See :class:`~engines.runtimes.base.Engine`.

    On ``cpu`` a FP16 graph is computed in FP32 between casts, for want of FP16 kernels. On ``cuda`` work is enqueued on a
    stream of ours without waiting, and a graph of which a part could only run on the CPU is refused. ``cuda_options`` are
    options of the CUDA provider beside :data:`CUDA_OPTIONS`, ``way`` their name in the engine's.

    Raises :class:`EngineUnavailable` when ONNX Runtime or its CUDA provider is missing or does not start.
    """

    runtime: Runtime = "onnxruntime"

    def __init__(
        self,
        artifact: Artifact,
        device: Device = "cpu",
        *,
        threads: int | None = None,
        cuda_options: Mapping[str, str] | None = None,
        way: str = "",
    ) -> None:
        try:
            onnxruntime = import_onnxruntime()
        except ImportError as error:
            raise EngineUnavailable(f"ONNX Runtime is not installed: {install('cpu')} (or gpu in place of cpu).") from error
        self._ort = onnxruntime
        self.specialises = "enable_cuda_graph" in (cuda_options or {})  # what is captured is of one shape
        self.device = device
        self.compute = artifact.precision if device == "cuda" else "fp32"
        self.name = f"onnxruntime {device} {self.compute}" + (f" ({way})" if way else "")
        self.size_multiple = artifact.spec.size_multiple
        self.context = artifact.spec.context
        self.dtype = np.dtype(artifact.io)
        self._cuda: CudaDevice | None = None
        self._stream = 0
        self._bound: Any = None
        self._session: Any = None
        providers: list[Any] = ["CPUExecutionProvider"]
        if device == "cuda":
            # Ask first: ONNX Runtime goes on with the CPU, with a warning only, when CUDA does not start.
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise EngineUnavailable(
                    f"this ONNX Runtime has no CUDA: pip uninstall onnxruntime, then {install('gpu')}, or use --device cpu."
                )
            self._cuda = open_cuda()
            self._stream = self._cuda.create_stream()
            _load_cuda_libraries(onnxruntime)
            providers = [
                (
                    "CUDAExecutionProvider",
                    {"user_compute_stream": str(self._stream), "use_tf32": "0", **CUDA_OPTIONS, **(cuda_options or {})},
                )
            ]
        options = onnxruntime.SessionOptions()
        # What it logs of an error is in the exception too.
        options.log_severity_level = 4
        # A plan of all buffers in one block doubles the memory from the second run on, and every shape has its own.
        options.enable_mem_pattern = False
        # Its own default is the machine's cores, whatever this process may use.
        options.intra_op_num_threads = threads_for(threads).count
        options.inter_op_num_threads = 1
        if device == "cuda":
            # Without it, nodes go to the CPU with copies around them, and are timed as the GPU's. The CPU may not be listed.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            with runtime_errors(f"{self.name} cannot load {artifact.path.name}"):
                self._session = onnxruntime.InferenceSession(str(artifact.path), options, providers=providers)
            if device == "cuda" and "CUDAExecutionProvider" not in self._session.get_providers():
                raise EngineUnavailable(
                    "ONNX Runtime found no working CUDA device: check the driver, CUDA and cuDNN (mimo doctor)."
                )
        except BaseException:
            self.close()
            raise
        if self._cuda is not None:
            self.free_bytes = self._cuda.free_bytes()
        self.threads = options.intra_op_num_threads if device == "cpu" else None
        self._enqueue_only = onnxruntime.RunOptions()
        self._enqueue_only.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def _run(self, source: NDArray[Any], result: NDArray[Any]) -> None:
        binding = self._session.io_binding()
        binding.bind_cpu_input(INPUT, source)
        binding.bind_output(OUTPUT, "cpu", 0, self.dtype, list(result.shape), result.ctypes.data)
        self._infer(binding, None)

    def _launcher(self, source: NDArray[Any]) -> Callable[[], None]:
        place = (self.device, 0)
        given = self._ort.OrtValue.ortvalue_from_numpy(source, *place)
        taken = self._ort.OrtValue.ortvalue_from_numpy(np.full(source.shape, np.nan, self.dtype), *place)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(INPUT, given)
        binding.bind_ortvalue_output(OUTPUT, taken)
        self._bound = (binding, given, taken)  # the binding holds their memory, not them
        options = self._enqueue_only if self.device == "cuda" else None
        return lambda: self._infer(binding, options)

    def synchronize(self) -> None:
        if self._cuda is not None:
            self._cuda.synchronize(self._stream)

    def device_seconds(self, launch: Callable[[], None]) -> float | None:
        return self._cuda.time(self._stream, launch) if self._cuda is not None else None

    def close(self) -> None:
        # Bindings keep the session alive, and the session its stream: in this order.
        self._bound = None
        self._session = None
        if self._cuda is not None:
            cuda, self._cuda = self._cuda, None
            cuda.destroy_stream(self._stream)

    def _infer(self, binding: Any, options: Any) -> None:
        self._session.run_with_iobinding(binding, options)


def _load_cuda_libraries(onnxruntime: Any) -> None:
    """Let it find CUDA and cuDNN where pip put them, which it looks for beside itself and among what is loaded already.

    torch loads its own from wherever they are, so it goes first. What is not found is printed by ONNX Runtime; that it
    matters shows when the session has no CUDA.
    """
    if find_spec("torch"):
        import torch  # noqa: F401
    with redirect_stdout(io.StringIO()):
        onnxruntime.preload_dlls()
