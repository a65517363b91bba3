"""A run that was killed and continued ends with the same bits as one that was left alone."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mimo.files import sha256_of
from mimo.learning.recipe import Recipe, Session
from mimo.learning.state import read_run
from mimo.learning.train import resume, train
from mimo.networks.registry import mimo_unet
from tests.mimo.learning.training_data import recipe, start, write_dataset

WORKER = "tests.mimo.learning.training_worker"
STEPS = 10


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Everything that has a state of its own: dropout (20 blocks), a running mean, a schedule, several epochs."""
    return recipe(
        write_dataset(tmp_path_factory.mktemp("data"), val=1),
        spec=mimo_unet(4, 20),
        iterations=STEPS,
        schedule="cosine",
        warmup=3,
        ema=0.9,
        grad_clip=1.0,
        augment=("flips", "rot90", "rgb-shuffle"),
        save_every=3,
        val_every=5,
    )


@pytest.fixture(scope="module")
def undisturbed(course: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    train(course, run, Session(device="cpu", workers=2, tensorboard=False))
    torch.set_num_threads(before)
    return run


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_killed_at_a_random_step_and_continued(
    course: Recipe, undisturbed: Path, tmp_path: Path, number: signal.Signals
) -> None:
    step, delay = random.randrange(1, STEPS - 1), random.random() * 0.3
    sys.stdout.write(f"{number.name} {delay:.3f} s after step {step}")
    run = tmp_path / "run"
    process = start(WORKER, json.dumps({"recipe": course.to_json(), "out": str(run), "workers": 2}))
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append(line)
        if line.strip() == f"step {step}":
            time.sleep(delay)
            process.send_signal(number)
            break
    told.append(process.communicate(timeout=120)[0])

    reached = read_run(run / "last.pt")["position"]["step"]
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 0, "".join(told)
        assert json.loads((run / "rank-0.json").read_text()) | {"samples": 0, "weights": 0} == {
            "samples": 0, "weights": 0, "stopped": "signal", "step": reached,
        }  # fmt: skip
        assert reached >= step

    outcome = resume(run, Session(device="cpu", workers=1, tensorboard=False))
    assert (outcome.step, outcome.stopped) == (STEPS, "done")
    assert sha256_of(run / "weights.safetensors") == sha256_of(undisturbed / "weights.safetensors")
    left, right = (read_run(place / "last.pt") for place in (run, undisturbed))
    for part in ("model", "raw"):
        assert all(torch.equal(left[part][key], right[part][key]) for key in right[part])
    assert left["best"] == right["best"]
    assert all(torch.equal(a["cpu"], b["cpu"]) for a, b in zip(left["random"], right["random"], strict=True))
    # The curve has no step twice and none too few.
    for kind in ("train", "val"):
        steps = [[row["step"] for row in log(place, kind)] for place in (run, undisturbed)]
        assert steps[0] == sorted(set(steps[0]))
        assert steps[1][-1] == steps[0][-1] == STEPS


def log(run: Path, kind: str) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def test_what_the_bits_depend_on_is_really_restored(course: Recipe, undisturbed: Path, tmp_path: Path) -> None:
    """The proof above would be worth nothing if other random numbers gave the same weights."""
    train(replace(course, seed=1, iterations=2), tmp_path / "run", Session(device="cpu", workers=0, tensorboard=False))
    content = read_run(tmp_path / "run" / "last.pt")
    assert any(not torch.equal(content["raw"][key], value) for key, value in read_run(undisturbed / "last.pt")["raw"].items())
    content["random"][0]["cpu"] = torch.Generator().manual_seed(5).get_state()
    ends = []
    for name in ("as written", "other random numbers"):
        run = tmp_path / name
        run.mkdir()
        if name == "as written":
            (run / "last.pt").write_bytes((tmp_path / "run" / "last.pt").read_bytes())
        else:
            torch.save(content, run / "last.pt")
        resume(run, Session(device="cpu", workers=0, tensorboard=False), iterations=3)
        ends.append(read_run(run / "last.pt")["raw"])
    assert any(not torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
