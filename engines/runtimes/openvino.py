"""OpenVINO on the CPU: the default there, in bfloat16 where the processor computes in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engines.runtimes.base import Device, Engine, Runtime, runtime_errors
from engines.runtimes.threads import threads_for
from mimo.artifact import Artifact
from mimo.errors import EngineUnavailable
from mimo.installing import install
from mimo.telemetry import import_openvino


class OpenVinoEngine(Engine):
    """An OpenVINO IR or an ONNX artifact in OpenVINO. See :class:`~engines.runtimes.base.Engine`.

    ``compute``: None takes bf16 where OpenVINO says the processor has it (AVX512-BF16 or AMX), fp32 otherwise. Asking for
    bf16 elsewhere raises :class:`EngineUnavailable`, as it would be emulated; so does a missing OpenVINO.
    """

    runtime: Runtime = "openvino"
    device: Device = "cpu"

    def __init__(
        self, artifact: Artifact, compute: Literal["fp32", "bf16"] | None = None, *, threads: int | None = None
    ) -> None:
        try:
            openvino = import_openvino()
        except ImportError as error:
            raise EngineUnavailable(f"OpenVINO is not installed: {install('cpu')}.") from error
        self._ov = openvino
        core = openvino.Core()
        native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if compute == "bf16" and not native:
            raise EngineUnavailable(
                "this processor has no bfloat16 (AVX512-BF16 or AMX): leave the precision out, or ask for fp32."
            )
        wanted = compute or ("bf16" if native else "fp32")
        self.size_multiple = artifact.spec.size_multiple
        self.context = artifact.spec.context
        self.dtype = np.dtype(artifact.io)
        properties = {
            "INFERENCE_PRECISION_HINT": "bf16" if wanted == "bf16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads_for(threads).count,
            # What it compiles for one shape it would keep for ever: some 3 MiB of memory for each new size of picture. A
            # shape that stays the same is not compiled again either way.
            "CPU_RUNTIME_CACHE_CAPACITY": 0,
        }
        with runtime_errors(f"openvino cannot load {artifact.path.name}"):
            self._compiled: Any = core.compile_model(str(artifact.path), "CPU", properties)
            self._request: Any = self._compiled.create_infer_request()
            # What it says it does, not what was asked for.
            self.compute = "bf16" if "bfloat16" in str(self._compiled.get_property("INFERENCE_PRECISION_HINT")) else "fp32"
            self.threads = int(self._compiled.get_property("INFERENCE_NUM_THREADS"))
        self.name = f"openvino cpu {self.compute}"

    def _run(self, source: NDArray[Any], result: NDArray[Any]) -> None:
        self._bind(source, result)
        self._infer()

    def _launcher(self, source: NDArray[Any]) -> Callable[[], None]:
        self._bind(source, np.full(source.shape, np.nan, self.dtype))
        return self._infer

    def close(self) -> None:
        self._request = self._compiled = None

    def _bind(self, source: NDArray[Any], result: NDArray[Any]) -> None:
        # The request uses the arrays' memory without holding them: it must outlive the next launch.
        self._bound = (source, result)
        if self._request is None:
            self._request = self._compiled.create_infer_request()
        self._request.set_input_tensor(self._ov.Tensor(source, shared_memory=True))
        self._request.set_output_tensor(self._ov.Tensor(result, shared_memory=True))

    def _infer(self) -> None:
        try:
            self._request.infer()
        except Exception:
            # A request that failed for want of memory keeps what it got, and the next smaller shape would fail too.
            self._request = None
            self._compiled.release_memory()
            raise
