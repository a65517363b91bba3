"""What was seen of the machine while it was measured that makes the numbers doubtful, and what helps."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

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
