"""The peak of memory: seen although it was freed, and forgotten by the next one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks.memory import Memory, PeakMemory
from tests.benchmarks.fake_nvml import FakeNvml, install

MEBIBYTE = 1 << 20
linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


def allocate_and_free(size: int) -> None:
    np.ones(size, np.uint8)


@linux
def test_a_short_allocation_is_seen_and_not_seen_again() -> None:
    size = 200 * MEBIBYTE
    with PeakMemory("cpu") as first:
        allocate_and_free(size)
    with PeakMemory("cpu") as second:
        allocate_and_free(MEBIBYTE)
    seen, after = first.result(engine_bytes=7), second.result()
    if seen is None or after is None:
        pytest.skip("this kernel refuses to reset the peak")
    assert seen.kind == "resident"
    assert seen.engine_bytes == 7
    assert seen.peak_bytes - seen.baseline_bytes == pytest.approx(size, rel=0.1)
    assert after.peak_bytes - after.baseline_bytes < 0.1 * size
    allocate_and_free(size)
    assert second.result() == after, "what comes after closing is not its own"


def proc(folder: Path, resident: int | None, peak: int | None) -> Path:
    sizes = {"VmPeak": 10**6, "VmHWM": peak, "VmRSS": resident}
    lines = [f"{name}:\t{size:8} kB" for name, size in sizes.items() if size is not None]
    (folder / "status").write_text("\n".join(["Name:\tpython", "Threads:\t1", *lines]) + "\n")
    return folder


def test_the_whole_process_beside_its_start(tmp_path: Path) -> None:
    with PeakMemory("cpu", proc(tmp_path, 1000, 1000)) as memory:
        assert (tmp_path / "clear_refs").read_text() == "5"
        proc(tmp_path, 2000, 5000)
        assert memory.result() == Memory("resident", 5000 * 1024, 1000 * 1024)
        proc(tmp_path, 2000, 6000)
    assert memory.result() == Memory("resident", 6000 * 1024, 1000 * 1024)
    assert asdict(Memory("resident", 6, 1, 3)) == {
        "kind": "resident",
        "peak_bytes": 6,
        "baseline_bytes": 1,
        "engine_bytes": 3,
    }


@pytest.mark.parametrize("case", ["not Linux", "refused", "reset without effect", "no sizes"])
def test_none_where_the_system_does_not_tell(tmp_path: Path, case: str) -> None:
    match case:
        case "not Linux":
            folder = tmp_path / "none"
        case "refused":
            folder = proc(tmp_path, 1000, 1000)
            (folder / "clear_refs").mkdir()
        case "reset without effect":
            folder = proc(tmp_path, 1000, 10**6)
        case _:
            folder = proc(tmp_path, None, None)
    with PeakMemory("cpu", folder) as memory:
        memory.sample()
    assert memory.result() is None


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    fake = install(monkeypatch)
    yield fake
    assert fake.opened == 0, "NVML was left open"


def test_the_most_in_use_on_a_gpu_less_what_was_there(nvml: FakeNvml) -> None:
    nvml.used = 100
    with PeakMemory("cuda") as memory:
        nvml.used = 1100
        memory.sample()
        nvml.used = 600
        memory.sample()
        assert memory.result(5) == Memory("device", 1000, 100, 5)
        nvml.used = 1300
    nvml.used = 9000
    memory.sample()
    assert memory.result() == Memory("device", 1200, 100)


def test_no_gpu_memory_without_an_answer(nvml: FakeNvml) -> None:
    nvml.unsupported.add("nvmlDeviceGetMemoryInfo")
    with PeakMemory("cuda") as memory:
        memory.sample()
    assert memory.result() is None
    nvml.devices = 0
    with PeakMemory("cuda") as memory:
        memory.sample()
    assert memory.result() is None
