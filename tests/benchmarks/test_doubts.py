"""Which of what was seen is a warning."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.doubts import warnings_of
from benchmarks.nvml import THROTTLE_REASONS


def gpu(**values: Any) -> dict[str, Any]:
    quiet = {"sm_mhz": 1980, "temperature_celsius": 60, "temperature_limit_celsius": 87, "throttle_reasons": []}
    return {"gpu": {**quiet, **values}}


def cpu(**values: Any) -> dict[str, Any]:
    quiet = {"load_average": 2.0, "cores": 2, "cpu_mhz": 3000.0, "throttled_seconds": 5.0, "stolen_seconds": 70.0, "gpu": None}
    return {**quiet, **values}


@pytest.mark.parametrize(
    "states",
    [
        [],
        [cpu()],
        [cpu(), cpu()],
        [gpu(), gpu(), gpu(), gpu()],
        [{"after_samples": 0}, {"after_samples": 5}],
        [gpu(sm_mhz=345), gpu()],
        [gpu(), gpu(sm_mhz=1950)],
        [gpu(temperature_celsius=86)],
        [gpu(throttle_reasons=["applications_clocks_setting", "sync_boost", "display_clock_setting", "0x4000"])],
        [cpu(load_average=2.2)],
        [cpu(cpu_mhz=3000), cpu(cpu_mhz=2900)],
        [cpu(stolen_seconds=70.0), cpu(stolen_seconds=70.09)],
        # One core idled for a moment.
        [cpu(), cpu(cpu_mhz=1200), cpu(), cpu(), cpu(), cpu()],
        [cpu(), cpu(), cpu(), cpu(), cpu(cpu_mhz=1200), cpu()],
    ],
)
def test_a_quiet_machine_is_no_warning(states: list[dict[str, Any]]) -> None:
    assert warnings_of(states) == []


@pytest.mark.parametrize(
    ("states", "said", "cure"),
    [
        ([gpu(), gpu(sm_mhz=1200)], "GPU's clock fell from 1980 to 1200 MHz", "lock it"),
        ([gpu(), gpu(), gpu(sm_mhz=1300), gpu(sm_mhz=1200)], "GPU's clock fell from 1980 to 1250 MHz", "lock it"),
        ([gpu(throttle_reasons=["sw_power_cap"]), gpu()], "(sw_power_cap) in 1 of 2 looks", "--power-limit"),
        ([gpu(), gpu(throttle_reasons=["hw_thermal_slowdown"])], "(hw_thermal_slowdown) in 1 of 2", "cool down"),
        ([gpu(temperature_celsius=87)], "reached 87 °C, its limit is 87 °C", "cool down"),
        ([gpu(temperature_celsius=88), gpu(temperature_celsius=89)], "reached 89 °C, its limit is 87 °C", "cool down"),
        ([cpu(cpu_mhz=4500), cpu(cpu_mhz=3000)], "CPU's clock fell from 4500 to 3000 MHz", "governor"),
        ([cpu(load_average=2.3), cpu(load_average=4.06)], "load average was 4.1 on 2 cores", "stop those"),
        ([cpu(), cpu(throttled_seconds=5.25)], "quota held this process back for 0.25 s", "raise the quota"),
        ([cpu(), cpu(stolen_seconds=70.5)], "hypervisor gave 0.50 s", "machine of its own"),
    ],
)
def test_a_warning_names_its_cure(states: list[dict[str, Any]], said: str, cure: str) -> None:
    (warning,) = warnings_of(states)
    assert said in warning
    assert cure in warning.partition(": ")[2]
    assert warning.endswith(".")


def test_every_involuntary_reason_warns() -> None:
    voluntary = {"applications_clocks_setting", "sync_boost", "display_clock_setting"}
    for reason in THROTTLE_REASONS.values():
        assert len(warnings_of([gpu(throttle_reasons=[reason])])) == (reason not in voluntary)
