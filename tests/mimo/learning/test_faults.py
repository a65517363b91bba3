"""What goes wrong around a run: exchanged data, full disks, damaged records, clusters. Each is one sentence."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mimo.errors import DataError, MimoError, OutputError, TrainingError
from mimo.learning import course, log
from mimo.learning.crops import Pictures
from mimo.learning.datasets import not_regular, open_pairs, open_photographs
from mimo.learning.distributed import World, join
from mimo.learning.lock import locked
from mimo.learning.log import Event, Note
from mimo.learning.recipe import Session
from mimo.learning.state import Learner, read_run
from mimo.learning.train import resume, train
from mimo.learning.validation import validate
from tests.mimo.learning.training_data import ROOT, environment, picture, recipe, write_dataset, write_pairs, write_picture

QUIET = Session(device="cpu", workers=0, tensorboard=False, log_every=1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def exchange(path: Path) -> None:
    """Other pixels in a file of the same size and time."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def photographs(folder: Path) -> Path:
    for number in range(3):
        write_picture(folder / f"{number}.png", picture(number, 80, 80))
    return folder


@pytest.mark.parametrize("side", ["blur", "sharp"])
def test_pictures_exchanged_for_others_of_the_same_size_are_noticed(tmp_path: Path, side: str) -> None:
    data = write_dataset(tmp_path / "data")
    train(recipe(data, iterations=1), tmp_path / "run", QUIET)
    exchange(data / "val" / side / "scene_000001.png")
    with pytest.raises(TrainingError, match="pictures have changed"):
        resume(tmp_path / "run", QUIET, iterations=2)


def test_exchanged_photographs_are_noticed(tmp_path: Path) -> None:
    sharp = photographs(tmp_path / "sharp")
    train(replace(recipe(sharp, iterations=1), data=(), photographs=(sharp,)), tmp_path / "run", QUIET)
    exchange(sharp / "1.png")
    with pytest.raises(TrainingError, match="pictures have changed"):
        resume(tmp_path / "run", QUIET, iterations=2)


def test_a_dataset_that_only_moved_is_continued_with(tmp_path: Path) -> None:
    data, sharp = write_dataset(tmp_path / "data"), photographs(tmp_path / "sharp")
    train(recipe(data, photographs=(sharp,), iterations=1), tmp_path / "run", QUIET)
    moved, away = tmp_path / "elsewhere", tmp_path / "away"
    shutil.move(data, moved)
    shutil.move(sharp, away)
    with pytest.raises(DataError):
        resume(tmp_path / "run", QUIET, iterations=2)
    assert resume(tmp_path / "run", QUIET, iterations=2, data=[moved], photographs=[away]).step == 2
    # From now on the run knows where they lie.
    assert resume(tmp_path / "run", QUIET, iterations=3).step == 3
    with pytest.raises(TrainingError, match="pictures have changed"):
        resume(tmp_path / "run", QUIET, iterations=4, data=[write_dataset(tmp_path / "others", train=4)])


def test_a_run_from_photographs_goes_on_to_the_bit(tmp_path: Path) -> None:
    data, sharp = write_dataset(tmp_path / "data"), photographs(tmp_path / "sharp")
    options: dict[str, Any] = {"photographs": (sharp,), "optimizer": "adamw", "real_part": 0.25, "ema": 0.5}
    train(recipe(data, iterations=5, **options), tmp_path / "whole", QUIET)
    train(recipe(data, iterations=2, **options), tmp_path / "parts", QUIET)
    resume(tmp_path / "parts", Session(device="cpu", workers=3, tensorboard=False), iterations=5)
    whole, parts = (read_run(tmp_path / name / "last.pt")["model"] for name in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_adamw_takes_from_the_weights_what_adam_leaves(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    for optimizer in ("adam", "adamw"):
        train(recipe(data, iterations=1, lr=1e-2, optimizer=optimizer, weight_decay=0.9), tmp_path / optimizer, QUIET)
    norms = [
        sum(float(value.square().sum()) for value in read_run(tmp_path / name / "last.pt")["model"].values())
        for name in ("adam", "adamw")
    ]
    assert norms[1] < norms[0]


def test_two_trainings_never_write_into_one_folder(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    with locked(tmp_path / "run"), pytest.raises(TrainingError, match="another training is writing into"):
        train(recipe(data), tmp_path / "run", QUIET)
    train(recipe(data, iterations=1), tmp_path / "run", QUIET)
    before = (tmp_path / "run" / "log.jsonl").read_bytes()
    with locked(tmp_path / "run"), pytest.raises(TrainingError, match="another training is writing into"):
        resume(tmp_path / "run", QUIET, iterations=2)
    assert (tmp_path / "run" / "log.jsonl").read_bytes() == before


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        train(recipe(tmp_path / "nowhere"), tmp_path / "run", QUIET)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "4"}, "torchrun"),
        ({"WORLD_SIZE": "4", "RANK": "1", "LOCAL_RANK": "1"}, "MASTER_ADDR and MASTER_PORT"),
        ({"WORLD_SIZE": "four"}, "WORLD_SIZE in the environment must be a whole number"),
        ({"WORLD_SIZE": "-2"}, "whole number"),
        ({"RANK": "7"}, "RANK is 7"),
        ({"WORLD_SIZE": "2", "RANK": "9", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}, "RANK is 9"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "x"}, "did not find"),
    ],
)
def test_a_cluster_without_a_launcher_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError, match=said), join("cpu"):
        pass


class Full:
    """A summary writer on a full disk, as its thread's error comes back."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def _fail(self, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    add_scalar = add_image = flush = close = _fail


def _no_writer(*_: object) -> None:
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


@pytest.mark.parametrize("writer", [Full, _no_writer])
def test_a_full_disk_under_tensorboard_is_said_once_and_learning_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: Callable[..., Any]
) -> None:
    monkeypatch.setattr(log, "_summary_writer", writer)
    events: list[Event] = []
    session = Session(device="cpu", workers=0, tensorboard=True, log_every=1)
    outcome = train(recipe(write_dataset(tmp_path / "data"), val_every=2), tmp_path / "run", session, events.append)
    assert outcome.stopped == "done"
    assert [isinstance(event, Note) and "TensorBoard" in event.text for event in events].count(True) == 1


def changed(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


PARTS = (
    "format", "model", "raw", "averaged", "optimizer", "scaler", "position", "best", "watchdog", "random", "recipe", "data",
)  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_a_checkpoint_without_one_of_its_parts_is_one_sentence(tmp_path: Path, part: str) -> None:
    data = write_dataset(tmp_path / "data", train=2, val=1)
    train(recipe(data, iterations=1), tmp_path / "run", QUIET)
    for number, change in enumerate((lambda content: content.pop(part), lambda content: content.update({part: [7]}))):
        shutil.copytree(tmp_path / "run", tmp_path / str(number))
        changed(tmp_path / str(number) / "last.pt", change)
        with pytest.raises(MimoError):
            resume(tmp_path / str(number), QUIET, iterations=2)


@pytest.mark.parametrize(
    "values",
    [{"lr": float("nan")}, {"ema": float("inf")}, {"weight_decay": float("nan")}, {"lr": "1"}, {"data": 5}, {"spec": None},
     {"seed": float("nan")}, {"augment": 3}, {"validation": 1.5}],
)  # fmt: skip
def test_a_recipe_that_is_none_is_one_sentence(tmp_path: Path, values: dict[str, Any]) -> None:
    data = write_dataset(tmp_path / "data", train=2, val=1)
    train(recipe(data, iterations=1), tmp_path / "run", QUIET)
    changed(tmp_path / "run" / "last.pt", lambda content: content["recipe"].update(values))
    with pytest.raises(TrainingError):
        resume(tmp_path / "run", QUIET)


def test_a_resume_that_fails_changes_no_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_dataset(tmp_path / "data")
    train(recipe(data, iterations=1), tmp_path / "run", QUIET)
    before = (tmp_path / "run" / "recipe.json").read_bytes()

    def full(path: Path, content: bytes) -> None:
        raise OutputError(f"{path} could not be written")

    with monkeypatch.context() as patch, pytest.raises(OutputError):
        patch.setattr(course, "write_bytes", full)
        resume(tmp_path / "run", QUIET, iterations=3)
    assert (tmp_path / "run" / "recipe.json").read_bytes() == before
    resume(tmp_path / "run", QUIET, iterations=3)
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["iterations"] == 3


def test_only_regular_files_are_pictures_and_the_others_are_said(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "sharp")
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "nowhere.png").symlink_to("gone.png")
    (folder / "linked.png").symlink_to("1.png")
    assert [one.name for one in open_photographs(folder)] == ["0.png", "1.png", "2.png", "linked.png"]
    assert not_regular(folder) == ["folder.png", "loop.png", "nowhere.png", "pipe.png"]
    events: list[Event] = []
    train(replace(recipe(folder, iterations=1), data=(), photographs=(folder,)), tmp_path / "run", QUIET, events.append)
    assert any(isinstance(event, Note) and event.text.startswith("4 names of pictures are no regular") for event in events)
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(DataError):
        open_photographs(tmp_path / "round")
    with pytest.raises(DataError):
        open_pairs(tmp_path / "round")


def test_validation_is_in_float32_whatever_torch_allows(tmp_path: Path) -> None:
    seen: list[bool] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            seen.append(torch.backends.cudnn.allow_tf32)
            return [x, x, x]

    pictures = Pictures(open_pairs(write_pairs(tmp_path, 1)), 0)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    try:
        validate(Spy(), pictures, range(1), crop=0, world=World(torch.device("cpu")))
        assert torch.backends.cudnn.allow_tf32
        Learner(recipe(tmp_path, amp="off"), World(torch.device("cpu")))
        assert not torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before
    assert seen == [False, False]


def test_ctrl_c_under_torchrun_saves_though_the_launcher_repeats_it(tmp_path: Path) -> None:
    import subprocess
    import sys

    data = write_dataset(tmp_path / "data", train=6)
    endless = recipe(data, iterations=100_000, batch_size=1)
    order = json.dumps({"recipe": endless.to_json(), "out": str(tmp_path / "run")})
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tests.mimo.learning.training_worker"]
    # A session of its own: Ctrl-C goes to every process of a terminal's group.
    process = subprocess.Popen(
        [sys.executable, *command, order], cwd=ROOT, env=environment(), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 3"):
            break
    os.killpg(process.pid, signal.SIGINT)
    told = process.communicate(timeout=120)[0]
    assert "KeyboardInterrupt" not in told
    for rank in range(2):
        assert json.loads((tmp_path / "run" / f"rank-{rank}.json").read_text())["stopped"] == "signal", told
    assert read_run(tmp_path / "run" / "last.pt")["position"]["step"] >= 3
