"""A module that answers as nvidia-ml-py does, with one GPU whose state a test sets."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class NVMLError(Exception):
    """What nvidia-ml-py raises for every failure."""


@dataclass
class FakeNvml:
    """The GPU behind the module. What is in ``unsupported`` raises; a module made ``old`` has the old names only."""

    driver: bool = True
    devices: int = 1
    unsupported: set[str] = field(default_factory=set)
    uuids: tuple[str, ...] = ("GPU-1a2b", "GPU-3c4d")
    opened: int = 0
    sm: int = 1980
    watt: float = 350.5
    celsius: int = 60
    used: int = 0
    reasons: int = 0
    asked: list[str] = field(default_factory=list)


CONSTANTS = {
    "NVML_CLOCK_SM": 1,
    "NVML_CLOCK_MEM": 2,
    "NVML_TEMPERATURE_GPU": 0,
    "NVML_TEMPERATURE_THRESHOLD_SLOWDOWN": 1,
    "NVML_TEMPERATURE_THRESHOLD_GPU_MAX": 3,
}


def functions(fake: FakeNvml) -> dict[str, Any]:
    """Names, arguments and results as in nvidia-ml-py; a test compares them where it is installed."""

    def init() -> None:
        if not fake.driver:
            raise NVMLError("Driver Not Loaded")
        fake.opened += 1

    def shutdown() -> None:
        assert fake.opened > 0
        fake.opened -= 1

    def by_index(index: int) -> int:
        if not 0 <= index < fake.devices:
            raise NVMLError("Invalid Argument")
        return index

    clocks = {1: fake.sm, 2: 2619}
    return {
        "nvmlInit": init,
        "nvmlShutdown": shutdown,
        "nvmlSystemGetDriverVersion": lambda: "580.65.06",
        "nvmlSystemGetCudaDriverVersion": lambda: 13010,
        "nvmlDeviceGetCount": lambda: fake.devices,
        "nvmlDeviceGetHandleByIndex": by_index,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetUUID": lambda handle: fake.uuids[handle],
        "nvmlDeviceGetName": lambda handle: f"NVIDIA Test {handle}",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=10**9, used=fake.used, free=10**9 - fake.used),
        "nvmlDeviceGetEnforcedPowerLimit": lambda handle: 700_000,
        "nvmlDeviceGetPowerUsage": lambda handle: round(1000 * fake.watt),
        "nvmlDeviceGetDefaultApplicationsClock": lambda handle, type: clocks[type] - 100,
        "nvmlDeviceGetMaxClockInfo": lambda handle, type: clocks[type] + 100,
        "nvmlDeviceGetClockInfo": lambda handle, type: fake.sm if type == 1 else clocks[type],
        "nvmlDeviceGetEccMode": lambda handle: [1, 1],
        "nvmlDeviceGetMigMode": lambda device: [0, 1],
        "nvmlDeviceGetTemperature": lambda handle, sensor: fake.celsius,
        "nvmlDeviceGetTemperatureThreshold": lambda handle, threshold: {1: 95, 3: 87}[threshold],
        "nvmlDeviceGetCurrentClocksEventReasons": lambda handle: fake.reasons,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: fake.reasons,
    }


def install(monkeypatch: pytest.MonkeyPatch, *, without: tuple[str, ...] = ()) -> FakeNvml:
    """Put the module in the place of ``pynvml``, less the functions named in ``without``."""
    fake = FakeNvml()
    module = ModuleType("pynvml")
    module.__spec__ = ModuleSpec("pynvml", None)

    def answering(name: str, function: Any) -> Any:
        def answer(*arguments: Any) -> Any:
            fake.asked.append(name)
            if name in fake.unsupported:
                raise NVMLError("Not Supported")
            return function(*arguments)

        return answer

    for name, value in {"NVMLError": NVMLError, **CONSTANTS}.items():
        setattr(module, name, value)
    for name, function in functions(fake).items():
        if name not in without:
            setattr(module, name, answering(name, function))
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return fake
