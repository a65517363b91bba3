"""``--compare`` on real engines, beside a loop that uses nothing of ours."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.bench import Job, compare_jobs
from benchmarks.compare import RoundsRule
from benchmarks.gate import exit_code, of_comparison
from engines.sample_images import list_photographs
from mimo.bundled import PHOTOGRAPHS
from mimo.networks.checkpoint import load_checkpoint, save_checkpoint
from mimo.networks.registry import build, mimo_unet
from mimo.spec import Shape

SHAPE = Shape(1, 128, 192)


def a_network(folder: Path, residual_blocks: int) -> Path:
    torch.manual_seed(residual_blocks)
    spec = mimo_unet(8, residual_blocks)
    path = folder / f"{spec.name}.safetensors"
    save_checkpoint(path, spec, build(spec).state_dict(), {})
    return path


def independent_ratio(first: nn.Module, second: nn.Module) -> float:
    """The median time of the first over that of the second, called in turn with nothing in between."""
    images = torch.rand(SHAPE.nchw)
    seconds: tuple[list[float], list[float]] = ([], [])
    with torch.inference_mode():
        for _ in range(25):
            for network, taken in zip((first, second), seconds, strict=True):
                start = time.perf_counter()
                network(images)
                taken.append(time.perf_counter() - start)
    return statistics.median(seconds[0][5:]) / statistics.median(seconds[1][5:])


@pytest.mark.slow
def test_it_finds_what_an_independent_loop_finds(tmp_path: Path) -> None:
    """Eight residual blocks a stage against one, in one runtime: a ratio that a busy machine does not turn round.

    ONNX Runtime against OpenVINO, the comparison people want, is near 1 and moves with the machine's load: it is
    measured with ``mimo bench``, beside such a loop, and not a test.
    """
    deep, shallow = (a_network(tmp_path, blocks) for blocks in (8, 1))
    networks = [load_checkpoint(path).build() for path in (deep, shallow)]
    before = independent_ratio(networks[0], networks[1])
    report = compare_jobs(
        Job(deep, "pytorch", "cpu"),
        Job(shallow, "pytorch", "cpu"),
        SHAPE,
        list_photographs(PHOTOGRAPHS),
        RoundsRule(rounds_min=6, rounds_max=12, samples_per_block=3, max_seconds=20),
    )
    after = independent_ratio(networks[0], networks[1])
    found = report.comparison
    assert min(before, after) > 1.3
    assert found.verdict == "faster"
    assert found.low <= 1.3 * max(before, after) and found.high >= min(before, after) / 1.3


def test_the_gate_rules_on_real_measurements(tmp_path: Path) -> None:
    """One block a stage is the old version, eight the new one: slower by far more than any noise."""
    deep, shallow = (Job(a_network(tmp_path, blocks), "pytorch", "cpu") for blocks in (8, 1))
    rule = RoundsRule(rounds_min=6, rounds_max=6, samples_per_block=1, max_seconds=5)
    report = compare_jobs(shallow, deep, SHAPE, list_photographs(PHOTOGRAPHS), rule)
    slower = of_comparison(report, 0.05)
    assert slower.outcome == "slower", slower.why
    assert exit_code([slower], failed=1, undecided=4) == 1
    assert of_comparison(report, 50.0).outcome == "passed"
