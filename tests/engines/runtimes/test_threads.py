"""One number of threads for all runtimes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engines.runtimes.threads import threads_for, usable_cores
from mimo.errors import MimoError
from tests.tiny import Tiny

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("asked", "variable", "cores", "count", "source"),
    [
        (None, None, 4, 4, "cores"),
        (None, "", 4, 4, "cores"),
        (None, "2", 4, 2, "OMP_NUM_THREADS"),
        (None, "2,8", 4, 2, "OMP_NUM_THREADS"),
        (None, "16", 4, 4, "OMP_NUM_THREADS"),
        (3, "2", 4, 3, "asked"),
        (8, None, 4, 8, "asked"),
    ],
)
def test_what_is_asked_goes_before_the_variable_and_that_before_the_cores(
    asked: int | None, variable: str | None, cores: int, count: int, source: str
) -> None:
    environment = {} if variable is None else {"OMP_NUM_THREADS": variable}
    found = threads_for(asked, environment=environment, cores=cores)
    assert (found.count, found.source) == (count, source)
    assert (found.remark is None) == (count == cores)


@pytest.mark.parametrize("variable", ["0", "-1", "many", "1.5", "9" * 5000, "²"])
def test_a_variable_that_holds_no_number_is_refused(variable: str) -> None:
    with pytest.raises(MimoError, match="OMP_NUM_THREADS") as failure:
        threads_for(environment={"OMP_NUM_THREADS": variable}, cores=2)
    assert len(str(failure.value)) < 200


def test_no_threads_are_refused() -> None:
    with pytest.raises(MimoError, match="at least 1, got 0"):
        threads_for(0)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"sys/fs/cgroup/box/cpu.max": "150000 100000"}, 2),
        ({"sys/fs/cgroup/box/cpu.max": "50000 100000"}, 1),
        ({"sys/fs/cgroup/cpu.max": "100000 100000", "sys/fs/cgroup/box/cpu.max": "max 100000"}, 1),
        ({"sys/fs/cgroup/box/cpu.max": "max 100000"}, None),
        ({"sys/fs/cgroup/box/cpu.max": "damaged"}, None),
        ({}, None),
    ],
)
def test_a_containers_quota_limits_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int | None
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for name, text in {"proc/self/cgroup": "0::/box\n", "sys/fs/cgroup/box/cpu.stat": "", **files}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        (path.parent / "cpu.stat").touch()
    assert usable_cores(tmp_path) == (cores or 8)


def test_a_quota_of_the_first_version_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    group = tmp_path / "sys/fs/cgroup/cpu,cpuacct/box"
    group.mkdir(parents=True)
    (group / "cpu.stat").touch()
    (group / "cpu.cfs_period_us").write_text("100000\n")
    (group / "cpu.cfs_quota_us").write_text("300000\n")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("4:cpu,cpuacct:/box\n3:memory:/box\n")
    assert usable_cores(tmp_path) == 3
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    assert usable_cores(tmp_path) == 8


PROGRAM = """
import json, os, sys, threading, time
from pathlib import Path
import numpy as np
from engines.runtimes.opening import open_engine

def others_used():
    # Processor time of every thread but this one, in clock ticks.
    total = 0
    for task in Path("/proc/self/task").iterdir():
        if int(task.name) != threading.get_native_id():
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total

found = {}
for file, runtime in zip(sys.argv[1::2], sys.argv[2::2]):
    with open_engine(Path(file), runtime, "cpu", threads=int(os.environ["ASKED"]) if "ASKED" in os.environ else None) as engine:
        launch = engine.launcher(np.zeros((1, 3, 256, 256), np.float32))
        launch()
        before, end = others_used(), time.monotonic() + (0.5 if engine.threads == 1 else 20)
        while time.monotonic() < end and others_used() - before <= 5:  # a busy machine takes its time
            launch()
        found[runtime] = engine.threads, others_used() - before
print(json.dumps(found))
"""


def threads_seen(tiny: Tiny, **environment: str) -> dict[str, tuple[int, int]]:
    files = [str(tiny.checkpoint), "pytorch", str(tiny.onnx), "onnxruntime", str(tiny.onnx), "openvino"]
    inherited = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    code = PROGRAM
    if "ONLY" in environment:
        code = f"import os; os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})\n{PROGRAM}"
    done = subprocess.run(
        [sys.executable, "-c", code, *files],
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: (count, used) for name, (count, used) in json.loads(done.stdout.splitlines()[-1]).items()}


@pytest.mark.parametrize("environment", [{"ONLY": "1"}, {"OMP_NUM_THREADS": "1"}, {"ASKED": "1"}])
@pytest.mark.slow
def test_one_thread_is_one_thread_on_every_runtime(tiny: Tiny, environment: dict[str, str]) -> None:
    for runtime, (count, used) in threads_seen(tiny, **environment).items():
        assert count == 1, runtime
        assert used <= 5, f"{runtime} computed in another thread beside the one that called: {used} ticks"


@pytest.mark.skipif(usable_cores() < 2, reason="needs two cores")
@pytest.mark.slow
def test_all_cores_are_used_when_nobody_says_otherwise(tiny: Tiny) -> None:
    for runtime, (count, used) in threads_seen(tiny).items():
        assert count == usable_cores(), runtime
        assert used > 5, f"{runtime} computed in one thread only"
