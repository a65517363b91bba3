"""Where a number was measured: without that it says nothing."""

from __future__ import annotations

import os
import platform
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mimo.artifact import tool_versions

PACKAGES = (
    "torch",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx-cu13",
    "polygraphy",
    "numpy",
)
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16")


def describe_machine() -> dict[str, Any]:
    """Processor, its instruction sets that matter here, cores, load, GPU and driver if there is one, and versions."""
    model, flags = _processor()
    return {
        "cpu": model,
        "cpu_flags": [flag for flag in _FLAGS if flag in flags],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "gpu": describe_gpu(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "tools": tool_versions(*PACKAGES),
    }


def describe_gpu() -> str | None:
    """Name and driver of the first NVIDIA GPU; None when there is none or nvidia-ml-py is not installed."""
    if not find_spec("pynvml"):
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
        name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))
        driver = pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:
        return None
    return f"{name}, driver {driver}"


def _processor() -> tuple[str, set[str]]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor(), set()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    values = {key.strip(): value.strip() for key, value in fields.items()}
    return values.get("model name", platform.processor()), set(values.get("flags", "").split())
