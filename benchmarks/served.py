"""What a server said of its own work while it was measured, from its counters between the blocks of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.reports import ServerTimes

PREFIX = "server_"
"""Of the names of :meth:`engines.runtimes.base.Engine.counters` among what the gauges read."""


def server_times(states: Sequence[Mapping[str, Any]]) -> ServerTimes | None:
    """Means for each request between the first state and the last; None where no server said anything or answered none."""
    if not states:
        return None
    first, last = states[0], states[-1]
    spent = {key.removeprefix(PREFIX): last[key] - first[key] for key in first if key.startswith(PREFIX) and key in last}
    requests = spent.pop("requests", 0)
    # Less than none: the server loaded the model anew meanwhile, and counts from the beginning.
    if requests <= 0 or min(spent.values()) < 0:
        return None
    return ServerTimes(requests=requests, **{key.removesuffix("_ns"): total / requests / 1e9 for key, total in spent.items()})


def machine_states(states: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The states without the server's counters, which are no state of this machine."""
    return [{key: value for key, value in state.items() if not key.startswith(PREFIX)} for state in states]
