"""Training in this process: what it writes, what it compares, where it stops."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mimo.errors import DataError, TrainingError
from mimo.learning import course
from mimo.learning.log import Event, Note, Progress, Validated
from mimo.learning.recipe import Recipe, Session
from mimo.learning.state import Watchdog, read_run
from mimo.learning.train import resume, train
from mimo.learning.validation import Scores
from mimo.networks.checkpoint import load_checkpoint
from mimo.networks.registry import mimo_unet
from tests.mimo.learning.training_data import TINY, recipe, write_dataset, write_pairs

QUIET = Session(device="cpu", workers=0, tensorboard=False, log_every=1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"))


def rows(run: Path, kind: str) -> list[dict[str, Any]]:
    return [row for line in (run / "log.jsonl").read_text().splitlines() if (row := json.loads(line))["kind"] == kind]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


def test_a_run_learns_and_leaves_what_it_promises(data: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    outcome = train(recipe(data, iterations=30, val_every=15), tmp_path / "run", QUIET, events.append)
    assert (outcome.step, outcome.stopped) == (30, "done")
    losses = [row["loss"] for row in rows(tmp_path / "run", "train")]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert [row["step"] for row in rows(tmp_path / "run", "val")] == [15, 30]
    assert max(row["psnr"] for row in rows(tmp_path / "run", "val")) == outcome.best_psnr
    weights = load_checkpoint(tmp_path / "run" / "weights.safetensors")
    assert weights.spec == TINY
    assert weights.lineage["step"] == str(outcome.best_step)
    # Where the pictures lay is nobody's business.
    assert str(tmp_path) not in json.dumps(dict(weights.lineage)) and str(data.parent) not in json.dumps(dict(weights.lineage))
    assert same(dict(weights.state), dict(load_checkpoint(tmp_path / "run" / "best.pt").state))
    assert (tmp_path / "run" / "validation.png").is_file()
    assert Recipe.from_json(json.loads((tmp_path / "run" / "recipe.json").read_text())) == recipe(
        data, iterations=30, val_every=15
    )
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event.step for event in progress] == list(range(1, 31))
    assert all(event.crops_per_second > 0 and event.gradient_norm > 0 for event in progress)
    assert [event.pictures for event in events if isinstance(event, Validated)] == [2, 2]


def test_best_is_the_highest_psnr_not_the_last(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter([20.0, 25.0, 22.0])
    monkeypatch.setattr(course, "validate", lambda *_, **__: Scores(next(given), 0.5, 50.0, 45.0, None))
    outcome = train(recipe(data, iterations=3, val_every=1), tmp_path / "run", QUIET)
    assert (outcome.best_psnr, outcome.best_step) == (25.0, 2)
    assert [row["best"] for row in rows(tmp_path / "run", "val")] == [True, True, False]
    assert read_run(tmp_path / "run" / "best.pt")["position"]["step"] == 2
    assert read_run(tmp_path / "run" / "last.pt")["position"]["step"] == 3
    best, last, weights = (
        dict(load_checkpoint(tmp_path / "run" / name).state) for name in ("best.pt", "last.pt", "weights.safetensors")
    )
    assert same(best, weights) and not same(last, weights)


def test_a_validation_that_is_no_number_is_never_the_best(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter([float("nan"), 21.0])
    monkeypatch.setattr(course, "validate", lambda *_, **__: Scores(next(given), 0.5, 50.0, 45.0, None))
    outcome = train(recipe(data, iterations=2, val_every=1), tmp_path / "run", QUIET)
    assert (outcome.best_psnr, outcome.best_step) == (21.0, 2)


def test_a_loss_that_is_no_number_stops_and_names_step_and_checkpoint(data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"at step [23];.*last good checkpoint is .*last\.pt of step 1"):
        train(recipe(data, iterations=9, lr=1e25, warmup=0, save_every=1), tmp_path / "run", QUIET)
    # Whatever was saved is usable.
    load_checkpoint(tmp_path / "run" / "last.pt")


def test_a_growing_loss_is_told_from_a_jumping_one() -> None:
    jumping = Watchdog()
    assert all(jumping.trouble(loss) is None for loss in [1.0, 0.1, 3.0, 0.2] * 50)
    growing = Watchdog()
    assert all(growing.trouble(0.5) is None for _ in range(60))
    assert any(growing.trouble(1.2**step) for step in range(60))
    assert "nan" in str(Watchdog().trouble(float("nan")))


def test_the_running_mean_is_what_is_validated_and_exported(data: Path, tmp_path: Path) -> None:
    train(recipe(data, ema=0.5, iterations=3), tmp_path / "run", QUIET)
    content = read_run(tmp_path / "run" / "last.pt")
    assert not same(content["model"], content["raw"])
    assert same(dict(load_checkpoint(tmp_path / "run" / "weights.safetensors").state), content["model"])


def test_init_continues_from_a_checkpoint_and_refuses_another_network(data: Path, tmp_path: Path) -> None:
    train(recipe(data), tmp_path / "first", QUIET)
    begin = tmp_path / "first" / "weights.safetensors"
    train(recipe(data, init=begin, lr=1e-12, iterations=1), tmp_path / "second", QUIET)
    first, second = (load_checkpoint(tmp_path / run / "weights.safetensors") for run in ("first", "second"))
    assert all(torch.allclose(first.state[key], second.state[key], atol=1e-9) for key in first.state)
    assert second.lineage["init_sha256"] == first.sha256
    other = mimo_unet(4, 2)
    with pytest.raises(TrainingError, match="--model mimo-unet-w8-b1"):
        train(recipe(data, init=begin, spec=other), tmp_path / "third", QUIET)
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize("changes", [{"amp": "bf16"}, {"schedule": "cosine", "warmup": 2, "grad_clip": 0.01}])
def test_options_run(data: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    augment = ("flips", "rot90", "rgb-shuffle")
    outcome = train(recipe(data, iterations=2, augment=augment, **changes), tmp_path / "run", QUIET)
    assert outcome.weights is not None


def test_clipping_bounds_the_update(data: Path, tmp_path: Path) -> None:
    for clip in (0.0, 1e-4):
        train(recipe(data, iterations=1, grad_clip=clip), tmp_path / str(clip), QUIET)
    free, clipped = (read_run(tmp_path / run / "last.pt")["optimizer"]["state"] for run in ("0.0", "0.0001"))
    norm = [sum(float(state[place]["exp_avg"].square().sum()) for place in state) ** 0.5 for state in (free, clipped)]
    # Adam's first mean is a tenth of the gradient.
    assert norm[0] > 1e-3
    assert norm[1] == pytest.approx(1e-5, rel=1e-2)


def test_without_validation_pictures_the_last_weights_are_taken(tmp_path: Path) -> None:
    events: list[Event] = []
    outcome = train(recipe(write_pairs(tmp_path / "data", 3)), tmp_path / "run", QUIET, events.append)
    assert any(isinstance(event, Note) and "No validation" in event.text for event in events)
    assert outcome.best_psnr is None
    assert outcome.weights is not None and load_checkpoint(outcome.weights).lineage["step"] == "4"


def test_the_clock_stops_a_run_that_can_go_on(data: Path, tmp_path: Path) -> None:
    session = replace(QUIET, max_minutes=1e-9)
    outcome = train(recipe(data), tmp_path / "run", session)
    assert (outcome.stopped, outcome.step, outcome.weights) == ("time", 0, None)
    assert resume(tmp_path / "run", QUIET).stopped == "done"


def test_a_run_is_continued_from_another_folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)
    train(recipe(Path(data.name), iterations=1), tmp_path / "run", QUIET)
    monkeypatch.chdir(tmp_path)
    assert resume(Path("run"), QUIET, iterations=2).step == 2


def test_a_second_run_in_the_same_folder_is_refused_and_a_longer_one_is_not(data: Path, tmp_path: Path) -> None:
    train(recipe(data), tmp_path / "run", QUIET)
    with pytest.raises(TrainingError, match="--resume"):
        train(recipe(data), tmp_path / "run", QUIET)
    outcome = resume(tmp_path / "run", QUIET, iterations=6)
    assert (outcome.step, outcome.stopped) == (6, "done")
    assert [row["step"] for row in rows(tmp_path / "run", "train")] == [1, 2, 3, 4, 5, 6]


def test_changed_pictures_and_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    train(recipe(data), tmp_path / "run", QUIET)
    (data / "train" / "blur" / "scene_000000.png").unlink()
    (data / "train" / "sharp" / "scene_000000.png").unlink()
    with pytest.raises(TrainingError, match="pictures have changed"):
        resume(tmp_path / "run", QUIET)
    whole = (tmp_path / "run" / "last.pt").read_bytes()
    (tmp_path / "run" / "last.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrainingError, match="damaged"):
        resume(tmp_path / "run", QUIET)
    with pytest.raises(TrainingError, match="does not exist"):
        resume(tmp_path / "nowhere", QUIET)


def test_broken_pictures_are_named_before_anything_is_written(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    broken = data / "train" / "sharp" / "scene_000003.png"
    broken.write_bytes(broken.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"1 of 7 pairs.*\n.*scene_000003"):
        train(recipe(data), tmp_path / "run", QUIET)
    assert not (tmp_path / "run").exists()


def test_patches_larger_than_a_picture_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--patch-size"):
        train(recipe(data, patch_size=64), tmp_path / "run", QUIET)


def test_tensorboard_holds_the_curves_and_the_pictures(data: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(recipe(data, val_every=2), tmp_path / "run", replace(QUIET, tensorboard=True))
    read = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    read.Reload()
    assert {"loss/content", "loss/frequency", "learning rate", "gradient norm", "validation/PSNR", "validation/SSIM"} <= set(
        read.Tags()["scalars"]
    )
    assert [event.step for event in read.Scalars("validation/PSNR")] == [2, 4]
    assert len(read.Images("blurry | restored | sharp")) == 2
