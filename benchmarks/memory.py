"""How much memory a restoration needs, beyond what was there before it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from benchmarks.nvml import Gpu, open_gpu
from benchmarks.units import Bytes
from engines.runtimes.base import Device

RESET_PEAK = "5"
"""Written to ``/proc/self/clear_refs``, it sets VmHWM back to VmRSS: proc_pid_clear_refs(5)."""
SLACK = 16 << 20
"""Bytes by which the peak may stand above what is resident right after the reset; more means that it did nothing."""


@dataclass(frozen=True)
class Memory:
    """What was used while a :class:`PeakMemory` was open, in bytes.

    ``resident``: ``peak_bytes`` is the peak of this whole process, Python and libraries included, and ``baseline_bytes``
    what was resident at the start; both exact, by the kernel's own account.
    ``device``: ``peak_bytes`` is the most seen in use on the whole GPU less ``baseline_bytes``, what was in use at the
    start. Other processes count too, and what was freed again between two looks is not seen.
    ``engine_bytes``: what the engine itself says it needs, if it says so.
    """

    kind: Literal["resident", "device"]
    peak_bytes: Bytes
    baseline_bytes: Bytes
    engine_bytes: Bytes | None = None


def free_caches(device: Device) -> None:
    """Make what torch keeps of earlier rows free for the next, whichever runtime that has, and the context part of what was
    there before it. Does nothing on a CPU, or where torch is not loaded or sees no GPU."""
    torch = sys.modules.get("torch")
    if device == "cuda" and torch is not None and torch.cuda.is_available():
        gc.collect()
        torch.cuda.init()
        torch.cuda.empty_cache()


class PeakMemory:
    """The peak of memory while this context manager is open, on the CPU or on the GPU of :mod:`benchmarks.nvml`.

    On a CPU the kernel keeps the peak, so a short allocation is not missed; the reset is the process's, so do not open
    one inside another. On a GPU call :meth:`sample` between blocks of samples, while the engine holds what it allocated.
    """

    def __init__(self, device: Device, proc: Path = Path("/proc/self")) -> None:
        self._device = device
        self._proc = proc
        self._gpu: Gpu | None = None
        self._look: Callable[[], int | None] | None = None
        self._baseline: int | None = None
        self._peak: int | None = None

    def __enter__(self) -> Self:
        self._peak = None
        if self._device == "cuda":
            self._gpu = open_gpu()
            self._look = None if self._gpu is None else self._gpu.used_bytes
            self._baseline = None if self._look is None else self._look()
        else:
            self._look = self._resident_peak
            self._baseline = self._reset()
        self.sample()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.sample()
        self._look = None
        if self._gpu is not None:
            self._gpu.close()
            self._gpu = None

    def sample(self) -> None:
        """Look now, if open. On a CPU nothing is missed without it."""
        now = None if self._look is None else self._look()
        if now is not None:
            self._peak = now if self._peak is None else max(self._peak, now)

    def result(self, engine_bytes: int | None = None) -> Memory | None:
        """What was seen so far, also after closing; None where this system does not tell (not Linux, refused, no NVML)."""
        self.sample()
        if self._baseline is None or self._peak is None:
            return None
        if self._device == "cuda":
            return Memory("device", max(0, self._peak - self._baseline), self._baseline, engine_bytes)
        return Memory("resident", self._peak, self._baseline, engine_bytes)

    def _reset(self) -> int | None:
        """Forget the peak so far; bytes resident now, or None when the kernel refuses or ignores the reset."""
        try:
            (self._proc / "clear_refs").write_text(RESET_PEAK, encoding="ascii")
        except OSError:
            return None
        status = self._status()
        resident, peak = status.get("VmRSS"), status.get("VmHWM")
        return resident if resident is not None and peak is not None and peak <= resident + SLACK else None

    def _resident_peak(self) -> int | None:
        return self._status().get("VmHWM")

    def _status(self) -> dict[str, int]:
        """Sizes in ``status``, in bytes; empty when it cannot be read."""
        try:
            lines = (self._proc / "status").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return {}
        sizes = (line.split() for line in lines if line.endswith(" kB"))
        return {name.rstrip(":"): int(size) * 1024 for name, size, _ in sizes}
