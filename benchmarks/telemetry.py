"""What the machine does while it is measured, read between blocks of samples."""

from __future__ import annotations

import statistics
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import psutil

from benchmarks.machine import configured_cores, cores, lines_of
from benchmarks.nvml import Gpu, open_gpu, throttle_reasons
from engines.runtimes.threads import control_groups


class Gauges:
    """What the machine is doing, read between blocks of samples. Open it once: reading must disturb little.

    ``root`` is where ``proc`` and ``sys`` lie, for the control groups' files; the rest is psutil's. Nothing here raises for a
    value that this machine cannot tell: it is None.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._cores = cores()
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
            "load_average": round(psutil.getloadavg()[0], 2),
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
        clocks = [clock.current for clock in self._of_cores("cpu_freq")]
        # Virtual machines and some kernels say 0 for a clock that they do not know.
        return round(statistics.fmean(clocks), 1) if clocks and all(clocks) else None

    def _throttled_seconds(self) -> float | None:
        # Version 2 counts microseconds, version 1 nanoseconds.
        units = {"throttled_usec": 1e-6, "throttled_time": 1e-9}
        waits = [
            int(value) * units[key]
            for path in self._cpu_stats
            for key, _, value in (line.partition(" ") for line in lines_of(path))
            if key in units
        ]
        return sum(waits) if waits else None

    def _stolen_seconds(self) -> float | None:
        stolen = [times.steal for times in self._of_cores("cpu_times") if hasattr(times, "steal")]
        return sum(stolen) if stolen else None

    def _of_cores(self, question: Literal["cpu_freq", "cpu_times"]) -> list[Any]:
        """psutil's answers for the cores of this process; none where it cannot tell which core an answer is of."""
        try:
            answers: list[Any] = getattr(psutil, question)(percpu=True)
        except (AttributeError, NotImplementedError, OSError, ValueError):
            return []
        # The answers carry no numbers. With a core switched off, or one answer for all, their places would be wrong.
        return [answers[core] for core in sorted(self._cores)] if len(answers) == configured_cores() else []
