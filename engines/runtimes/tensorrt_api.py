"""TensorRT and TensorRT-RTX: finding the module, hearing what it says, and translating its errors.

The Python APIs of TensorRT 10, TensorRT 11 and TensorRT-RTX are nearly the same; everything that uses one takes the
module as a value.
"""

from __future__ import annotations

import re
from importlib import import_module
from types import ModuleType
from typing import Any

from engines.runtimes.table import TensorRT, runtime_info
from mimo.errors import EngineUnavailable

_CURES = (
    # What TensorRT says, the cause in our words, the cure.
    (
        # First: the same message goes on to say that the engine cannot be rebuilt, and names the deserializer.
        r"does not support this compute capability|cannot run on this GPU, which has compute capability",
        "this GPU is not one of those that TensorRT-RTX runs on (7.5, 8.6, 8.9, 12.0 and 12.1; not the data-centre GPUs 9.0 "
        "and 10.x)",
        "use --runtime tensorrt there, or the ONNX file in ONNX Runtime",
    ),
    (
        r"out of memory|OutOfMemory|insufficient memory|failed to allocate",
        "memory ran out",
        "use a smaller --max, or free the GPU",
    ),
    (
        r"CUDA initialization failure|no CUDA-capable device|driver version is insufficient|libcuda",
        "no NVIDIA GPU or driver was found",
        "use --runtime tensorrt-rtx, which builds without one, or a machine that has one",
    ),
    (
        r"shape inference",
        "TensorRT's compiler could not work out the sizes inside this network",
        "build it for one size, with the same --min, --opt and --max",
    ),
    (r"[Pp]rofile", "the optimisation profile does not fit", "change --min, --opt or --max"),
    (
        # Not "Serialized": buildSerializedNetwork stands in what building says.
        r"[Vv]ersion tag|magic tag|Serialization|[Dd]eserializ|not compatible",
        "the engine was built by another version of TensorRT or for another GPU",
        "build it again with mimo build-engine on this machine",
    ),
)


def load_tensorrt(runtime: TensorRT) -> ModuleType:
    """Import the module behind ``runtime``. Raises :class:`EngineUnavailable` with the command that installs it."""
    name = runtime_info(runtime).module
    try:
        module = import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineUnavailable(
            f"{runtime} is not installed or cannot be loaded ({error}): {runtime_info(runtime).install}."
        ) from error
    if not hasattr(module, "Builder"):
        raise EngineUnavailable(f"the package {name} holds no TensorRT: {runtime_info(runtime).install} from NVIDIA's index.")
    return module


class Messages:
    """Collects TensorRT's warnings and errors instead of letting it write on the terminal."""

    def __init__(self, trt: ModuleType) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        collector = self

        class Collector(trt.ILogger):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                    collector.errors.append(message)
                elif severity == trt.ILogger.WARNING:
                    collector.warnings.append(message)

        self.logger = Collector()

    def explain(self, what: str) -> str:
        """One sentence: ``what`` failed, why, and what to do."""
        return explain(what, self.errors)


def explain(what: str, errors: list[str]) -> str:
    """Translate TensorRT's ``errors`` into cause and cure; an unknown one is quoted."""
    said = "\n".join(errors)
    for pattern, cause, cure in _CURES:
        if re.search(pattern, said):
            return f"{what}: {cause}; {cure}. TensorRT said: {_first_line(errors, pattern)}"
    quoted = _first_line(errors, ".") if errors else "nothing"
    return f"{what}: TensorRT said: {quoted}; report it with your versions (mimo doctor)."


def _first_line(errors: list[str], pattern: str) -> str:
    return next(line.strip() for line in errors if re.search(pattern, line))[:300]
