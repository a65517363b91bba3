"""A sweep: what is measured in which order, what is left out and why, and what it advises."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bench import Job
from benchmarks.measurement import StoppingRule
from benchmarks.reports import Cell
from benchmarks.schema import parse_report
from benchmarks.sweep import advice, sweep
from engines.runtimes.base import Images, check_images
from engines.sample_images import list_photographs
from mimo.bundled import PHOTOGRAPHS
from mimo.errors import EngineError
from mimo.files import write_json
from mimo.spec import WHOLE_IMAGE, Shape, ShapeRange
from tests.fake_engine import FakeEngine
from tests.tiny import Tiny

QUICK = StoppingRule(warm_up_least=0, warm_up_most=0, min_samples=1, max_samples=3, max_seconds=20)
JOB = Job(Path("a.onnx"), "onnxruntime", "cpu")


def sweep_json(*arguments: Any, **options: Any) -> dict[str, Any]:
    return sweep(*arguments, **options).to_json()


class Launching(FakeEngine):
    """Notes what it was made ready for; 128x128 fails in the runtime, as out of memory does."""

    memory_bytes = 12

    def launcher(self, images: Images) -> Callable[[], None]:
        shape = check_images(self, images)

        def launch() -> None:
            self.seen.append(shape)
            if (shape.height, shape.width) == (128, 128):
                raise EngineError("out of memory: take a smaller size.")

        return launch


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Launching:
    fake = Launching(lambda images: images, 16, ShapeRange(Shape(1, 16, 16), Shape(1, 64, 64), Shape(2, 128, 128)))
    monkeypatch.setattr("benchmarks.sweep.open_engine", lambda *_, **__: fake)
    return fake


@pytest.fixture
def job(tmp_path: Path, tiny: Tiny) -> Job:
    shutil.copyfile(tiny.onnx, tmp_path / "a.onnx")
    return Job(tmp_path / "a.onnx", "onnxruntime", "cpu")


def test_smallest_first_each_once_and_on_disk_after_each(
    engine: Launching, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, on_disk = tmp_path / "sweep.json", []

    def writing(path: Path, content: Mapping[str, Any]) -> None:
        write_json(path, content)
        read = json.loads(path.read_text())
        parse_report(read)
        on_disk.append([cell["shape"] for cell in read["grid"]])

    monkeypatch.setattr("benchmarks.sweep.write_json", writing)
    shapes = [Shape(1, 64, 64), Shape(2, 32, 32), Shape(1, 32, 32), Shape(1, 64, 64)]
    said: list[str] = []
    report = sweep_json(job, shapes, list_photographs(PHOTOGRAPHS), QUICK, json_out=written, progress=said.append)
    ordered = ["1x32x32", "2x32x32", "1x64x64"]
    assert on_disk == [ordered[:1], ordered[:2], ordered]
    assert said == [f"{shape} on fake cpu fp32" for shape in ordered]
    assert [str(shape) for shape in dict.fromkeys(engine.seen) if str(shape) in ordered] == ordered
    assert json.loads(written.read_text()) == json.loads(json.dumps(report))
    assert (report["shape"], report["file"], report["verified"]) == ("1x64x64", "a.onnx", "UNVERIFIED")
    for cell in report["grid"]:
        assert len(cell["samples_seconds"]) == cell["n"] == 3
        assert min(cell["samples_seconds"]) <= cell["median_seconds"] <= max(cell["samples_seconds"])
        assert cell["memory_peak_bytes"] > 1 << 20
    assert any("one profile" in one.lower() or "converged" in one for one in report["advice"])


def test_what_the_engine_refuses_is_a_reason_and_not_the_end(engine: Launching, job: Job) -> None:
    shapes = [Shape(1, 30, 32), Shape(1, 48, 48), Shape(1, 128, 128), Shape(4, 64, 128), Shape(2, 128, 132)]
    report = sweep_json(job, shapes, list_photographs(PHOTOGRAPHS), QUICK)
    parse_report(report)
    cells = {cell["shape"]: cell for cell in report["grid"]}
    assert list(cells) == ["1x30x32", "1x48x48", "1x128x128", "4x64x128", "2x128x132"]
    assert "multiples of 4" in cells["1x30x32"]["reason"]
    assert cells["1x48x48"]["reason"] is None
    assert "out of memory" in cells["1x128x128"]["reason"]
    assert "outside the profile" in cells["4x64x128"]["reason"]
    assert cells["1x128x128"]["samples_seconds"] is cells["1x128x128"]["median_seconds"] is None


def test_nothing_measured_is_nothing_advised(engine: Launching, job: Job) -> None:
    report = sweep_json(job, [Shape(1, 128, 128)], list_photographs(PHOTOGRAPHS), QUICK)
    parse_report(report)
    assert report["advice"] == []


def test_a_shape_that_would_take_too_long_is_not_run(engine: Launching, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {"1x32x32": 8.0, "1x64x64": 20.0}  # the second is faster per pixel than the first predicts

    def measured(engine: Any, job: Any, shape: Shape, photographs: Any, rule: StoppingRule) -> Cell:
        return cell(str(shape), taken.get(str(shape)))

    monkeypatch.setattr("benchmarks.sweep._measured", measured)
    # Predicted from the one before: 4 * 8 = 32 s; then 20 / 4096 s a pixel, which is 45 s for 96x96 and 80 s for the last.
    shapes = [Shape(1, 32, 32), Shape(1, 64, 64), Shape(1, 96, 96), Shape(2, 64, 128)]
    report = sweep_json(job, shapes, [], StoppingRule(max_seconds=40))
    parse_report(report)
    assert [one["median_seconds"] for one in report["grid"]] == [8.0, 20.0, None, None]
    assert [one["reason"] for one in report["grid"][2:]] == [
        "one call would take some 45 s: raise --max-seconds",
        "one call would take some 80 s: raise --max-seconds",
    ]
    # One that fails in between predicts nothing, and what came before it still does.
    report = sweep_json(job, [*shapes, Shape(1, 64, 68)], [], StoppingRule(max_seconds=40))
    assert [one["reason"] for one in report["grid"][2:]] == [
        "out of memory",
        "one call would take some 45 s: raise --max-seconds",
        "one call would take some 80 s: raise --max-seconds",
    ]
    slow = sweep_json(job, shapes, [], StoppingRule(max_seconds=31))
    assert [one["reason"] is None for one in slow["grid"]] == [True, False, False, False]


def test_the_tiny_network_for_real(tiny: Tiny) -> None:
    job = Job(tiny.onnx, "onnxruntime", "cpu")
    report = sweep_json(job, [Shape(2, 32, 32), Shape(1, 32, 32), Shape(1, 33, 32)], list_photographs(PHOTOGRAPHS), QUICK)
    parse_report(report)
    assert (report["engine"], report["compute"]) == ("onnxruntime cpu fp32", "fp32")
    first, refused, last = report["grid"]
    assert [one["shape"] for one in report["grid"]] == ["1x32x32", "1x33x32", "2x32x32"]
    assert "multiples of 4" in refused["reason"]
    assert first["first_call_seconds"] > 0 < last["median_seconds"]
    # Three samples are never enough to advise from.
    assert report["advice"] == [
        "No cell converged, so nothing can be advised: measure again with more --max-seconds, or a quieter machine."
    ]
    known = [Cell(**(one | {"converged": one["reason"] is None or None, "samples_seconds": None})) for one in report["grid"]]
    assert any("No shape here is large enough for a tile with 48 pixels" in sentence for sentence in advice(known, 48, job))


# Advice, from cells by hand.


def cell(shape: str, seconds: float | None, first: float | None = None, *, converged: bool = True) -> Cell:
    """A cell in which all samples were equal; without ``seconds`` one that was not measured."""
    found = seconds is not None
    return Cell(
        shape=shape,
        median_seconds=seconds,
        median_low=seconds,
        median_high=seconds,
        n=6 if found else None,
        converged=converged if found else None,
        first_call_seconds=(seconds if first is None else first) if found else None,
        memory_peak_bytes=None,
        reason=None if found else "out of memory",
        samples_seconds=(seconds,) * 6 if seconds is not None else None,
    )


def said(grid: list[Cell], about: str, *, context: int = 16, job: Job = JOB) -> list[str]:
    return [sentence for sentence in advice(grid, context, job) if about in sentence]


def test_no_cell_no_advice() -> None:
    assert advice([cell("1x64x64", None)], 16, JOB) == []


def test_what_did_not_converge_is_no_ground_for_advice() -> None:
    loose = cell("4x64x64", 1.0, converged=False)
    grid = [cell("1x64x64", 1.0), cell("2x64x64", 1.9), loose]
    sentences = advice(grid, 16, JOB)
    assert sentences[0].startswith("From converged cells only: 4x64x64 did not")
    assert any(one.startswith("Batches do not pay here") for one in sentences), "the batch of 4 would, if it were known"
    assert not any("4x64x64" in one for one in sentences[1:])


def test_where_nothing_converged_nothing_can_be_advised() -> None:
    (sentence,) = advice([cell("1x64x64", 1.0, converged=False), cell("2x64x64", None)], 16, JOB)
    assert sentence.startswith("No cell converged, so nothing can be advised")


def test_a_batch_that_pays_is_named_for_its_size() -> None:
    grid = [
        cell("1x64x64", 1.0), cell("2x64x64", 1.6), cell("4x64x64", 2.4),
        cell("1x128x128", 4.0), cell("2x128x128", 8.0),
    ]  # fmt: skip
    assert said(grid, "batch") == [
        "At 64x64 a batch of 4 takes 0.60 of the time per image of a batch of 1: collect that many where latency allows."
    ]


def test_batches_that_save_next_to_nothing_do_not_pay() -> None:
    """0.96 of the time is not worth the wait."""
    (sentence,) = said([cell("1x64x64", 1.0), cell("2x64x64", 1.92)], "atch")
    assert sentence.startswith("Batches do not pay here")


@pytest.mark.parametrize(
    "grid",
    [
        [cell("1x64x64", 1.0), cell("1x128x128", 4.0)],
        [cell("1x64x64", 1.0), cell("2x64x64", None)],
        [cell("1x64x64", 1.0), cell("2x32x32", 1.0)],  # never the same size in two batches
        [cell("2x64x64", 1.0), cell("4x64x64", 1.0)],  # nothing alone to compare with
    ],
)
def test_without_a_comparison_nothing_is_said_of_batches(grid: list[Cell]) -> None:
    assert said(grid, "atch") == []


def test_the_profile_spans_what_ran_and_is_tuned_for_the_cheapest_per_pixel() -> None:
    grid = [
        cell("1x64x256", 64 * 256 * 3e-6), cell("2x128x64", 2 * 128 * 64 * 2e-6), cell("1x512x512", 512 * 512 * 2.5e-6),
        cell("8x512x512", None),
    ]  # fmt: skip
    (sentence,) = said(grid, "profile")
    assert "mimo build-engine a.onnx --min 1x64x64 --opt 2x128x64 --max 2x512x512" in sentence
    assert "second engine" not in sentence


def test_a_shape_that_costs_too_much_per_pixel_asks_for_its_own_engine() -> None:
    (sentence,) = said([cell("1x64x64", 0.5), cell("1x128x128", 0.5)], "profile", job=Job(Path("a.engine"), "tensorrt", "cuda"))
    assert "--opt 1x128x128" in sentence
    assert "a.engine" not in sentence, "an engine is not built from an engine"
    assert "costs 4.0 times as much per pixel: build a second engine" in sentence


def test_the_tile_that_does_a_photograph_soonest() -> None:
    # Context 16: 512 keeps 480, so 9 * 13 = 117 tiles; 1024 keeps 992, so 5 * 7 = 35. At one second a megapixel that
    # is 30.7 s against 36.7 s, though the larger costs as much per pixel.
    grid = [cell("1x512x512", 0.262144), cell("1x1024x1024", 1.048576), cell("4x512x512", 0.1)]
    (sentence,) = said(grid, "--tile")
    assert "512x512, which is mimo deblur --tile 512: some 31 s" in sentence
    # With 192 pixels on each side the small one keeps 128: 32 * 47 tiles against 7 * 10.
    (sentence,) = said(grid, "--tile", context=192)
    assert "1024x1024, which is mimo deblur --tile 1024: some 73 s" in sentence
    assert "192 pixels" in sentence


def test_a_tile_that_is_not_square() -> None:
    (sentence,) = said([cell("1x720x1280", 1.0)], "--tile")
    assert "720x1280, which is mimo deblur --tile 960" in sentence


def test_no_shape_holds_more_than_context() -> None:
    """Side and context such that nothing is left inside, not even one pixel."""
    (sentence,) = said([cell("1x480x640", 1.0), cell("2x1024x1024", 1.0)], "tile", context=240)
    assert sentence.startswith("No shape here is large enough for a tile with 240 pixels")
    assert "736x736" in sentence


def test_a_network_that_sees_nobody_knows_how_far_is_not_tiled() -> None:
    (sentence,) = said([cell("1x512x512", 1.0)], "tile", context=WHOLE_IMAGE)
    assert "do not tile" in sentence
    assert str(2 * WHOLE_IMAGE + 256) not in sentence


def test_first_calls() -> None:
    (sentence,) = said([cell("1x64x64", 0.5, 0.7), cell("1x128x128", 2.0, 2.9)], "first call")
    assert "shapes may vary freely" in sentence
    (sentence,) = said([cell("1x64x64", 0.5, 1.75), cell("1x128x128", 2.0, 4.0)], "first call")
    assert "up to 3.5 times as long (1x64x64)" in sentence
