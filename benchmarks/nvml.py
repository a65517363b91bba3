"""The GPU through NVML (nvidia-ml-py): what is asked between samples, and nothing that sets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

THROTTLE_REASONS = {
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
    0x200: "board_limit",
    0x400: "reliability",
}
"""Bits of NVML's clock event reasons, except 0x1: an idle GPU is not throttled."""


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU as NVML shows it. Close it."""

    nvml: Any
    handle: Any

    def ask(self, function: str, *arguments: Any) -> Any:
        """The answer of NVML's ``function`` for this GPU; None when NVML, the driver or the GPU cannot answer."""
        try:
            return getattr(self.nvml, function)(self.handle, *arguments)
        except (self.nvml.NVMLError, AttributeError):
            return None

    def ask_system(self, function: str) -> Any:
        """The answer of NVML's ``function`` for the whole system, or None."""
        try:
            return getattr(self.nvml, function)()
        except (self.nvml.NVMLError, AttributeError):
            return None

    def used_bytes(self) -> int | None:
        """Memory in use on this GPU, by all processes."""
        memory = self.ask("nvmlDeviceGetMemoryInfo")
        return None if memory is None else int(memory.used)

    def close(self) -> None:
        self.ask_system("nvmlShutdown")


def open_gpu() -> Gpu | None:
    """The GPU that CUDA calls device 0; None when there is none or nvidia-ml-py is not installed.

    ``CUDA_VISIBLE_DEVICES`` is followed, by index or UUID. Indices are NVML's (by PCI bus): with GPUs of different kinds
    set ``CUDA_DEVICE_ORDER=PCI_BUS_ID``, or CUDA numbers them otherwise.
    """
    if not find_spec("pynvml"):
        return None
    import pynvml

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        if visible.isdecimal():
            return Gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(int(visible)))
        if visible.startswith("MIG-"):
            return Gpu(pynvml, pynvml.nvmlDeviceGetHandleByUUID(visible))
        if visible.startswith("GPU-"):  # CUDA takes the beginning of a UUID too
            for number in range(pynvml.nvmlDeviceGetCount()):
                handle = pynvml.nvmlDeviceGetHandleByIndex(number)
                if pynvml.nvmlDeviceGetUUID(handle).startswith(visible):
                    return Gpu(pynvml, handle)
    except pynvml.NVMLError:
        pass
    pynvml.nvmlShutdown()
    return None


def throttle_reasons(mask: int) -> list[str]:
    """Names of the bits of NVML's clock event reasons; none for an idle GPU, the number of a bit that has no name here."""
    bits = [1 << position for position in range(1, 64) if mask >> position & 1]
    return [THROTTLE_REASONS.get(bit, hex(bit)) for bit in bits]
