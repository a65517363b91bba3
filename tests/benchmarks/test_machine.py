"""What is said of the machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.machine import describe_gpu, describe_machine, gpu_details, last_level_cache_bytes
from tests.benchmarks.fake_nvml import FakeNvml, install


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
    """Where ``sys`` lies, for a process that may run on cores 1 and 2 of four."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 2}, raising=False)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


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
