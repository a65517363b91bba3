"""Where a number was measured: without that it says nothing."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import psutil

from benchmarks.nvml import open_gpu
from engines.runtimes.table import RUNTIMES
from engines.runtimes.threads import threads_for
from mimo.artifact import tool_versions

PACKAGES = (*(name for row in RUNTIMES for name in row.distributions), "onnx", "polygraphy", "numpy")
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16")
_THREADS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "KMP_AFFINITY", "KMP_BLOCKTIME")


def describe_machine() -> dict[str, Any]:
    """Processor, its instruction sets that matter here, cores, threads, load, memory, GPU if there is one, and versions."""
    model, flags = _processor()
    return {
        "cpu": model,
        "cpu_flags": [flag for flag in _FLAGS if flag in flags],
        "cores": core_count(),
        "threads": _threads(),
        "governor": _governor(Path("/")),
        "memory_bytes": psutil.virtual_memory().total,
        "last_level_cache_bytes": last_level_cache_bytes(),
        "load_average": [round(load, 2) for load in psutil.getloadavg()],
        "gpu": describe_gpu(),
        "gpu_details": gpu_details(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "tools": tool_versions(*PACKAGES),
    }


def describe_gpu() -> str | None:
    """Name and driver of the GPU of :mod:`benchmarks.nvml`, or None."""
    details = gpu_details()
    return None if details is None else f"{details['name']}, driver {details['driver']}"


def gpu_details() -> dict[str, Any] | None:
    """What decides how fast the GPU of :mod:`benchmarks.nvml` is; None where there is none, a value None where it cannot tell.

    Clocks in MHz, ``power_limit_watt`` as enforced, ``cuda`` the newest version that the driver runs.
    """
    gpu = open_gpu()
    if gpu is None:
        return None
    try:
        nvml = gpu.nvml
        cuda, power = gpu.ask_system("nvmlSystemGetCudaDriverVersion"), gpu.ask("nvmlDeviceGetEnforcedPowerLimit")
        ecc, mig = gpu.ask("nvmlDeviceGetEccMode"), gpu.ask("nvmlDeviceGetMigMode")
        memory = gpu.ask("nvmlDeviceGetMemoryInfo")
        return {
            "name": gpu.ask("nvmlDeviceGetName"),
            "driver": gpu.ask_system("nvmlSystemGetDriverVersion"),
            "cuda": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            "memory_bytes": None if memory is None else int(memory.total),
            "power_limit_watt": None if power is None else power / 1000,
            "sm_mhz_default": gpu.ask("nvmlDeviceGetDefaultApplicationsClock", nvml.NVML_CLOCK_SM),
            "sm_mhz_max": gpu.ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM),
            "memory_mhz_default": gpu.ask("nvmlDeviceGetDefaultApplicationsClock", nvml.NVML_CLOCK_MEM),
            "memory_mhz_max": gpu.ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_MEM),
            "ecc": None if ecc is None else bool(ecc[0]),
            "mig": None if mig is None else bool(mig[0]),
        }
    finally:
        gpu.close()


def core_count() -> int:
    """Cores that this process may run on."""
    return len(cores())


def configured_cores() -> int:
    """Cores that this machine has, those that are switched off included."""
    try:
        return os.sysconf("SC_NPROCESSORS_CONF")
    except (AttributeError, ValueError, OSError):
        return os.cpu_count() or 1


def cores() -> frozenset[int]:
    """Numbers of the cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def last_level_cache_bytes(root: Path = Path("/")) -> int:
    """All last-level caches that this process's cores reach, together; 0 where the system does not tell."""
    caches: dict[str, int] = {}
    for core in cores():
        levels = {}
        for index in (root / f"sys/devices/system/cpu/cpu{core}/cache").glob("index*"):
            level, size, sharing = (_first_line(index / name) for name in ("level", "size", "shared_cpu_list"))
            if level and sharing and size and size.endswith("K"):
                levels[int(level)] = sharing, int(size[:-1]) * 1024
        if levels:
            sharing, size_bytes = levels[max(levels)]
            caches[sharing] = size_bytes
    return sum(caches.values())


def _threads() -> dict[str, str | int]:
    """What runtimes are told to compute with unless it is asked for otherwise, and the settings in the environment."""
    settings: dict[str, str | int] = {name: os.environ[name] for name in _THREADS if name in os.environ}
    return {**settings, "used": threads_for().count}


def _governor(root: Path) -> str | None:
    return _first_line(root / f"sys/devices/system/cpu/cpu{min(cores())}/cpufreq/scaling_governor")


def lines_of(path: Path) -> list[str]:
    """The lines of a file of the kernel's; none when it is not there or cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _first_line(path: Path) -> str | None:
    return next(iter(lines_of(path)), None)


def _processor() -> tuple[str, set[str]]:
    fields = dict(line.split(":", 1) for line in lines_of(Path("/proc/cpuinfo")) if ":" in line)
    values = {key.strip(): value.strip() for key, value in fields.items()}
    return values.get("model name", platform.processor()), set(values.get("flags", "").split())
