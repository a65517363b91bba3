"""What is read between samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from benchmarks.doubts import warnings_of
from benchmarks.machine import configured_cores
from benchmarks.nvml import THROTTLE_REASONS, throttle_reasons
from benchmarks.telemetry import Gauges
from tests.benchmarks.fake_nvml import FakeNvml, functions, install


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    fake = install(monkeypatch)
    yield fake
    assert fake.opened == 0, "NVML was left open"


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch).driver = False


class Clock(NamedTuple):
    current: float


class Times(NamedTuple):
    user: float
    steal: float


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where ``proc`` and ``sys`` lie, for a process that may run on cores 1 and 2 of four."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 2}, raising=False)
    monkeypatch.setattr("benchmarks.telemetry.configured_cores", lambda: 4)
    answer(monkeypatch, cpu_freq=[Clock(mhz) for mhz in (5000.0, 2000.0, 3001.5, 5000.0)])
    answer(monkeypatch, cpu_times=[Times(1.0, stolen) for stolen in (10.0, 2.5, 0.5, 10.0)])
    return tmp_path


def answer(monkeypatch: pytest.MonkeyPatch, **answers: Any) -> None:
    """psutil's ``answers`` when it is asked for each core."""

    def asking(found: Any) -> Callable[..., Any]:
        def ask(percpu: bool) -> Any:
            assert percpu
            if isinstance(found, Exception):
                raise found
            return found

        return ask

    for name, found in answers.items():
        monkeypatch.setattr(psutil, name, asking(found), raising=False)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.usefixtures("no_gpu")
def test_gauges_read_the_cores_of_this_process(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "getloadavg", lambda: (1.234, 9.0, 9.0))
    with Gauges(root) as gauges:
        assert gauges.read() == {
            "load_average": 1.23,
            "cores": 2,
            "cpu_mhz": 2500.8,
            "throttled_seconds": None,
            "stolen_seconds": 3.0,
            "gpu": None,
        }


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    "answers",
    [
        {"cpu_freq": [], "cpu_times": []},
        {"cpu_freq": NotImplementedError("no clock"), "cpu_times": FileNotFoundError("/proc/stat")},
        # One answer for all cores, and a system that knows no hypervisor.
        {"cpu_freq": [Clock(3000.0)], "cpu_times": [Clock(1.0)] * 4},
        # A core is switched off: which of the three is core 2?
        {"cpu_freq": [Clock(3000.0)] * 3, "cpu_times": [Times(1.0, 1.0)] * 3},
        {"cpu_freq": [Clock(0.0)] * 4, "cpu_times": []},
    ],
)
def test_gauges_of_a_machine_that_tells_nothing(root: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any]) -> None:
    answer(monkeypatch, **answers)
    with Gauges(root / "nothing") as gauges:
        state = gauges.read()
    assert {key for key, value in state.items() if value is None} == {
        "cpu_mhz", "throttled_seconds", "stolen_seconds", "gpu",
    }  # fmt: skip


@pytest.mark.usefixtures("no_gpu")
def test_gauges_of_this_machine_are_in_their_units() -> None:
    with Gauges() as gauges:
        state = gauges.read()
    assert state["load_average"] >= 0
    assert 1 <= state["cores"] <= configured_cores()
    assert state["cpu_mhz"] is None or 100 < state["cpu_mhz"] < 10_000
    assert state["stolen_seconds"] is None or state["stolen_seconds"] >= 0


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("groups", "files", "seconds"),
    [
        # Version 2, in a container of its own, and with a quota on the group above.
        ("0::/\n", {"cpu.stat": "usage_usec 5\nnr_throttled 2\nthrottled_usec 1500000\n"}, 1.5),
        (
            "0::/a/b\n",
            {"a/b/cpu.stat": "throttled_usec 1000000\n", "a/cpu.stat": "throttled_usec 500000\n", "cpu.stat": "usage_usec 1\n"},
            1.5,
        ),
        # Version 1; Docker names a group that only the host sees.
        ("4:memory:/x\n3:cpu,cpuacct:/docker/1\n", {"cpu/cpu.stat": "nr_throttled 2\nthrottled_time 2500000000\n"}, 2.5),
        ("1:cpu:/\n0::/\n", {"cpu/cpu.stat": "throttled_time 0\n", "unified/cpu.stat": "usage_usec 7\n"}, 0.0),
        ("4:cpuset:/\n", {"cpu/cpu.stat": "throttled_time 5\n"}, None),
    ],
    ids=["version 2", "group above", "version 1", "both", "another controller"],
)
def test_gauges_read_the_quota(root: Path, groups: str, files: dict[str, str], seconds: float | None) -> None:
    write(root / "proc/self/cgroup", groups)
    for name, text in files.items():
        write(root / "sys/fs/cgroup" / name, text)
    with Gauges(root) as gauges:
        assert gauges.read()["throttled_seconds"] == (None if seconds is None else pytest.approx(seconds))


def test_gauges_of_a_gpu(nvml: FakeNvml) -> None:
    with Gauges() as gauges:
        opened = len(nvml.asked)
        nvml.sm, nvml.watt, nvml.celsius, nvml.used, nvml.reasons = 1200, 699.5, 88, 12345, 0x1 | 0x4 | 0x40 | 0x4000
        assert gauges.read()["gpu"] == {
            "sm_mhz": 1200,
            "memory_mhz": 2619,
            "power_watt": 699.5,
            "temperature_celsius": 88,
            "temperature_limit_celsius": 87,
            "throttle_reasons": ["sw_power_cap", "hw_thermal_slowdown", "0x4000"],
            "memory_used_bytes": 12345,
        }
        nvml.reasons = 0x1
        assert gauges.read()["gpu"]["throttle_reasons"] == []
        assert "nvmlInit" not in nvml.asked[opened:], "opened once"
    assert gauges.read()["gpu"] is None


@pytest.mark.parametrize("how", ["the module has it not", "the driver has it not"])
@pytest.mark.parametrize("new", ["Event", "Throttle"])
def test_throttle_reasons_under_either_name(monkeypatch: pytest.MonkeyPatch, new: str, how: str) -> None:
    name = f"nvmlDeviceGetCurrentClocks{new}Reasons"
    fake = install(monkeypatch, without=(name,) if how == "the module has it not" else ())
    fake.unsupported.add(name)
    fake.reasons = 0x8
    with Gauges() as gauges:
        assert gauges.read()["gpu"]["throttle_reasons"] == ["hw_slowdown"]


def test_a_gpu_that_answers_nothing(nvml: FakeNvml) -> None:
    nvml.unsupported |= {name for name in functions(nvml) if name.startswith("nvmlDeviceGet")} - {"nvmlDeviceGetHandleByIndex"}
    with Gauges() as gauges:
        state = gauges.read()["gpu"]
    assert len(state) == 7
    assert set(state.values()) == {None}
    assert warnings_of([{"gpu": state}, {"gpu": state}]) == []


def test_names_of_bits() -> None:
    assert throttle_reasons(0) == []
    assert throttle_reasons(sum(THROTTLE_REASONS)) == list(THROTTLE_REASONS.values())
