"""Where a number was measured, and what the machine did meanwhile: without that it says nothing."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.nvml import Gpu, open_gpu, throttle_reasons
from engines.runtimes.table import RUNTIMES
from engines.runtimes.threads import control_groups, threads_for
from mimo.artifact import tool_versions

PACKAGES = (*(name for row in RUNTIMES for name in row.distributions), "onnx", "polygraphy", "numpy")
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16")
_THREADS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "KMP_AFFINITY", "KMP_BLOCKTIME")

_CURES = {
    "sw_power_cap": "lock the clocks lower with nvidia-smi --lock-gpu-clocks, or raise the limit with nvidia-smi --power-limit",
    "hw_power_brake_slowdown": "check the power supply, its cables and what else it feeds",
    "board_limit": "lock the clocks lower with nvidia-smi --lock-gpu-clocks",
    "reliability": "lock the clocks lower with nvidia-smi --lock-gpu-clocks",
    "sw_thermal_slowdown": "let the GPU cool down, improve its air, or lock the clocks lower with nvidia-smi --lock-gpu-clocks",
    "hw_thermal_slowdown": "let the GPU cool down, improve its air, or lock the clocks lower with nvidia-smi --lock-gpu-clocks",
    "hw_slowdown": "check the GPU's cooling and power supply with nvidia-smi --query --display PERFORMANCE",
}
"""The reasons that slow a GPU down against its owner's will, and what helps."""

FALLEN = 0.95
"""A clock has fallen when the median of the later half of its states is below this fraction of that of the earlier half."""
CROWDED = 1.1
"""More work is waiting than there are cores when the load average is above this multiple of their number."""
STOLEN_SECONDS = 0.1
"""Core seconds that a hypervisor may take without a warning."""


def describe_machine() -> dict[str, Any]:
    """Processor, its instruction sets that matter here, cores, threads, load, memory, GPU if there is one, and versions."""
    model, flags = _processor()
    return {
        "cpu": model,
        "cpu_flags": [flag for flag in _FLAGS if flag in flags],
        "cores": core_count(),
        "threads": _threads(),
        "governor": _governor(Path("/")),
        "memory_bytes": _memory_bytes(),
        "last_level_cache_bytes": last_level_cache_bytes(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
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


class Gauges:
    """What the machine is doing, read between blocks of samples. Open it once: reading must disturb little.

    ``root`` is where ``proc`` and ``sys`` lie. Nothing here raises for a value that this machine cannot tell: it is None.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._cores = _cores()
        self._cpu_stats = [folder / "cpu.stat" for folder in control_groups(root)]
        self._gpu: Gpu | None = None
        self._temperature_limit: int | None = None

    def __enter__(self) -> Self:
        self._gpu = gpu = open_gpu()
        if gpu is not None:
            for threshold in ("NVML_TEMPERATURE_THRESHOLD_GPU_MAX", "NVML_TEMPERATURE_THRESHOLD_SLOWDOWN"):
                if self._temperature_limit is None:
                    self._temperature_limit = gpu.ask("nvmlDeviceGetTemperatureThreshold", getattr(gpu.nvml, threshold))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._gpu is not None:
            self._gpu.close()
            self._gpu = None

    def read(self) -> dict[str, Any]:
        """The state now, as JSON values.

        ``load_average`` over the last minute, of all processes, beside ``cores``, those this process may use; ``cpu_mhz``,
        their mean clock; ``throttled_seconds``, for which a quota of this control group (a container's limit) held
        processes back, and ``stolen_seconds``, for which a hypervisor gave our cores to others, both summed since the
        machine or the container started; ``gpu``, None without one or before the gauges are opened.
        """
        return {
            "load_average": round(os.getloadavg()[0], 2),
            "cores": len(self._cores),
            "cpu_mhz": self._cpu_mhz(),
            "throttled_seconds": self._throttled_seconds(),
            "stolen_seconds": self._stolen_seconds(),
            "gpu": None if self._gpu is None else self._read_gpu(self._gpu),
        }

    def _read_gpu(self, gpu: Gpu) -> dict[str, Any]:
        nvml = gpu.nvml
        power = gpu.ask("nvmlDeviceGetPowerUsage")
        # One question under its new and its old name; a driver knows one, an installed nvidia-ml-py may know the other.
        reasons = gpu.ask("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:
            reasons = gpu.ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return {
            "sm_mhz": gpu.ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            "memory_mhz": gpu.ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
            "power_watt": None if power is None else power / 1000,
            "temperature_celsius": gpu.ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            "temperature_limit_celsius": self._temperature_limit,
            "throttle_reasons": None if reasons is None else throttle_reasons(reasons),
            "memory_used_bytes": gpu.used_bytes(),
        }

    def _cpu_mhz(self) -> float | None:
        clocks = []
        number: int | None = None
        for line in _lines(self._root / "proc/cpuinfo"):
            key, _, value = line.partition(":")
            if key.strip() == "processor":
                number = int(value)
            elif key.strip() == "cpu MHz" and number in self._cores:
                clocks.append(float(value))
        return round(statistics.fmean(clocks), 1) if clocks else None

    def _throttled_seconds(self) -> float | None:
        # Version 2 counts microseconds, version 1 nanoseconds.
        units = {"throttled_usec": 1e-6, "throttled_time": 1e-9}
        waits = [
            int(value) * units[key]
            for path in self._cpu_stats
            for key, _, value in (line.partition(" ") for line in _lines(path))
            if key in units
        ]
        return sum(waits) if waits else None

    def _stolen_seconds(self) -> float | None:
        ticks = [
            int(fields[8])
            for fields in (line.split() for line in _lines(self._root / "proc/stat") if line.startswith("cpu"))
            if len(fields) > 8 and fields[0][3:].isdecimal() and int(fields[0][3:]) in self._cores
        ]
        return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None


def warnings_of(states: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence, with its cure, for each thing seen in ``states`` that makes samples taken meanwhile doubtful.

    ``states`` are those of :meth:`Gauges.read`, in the order taken; values that are missing or None are passed over.
    """
    gpus = [state["gpu"] for state in states if state.get("gpu")]
    return [
        *_throttle_warnings(gpus),
        *_temperature_warnings(gpus),
        *_clock_warnings("GPU", _values(gpus, "sm_mhz"), "lock it with nvidia-smi --lock-gpu-clocks, or warm up for longer"),
        *_clock_warnings(
            "CPU",
            _values(states, "cpu_mhz"),
            "set the governor to performance, turn its boost off, or let the machine cool down between runs",
        ),
        *_load_warnings(states),
        *_grown_warnings(
            _values(states, "throttled_seconds"),
            0,
            "The container's CPU quota held this process back for {:.2f} s while it was measured: "
            "raise the quota (docker run --cpus, resources.limits.cpu), or run with fewer threads.",
        ),
        *_grown_warnings(
            _values(states, "stolen_seconds"),
            STOLEN_SECONDS,
            "The hypervisor gave {:.2f} s of this machine's cores to others while it was measured: "
            "measure on a machine of its own, or compare only what ran interleaved.",
        ),
    ]


def _throttle_warnings(gpus: Sequence[Mapping[str, Any]]) -> list[str]:
    seen = [reason for gpu in gpus for reason in gpu.get("throttle_reasons") or ()]
    return [
        f"The GPU was slowed down ({reason}) in {seen.count(reason)} of {len(gpus)} looks between samples: {cure}."
        for reason, cure in _CURES.items()
        if reason in seen
    ]


def _temperature_warnings(gpus: Sequence[Mapping[str, Any]]) -> list[str]:
    pairs = [(gpu.get("temperature_celsius"), gpu.get("temperature_limit_celsius")) for gpu in gpus]
    reached = [(degrees, limit) for degrees, limit in pairs if degrees is not None and limit is not None and degrees >= limit]
    if not reached:
        return []
    degrees, limit = max(reached)
    return [f"The GPU reached {degrees} °C, its limit is {limit} °C: let it cool down or improve its air, and measure again."]


def _clock_warnings(processor: str, clocks: Sequence[float], cure: str) -> list[str]:
    if len(clocks) < 2:
        return []
    # Halves, not single states: a core that idles for a moment shows a low clock and means nothing.
    before, after = (statistics.median(part) for part in (clocks[: len(clocks) // 2], clocks[len(clocks) // 2 :]))
    if after >= FALLEN * before:
        return []
    return [f"The {processor}'s clock fell from {before:.0f} to {after:.0f} MHz while it was measured: {cure}."]


def _load_warnings(states: Sequence[Mapping[str, Any]]) -> list[str]:
    crowded = [
        (state["load_average"], state["cores"])
        for state in states
        if state.get("load_average") is not None and state.get("cores") and state["load_average"] > CROWDED * state["cores"]
    ]
    if not crowded:
        return []
    load, cores = max(crowded)
    return [f"The load average was {load:.1f} on {cores} cores: other programs want them too; stop those and measure again."]


def _grown_warnings(totals: Sequence[float], allowed: float, sentence: str) -> list[str]:
    grown = totals[-1] - totals[0] if totals else 0.0
    return [sentence.format(grown)] if grown > allowed else []


def _values(states: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [state[key] for state in states if state.get(key) is not None]


def core_count() -> int:
    """Cores that this process may run on."""
    return len(_cores())


def _cores() -> frozenset[int]:
    """Numbers of the cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def last_level_cache_bytes(root: Path = Path("/")) -> int:
    """All last-level caches that this process's cores reach, together; 0 where the system does not tell."""
    caches: dict[str, int] = {}
    for core in _cores():
        levels = {}
        for index in (root / f"sys/devices/system/cpu/cpu{core}/cache").glob("index*"):
            level, size, cores = (_first_line(index / name) for name in ("level", "size", "shared_cpu_list"))
            if level and cores and size and size.endswith("K"):
                levels[int(level)] = cores, int(size[:-1]) * 1024
        if levels:
            cores, size_bytes = levels[max(levels)]
            caches[cores] = size_bytes
    return sum(caches.values())


def _threads() -> dict[str, str | int]:
    """What runtimes are told to compute with unless it is asked for otherwise, and the settings in the environment."""
    settings: dict[str, str | int] = {name: os.environ[name] for name in _THREADS if name in os.environ}
    return {**settings, "used": threads_for().count}


def _governor(root: Path) -> str | None:
    return _first_line(root / f"sys/devices/system/cpu/cpu{min(_cores())}/cpufreq/scaling_governor")


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _lines(path: Path) -> list[str]:
    """The lines of a file of the kernel's; none when it is not there or cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _first_line(path: Path) -> str | None:
    return next(iter(_lines(path)), None)


def _processor() -> tuple[str, set[str]]:
    fields = dict(line.split(":", 1) for line in _lines(Path("/proc/cpuinfo")) if ":" in line)
    values = {key.strip(): value.strip() for key, value in fields.items()}
    return values.get("model name", platform.processor()), set(values.get("flags", "").split())
