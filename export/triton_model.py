"""What Triton's Python backend runs: the ONNX file beside it, on the CPU, in ONNX Runtime or OpenVINO and float32.

``mimo export --to triton`` copies this file into the model repository as ``model.py``. It stands alone: on the server there
is no mimo. Tensors change hands as DLPack, which every NumPy understands: the arrays that Triton's own interpreter makes are
those of the NumPy it was built with, and another major version sees them empty.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

PACKAGES = Path(__file__).with_name("site-packages.txt")
"""Names the folder that holds NumPy and the runtime: the interpreter that Triton starts looks in no virtual environment."""
GRAPH = Path(__file__).with_name("model.onnx")

if PACKAGES.is_file():
    sys.path.insert(0, PACKAGES.read_text(encoding="utf-8").rstrip("\n"))

import numpy as np  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402

_TAKEN = b"used_dltensor"


class TritonPythonModel:
    """One instance of the model. Its name, and those of its methods, are what the backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph. What is raised here is the reason that Triton gives for not loading the model."""
        runtime = json.loads(args["model_config"])["parameters"]["mimo.runtime"]["string_value"]
        cores = len(os.sched_getaffinity(0))
        self._run = _in_openvino(cores) if runtime == "openvino" else _in_onnxruntime(cores)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Restore what each request carries; a request that fails takes no other with it."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            images = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, "blur"))
            return pb_utils.InferenceResponse([_tensor("sharp", self._run(images))])
        except Exception as error:  # the runtimes' exceptions share no base
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"{type(error).__name__}: {error}"[:1000]))


def _tensor(name: str, values: Any) -> Any:
    capsule = values.__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    # The backend gives a capsule that it has taken a name of its own, at which NumPy's clean-up prints an error each time.
    ctypes.pythonapi.PyCapsule_SetName(ctypes.py_object(capsule), _TAKEN)
    return tensor


def _in_onnxruntime(cores: int) -> Any:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # every size of picture would have a plan of its own
    options.intra_op_num_threads = cores
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(GRAPH), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["sharp"], {"blur": images})[0]


def _in_openvino(cores: int) -> Any:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": cores,
        "CPU_RUNTIME_CACHE_CAPACITY": 0,  # what it compiles for each new size it would keep for ever
    }
    compiled = openvino.Core().compile_model(str(GRAPH), "CPU", settings)
    request = compiled.create_infer_request()
    # Its own memory, which the next request of the same batch overwrites: hence the copy.
    return lambda images: np.array(request.infer([images])["sharp"])
