"""What the machine did while samples were taken: the states between blocks, in words and as small lines under a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.pages.quantities import html, short, size

_States = Sequence[Mapping[str, Any]]

_LANE = 46
"""Pixels from one line to the next: its name, the line, and a gap."""

_NAMES = {
    "load average": "load average (1 min)",
    "cpu mhz": "CPU clock, MHz",
    "throttled seconds": "held back by a CPU quota, s",
    "stolen seconds": "cores given to others, s",
    "gpu sm mhz": "GPU clock, MHz",
    "gpu memory mhz": "GPU memory clock, MHz",
    "gpu power watt": "GPU power, W",
    "gpu temperature celsius": "GPU temperature, °C",
    "gpu temperature limit celsius": "GPU temperature limit, °C",
    "gpu throttle reasons": "GPU slowed down by",
    "gpu memory used bytes": "GPU memory in use",
}
_TOTALS = ("throttled seconds", "stolen seconds")
"""Summed since the machine started; shown from the first state on."""


def lanes_of(states: _States, warm_up: int, count: int, top: float) -> tuple[list[str], float]:
    """SVG elements from ``top`` down on an axis of ``count`` calls, a line for each number that changed; and their height."""
    changed = {
        name: points for name, points in _series(states).items() if _numbers(points) and len({value for _, value in points}) > 1
    }
    body = []
    for lane, (name, points) in enumerate(changed.items()):
        values = [value for _, value in points]
        low, high = min(values), max(values)
        steps = " ".join(
            f"{1000 * min(1.0, (warm_up + after) / count):.0f},{20 - 18 * (value - low) / (high - low):.1f}"
            for after, value in points
        )
        y = top + _LANE * lane
        words = f"{_NAMES.get(name, name)}: {_said(name, low)} to {_said(name, high)}"
        body.append(f'<text class="soft" x="0" y="{y + 12}">{html(words)}</text>')
        body.append(
            f'<svg y="{y + 18}" viewBox="0 0 1000 22" preserveAspectRatio="none" width="100%" height="22">'
            f'<polyline class="lane" points="{steps}"/></svg>'
        )
    return body, _LANE * len(changed) + 12 if changed else 0


def states_in_words(states: _States) -> str:
    """Each quantity with its value, its range, or the different values it had, not yet escaped."""
    parts = []
    for name, points in _series(states).items():
        values = [value for _, value in points]
        if _numbers(points):
            low, high = min(values), max(values)
            said = _said(name, low) if low == high else f"{_said(name, low)} to {_said(name, high)}"
        else:
            said = ", ".join(dict.fromkeys(_said(name, value) for value in values))
        parts.append(f"{_NAMES.get(name, name)}: {said}")
    return "; ".join(parts)


def _series(states: _States) -> dict[str, list[tuple[int, Any]]]:
    """By the name of each quantity its (samples taken before, value), without what the machine could not tell."""
    series: dict[str, list[tuple[int, Any]]] = {}
    for state in states:
        nested = {
            f"{key} {inner}": one for key, value in state.items() if isinstance(value, dict) for inner, one in value.items()
        }
        flat = {key: value for key, value in state.items() if not isinstance(value, dict)} | nested
        for key, value in flat.items():
            if key != "after_samples" and value is not None:
                series.setdefault(key.replace("_", " "), []).append((state["after_samples"], value))
    for name in _TOTALS:
        if name in series:
            series[name] = [(after, value - series[name][0][1]) for after, value in series[name]]
    return series


def _numbers(points: Sequence[tuple[int, Any]]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for _, value in points)


def _said(name: str, value: Any) -> str:
    if isinstance(value, list):
        return " and ".join(str(one).replace("_", " ") for one in value) or "nothing"
    if name.endswith("bytes"):
        return size(value)
    return short(round(value, 2)) if isinstance(value, float) else str(value)
