from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from mimo.errors import OutputError, TrainingError
from mimo.learning.lock import locked
from tests.mimo.learning.training_data import ROOT, environment

HOLD = "import sys, time, pathlib; from mimo.learning.lock import locked\nwith locked(pathlib.Path(sys.argv[1])):\n print('held', flush=True); time.sleep(60)"  # noqa: E501


def test_a_second_process_is_refused_and_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(TrainingError, match="another training is writing into"), locked(run):
        pass
    process.kill()
    process.communicate()
    for _ in range(100):
        try:
            with locked(run):
                break
        except TrainingError:
            time.sleep(0.05)
    else:
        pytest.fail("the lock outlived its holder")


def test_a_folder_that_nothing_was_written_into_is_gone_again(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()
    assert not (tmp_path / "run").exists()
    with locked(tmp_path / "run"):
        (tmp_path / "run" / "file").write_text("kept")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["file"]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be written"), locked(tmp_path / "file" / "run"):
        pass
