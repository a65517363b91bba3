"""What is said of the machine, what is read between samples, and which of it is a warning."""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.context import Gauges, describe_gpu, describe_machine, gpu_details, last_level_cache_bytes, warnings_of
from benchmarks.nvml import THROTTLE_REASONS, throttle_reasons
from tests.benchmarks.fake_nvml import CONSTANTS, FakeNvml, functions, install


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    fake = install(monkeypatch)
    yield fake
    assert fake.opened == 0, "NVML was left open"


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch).driver = False


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where ``proc`` and ``sys`` lie, for a process that may run on cores 1 and 2 of four."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 2}, raising=False)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_CLK_TCK": 100}[name])
    clocks = (5000.0, 2000.0, 3001.5, 5000.0)
    write(
        tmp_path / "proc/cpuinfo",
        "\n".join(f"processor\t: {core}\nmodel name\t: Some CPU\ncpu MHz\t\t: {mhz}\n" for core, mhz in enumerate(clocks)),
    )
    write(
        tmp_path / "proc/stat",
        "cpu  9 9 9 9 9 9 9 9999 0 0\n"
        + "".join(f"cpu{core} 1 2 3 4 5 6 7 {stolen} 9 10\n" for core, stolen in enumerate((1000, 250, 50, 1000)))
        + "intr 1 2 3 4 5 6 7 8 9 10\n",
    )
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# --- the fake is like the real one ---


def test_the_fake_is_like_nvidia_ml_py() -> None:
    real = pytest.importorskip("pynvml")
    assert {name: getattr(real, name) for name in CONSTANTS} == CONSTANTS
    for name, function in functions(FakeNvml()).items():
        # convertStrBytes hides the arguments of some.
        theirs = list(inspect.signature(inspect.unwrap(getattr(real, name))).parameters.values())
        needed = [one for one in theirs if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
        if not any(one.kind is one.VAR_POSITIONAL for one in theirs):
            assert len(needed) == len(inspect.signature(function).parameters), name


def test_every_reason_has_nvmls_name() -> None:
    real = pytest.importorskip("pynvml")
    names: dict[int, set[str]] = {}
    for name in dir(real):
        if found := re.fullmatch(r"nvmlClocks(?:Event|Throttle)Reason(?!None|All|GpuIdle)(\w+)", name):
            names.setdefault(getattr(real, name), set()).add(re.sub(r"(?<!^)(?=[A-Z])", "_", found[1]).lower())
    assert len(names) >= 8
    for bit, theirs in names.items():
        assert THROTTLE_REASONS[bit] in theirs


# --- where a number was measured ---


@pytest.mark.usefixtures("no_gpu")
def test_the_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    machine = describe_machine()
    assert json.loads(json.dumps(machine)) == machine
    assert machine["gpu"] is machine["gpu_details"] is None
    assert (machine["threads"]["OMP_NUM_THREADS"], machine["threads"]["used"]) == ("1", 1)
    assert "MKL_NUM_THREADS" not in machine["threads"]
    assert machine["memory_bytes"] > 2**28
    assert machine["cores"] >= 1
    assert {"cpu", "cpu_flags", "load_average", "system", "python", "tools", "governor"} <= machine.keys()


@pytest.mark.usefixtures("no_gpu")
def test_describing_loads_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert describe_machine()["threads"]["used"] >= 1
    assert "torch" not in sys.modules


def test_the_machine_with_a_gpu(nvml: FakeNvml) -> None:
    machine = describe_machine()
    assert machine["gpu"] == "NVIDIA Test 0, driver 580.65.06"
    assert machine["gpu_details"] == {
        "name": "NVIDIA Test 0",
        "driver": "580.65.06",
        "cuda": "13.1",
        "memory_bytes": 10**9,
        "power_limit_watt": 700.0,
        "sm_mhz_default": 1880,
        "sm_mhz_max": 2080,
        "memory_mhz_default": 2519,
        "memory_mhz_max": 2719,
        "ecc": True,
        "mig": False,
    }
    nvml.unsupported |= {"nvmlDeviceGetEccMode", "nvmlDeviceGetDefaultApplicationsClock", "nvmlSystemGetCudaDriverVersion"}
    details = gpu_details()
    assert details is not None
    assert {key for key, value in details.items() if value is None} == {"ecc", "sm_mhz_default", "memory_mhz_default", "cuda"}


@pytest.mark.parametrize(
    ("visible", "name"),
    [
        (None, "NVIDIA Test 0"),
        ("1", "NVIDIA Test 1"),
        ("1,0", "NVIDIA Test 1"),
        ("GPU-3c", "NVIDIA Test 1"),
        ("MIG-5e", "NVIDIA Test MIG-5e"),
        ("2", None),
        ("GPU-9", None),
        ("", None),
        ("-1", None),
    ],
)
def test_the_gpu_that_cuda_sees(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch, visible: str | None, name: str | None) -> None:
    nvml.devices = 2
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert describe_gpu() == (None if name is None else f"{name}, driver 580.65.06")


def test_last_level_caches_are_counted_once(root: Path) -> None:
    # Cores 0 and 1 share one third-level cache, 2 and 3 another; this process runs on 1 and 2.
    for core in range(4):
        shared = "0-1" if core < 2 else "2-3"
        for index, (level, size, cores) in enumerate([(1, "32K", core), (2, "1024K", core), (3, "4096K", shared)]):
            for name, value in {"level": level, "size": size, "shared_cpu_list": cores}.items():
                write(root / f"sys/devices/system/cpu/cpu{core}/cache/index{index}/{name}", f"{value}\n")
    assert last_level_cache_bytes(root) == 2 * 4096 * 1024
    assert last_level_cache_bytes(root / "nothing") == 0


# --- what is read between samples ---


@pytest.mark.usefixtures("no_gpu")
def test_gauges_read_the_cores_of_this_process(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1.234, 9.0, 9.0))
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
def test_gauges_of_a_machine_that_tells_nothing(root: Path) -> None:
    with Gauges(root / "nothing") as gauges:
        state = gauges.read()
    assert {key for key, value in state.items() if value is None} == {
        "cpu_mhz", "throttled_seconds", "stolen_seconds", "gpu",
    }  # fmt: skip


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


# --- which of it is a warning ---


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
