"""How many threads a runtime computes with on the CPU: one answer for all of them, from the cores this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mimo.errors import MimoError

VARIABLE = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Threads:
    """The number, and where it comes from: ``asked``, ``OMP_NUM_THREADS`` or ``cores``."""

    count: int
    source: str
    cores: int
    """Cores that this process may use: of its affinity, within its control group's quota."""

    @property
    def remark(self) -> str | None:
        """What to tell whoever reads the numbers; None when all cores are used."""
        if self.count == self.cores:
            return None
        why = "as asked" if self.source == "asked" else f"as {self.source} says"
        threads = "1 thread" if self.count == 1 else f"{self.count} threads"
        return f"computing with {threads} on {self.cores} usable cores, {why}"


def threads_for(
    asked: int | None = None, *, environment: Mapping[str, str] = os.environ, root: Path = Path("/"), cores: int | None = None
) -> Threads:
    """``asked``, else ``OMP_NUM_THREADS`` up to the number of usable cores, else all of these.

    Raises :class:`MimoError` for a number below 1 and for a variable that holds none.
    """
    usable = usable_cores(root) if cores is None else cores
    if asked is not None:
        if asked < 1:
            raise MimoError(f"threads must be at least 1, got {asked}.")
        return Threads(asked, "asked", usable)
    if text := environment.get(VARIABLE, "").strip():
        first = text.split(",")[0].strip()  # one number for each level of nesting; the outermost counts
        if not first.isdecimal() or len(first) > 9 or int(first) < 1:
            raise MimoError(f"{VARIABLE} must be a number from 1, got {text[:40]!r}: correct it or unset it.")
        return Threads(min(int(first), usable), VARIABLE, usable)
    return Threads(usable, "cores", usable)


def usable_cores(root: Path = Path("/")) -> int:
    """Cores in this process's affinity, and no more than its control group's quota of processor time, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [math.ceil(quota) for folder in control_groups(root) if (quota := _quota(folder)) is not None]
    return max(1, min([affinity, *quotas]))


def control_groups(root: Path = Path("/")) -> Iterator[Path]:
    """The folders of this process's control group for processor time and of those above it: a quota on any holds it back."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 is mounted at the top, or beside version 1 as "unified". In a container the group named is often one
        # that only the host sees, while the container's own is what is mounted: hence the folders that are there.
        for mount in ("cpu", "cpu,cpuacct") if controllers else ("", "unified"):
            top = root / "sys/fs/cgroup" / mount
            own = top / group.lstrip("/")
            there = [folder for folder in (own, *own.parents) if folder.is_relative_to(top) and (folder / "cpu.stat").is_file()]
            if there:
                yield from there
                break


def _quota(folder: Path) -> float | None:
    """Cores' worth of time that the group may take; None without a limit."""
    limit, _, period = _text(folder / "cpu.max").strip().partition(" ")  # version 2
    if not limit:
        limit, period = (_text(folder / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))  # version 1
    if not (limit.isdecimal() and period.isdecimal() and int(period)):
        return None  # "max", or -1
    return int(limit) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
