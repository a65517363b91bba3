"""Two real processes under torchrun, over gloo."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mimo.errors import EngineUnavailable
from mimo.learning.distributed import is_loss_of_worker, join
from mimo.learning.recipe import Session
from mimo.learning.state import read_run
from mimo.learning.train import resume, train
from mimo.networks.checkpoint import load_checkpoint
from tests.mimo.learning.training_data import recipe, start, write_dataset

WORKER = "tests.mimo.learning.training_worker"
QUIET = Session(device="cpu", workers=0, tensorboard=False)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_two_processes_learn_what_one_learns_from_twice_the_batch(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", train=6)
    twice, single = tmp_path / "twice", tmp_path / "single"
    process = start(
        WORKER, json.dumps({"recipe": recipe(data, iterations=1, batch_size=2).to_json(), "out": str(twice)}), processes=2
    )
    told = process.communicate(timeout=300)[0]
    assert process.returncode == 0, told
    train(recipe(data, iterations=1, batch_size=4), single, QUIET)

    ranks = [json.loads((twice / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert ranks[0]["weights"] == ranks[1]["weights"]
    assert [rank["samples"] for rank in ranks] == [[0, 1], [2, 3]]

    # Adam's first mean is a tenth of the gradient, which the weights after a step of Adam hardly show.
    left, right = (read_run(run / "last.pt") for run in (twice, single))
    assert left["position"]["samples"] == right["position"]["samples"] == 4
    for place, state in right["optimizer"]["state"].items():
        torch.testing.assert_close(left["optimizer"]["state"][place]["exp_avg"], state["exp_avg"], rtol=1e-4, atol=1e-7)
    # Each validated half of the pictures; the mean is over all of them.
    assert left["best"]["psnr"] == pytest.approx(right["best"]["psnr"], abs=0.01)


def test_a_lost_worker_ends_the_run_and_the_checkpoint_is_whole(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", train=6)
    run = tmp_path / "run"
    endless = recipe(data, iterations=100_000, batch_size=1, save_every=1)
    process = start(WORKER, json.dumps({"recipe": endless.to_json(), "out": str(run)}), processes=2)
    assert process.stdout is not None
    told, pid = "", 0
    for line in process.stdout:
        told += line
        if found := re.match(r"rank 1 pid (\d+)", line):
            pid = int(found[1])
        if line.startswith("step 3"):
            break
    os.kill(pid, signal.SIGKILL)
    told += process.communicate(timeout=300)[0]
    assert process.returncode != 0
    assert "a worker was lost" in told
    assert f"--resume {run}" in told

    reached = read_run(run / "last.pt")["position"]
    assert reached["step"] >= 2
    assert reached["samples"] == 2 * reached["step"]
    load_checkpoint(run / "last.pt")
    # One process goes on where two stood.
    assert resume(run, QUIET, iterations=reached["step"] + 1).stopped == "done"


def test_a_gpu_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(EngineUnavailable, match="--device cpu"), join("cuda"):
        pass


def test_a_defect_is_not_taken_for_a_lost_worker() -> None:
    assert not is_loss_of_worker(RuntimeError("shape mismatch"))
    assert is_loss_of_worker(RuntimeError("[../gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1"))
