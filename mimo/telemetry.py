"""Nobody is told: the runtimes are imported here, with what they would report of their user switched off before.

ONNX Runtime keeps a device id and a database of events below the home and looks up a host; OpenVINO's Python package
starts ``openvino_telemetry``, which does the like. Neither has a question to the user about it.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any


def no_telemetry() -> None:
    """Switch off, for this process and those it starts, what has not been imported yet. Cheap; may be called again."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    if "openvino_telemetry" not in sys.modules:
        # What stands for "not installed": OpenVINO then takes its own stub, which sends nothing.
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]


def import_onnxruntime() -> Any:
    """The module ``onnxruntime``. Raises ``ImportError``."""
    no_telemetry()
    return import_module("onnxruntime")


def import_openvino() -> Any:
    """The module ``openvino``. Raises ``ImportError``."""
    no_telemetry()
    return import_module("openvino")
