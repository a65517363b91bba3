"""What may pass, what must not, and what must not be called passed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.runtimes.base import Images
from engines.runtimes.opening import open_engine
from engines.sample_images import list_pairs, list_photographs, photograph_batch
from engines.verification import (
    DRAWN,
    TOLERANCES,
    Reference,
    Verification,
    cases_for,
    compare_images,
    tolerance_of,
    verify_numerics,
    verify_structure,
    write_verifications,
)
from mimo.artifact import open_artifact, sidecar_of
from mimo.bundled import PHOTOGRAPHS
from mimo.errors import DataError, ImageError
from mimo.files import sha256_of
from mimo.spec import Shape, ShapeRange
from tests.fake_engine import FakeEngine
from tests.tiny import Tiny

OPTIMUM = Shape(1, 64, 96)


def verify(tiny: Tiny, change: object = None, pairs: bool = False) -> Verification:
    """The tiny ONNX file in ONNX Runtime; ``change`` is applied to what it returns."""
    artifact = open_artifact(tiny.onnx)
    photographs = list_photographs(PHOTOGRAPHS)
    folder = [(path, PHOTOGRAPHS / "sharp" / path.name) for path in photographs[:1]] if pairs else []
    with open_engine(tiny.checkpoint) as reference, open_engine(tiny.onnx, "onnxruntime") as engine:
        candidate = FakeEngine(lambda images: change(engine(images)) if callable(change) else engine(images), context=0)
        return verify_numerics(
            artifact, candidate, Reference(reference), "0" * 64, photographs, optimum=OPTIMUM, pairs=folder, seed=5
        )


def test_a_faithful_engine_passes(tiny: Tiny) -> None:
    result = verify(tiny)
    assert result.status == "passed"
    assert [case.shape for case in result.cases[:4]] == ["1x16x16", "1x64x96", "1x180x324", "2x128x192"]
    assert 4 < len(result.cases) <= 4 + DRAWN
    assert all(case.psnr > 120 for case in result.cases)


def spoil(where: tuple[slice | int, ...], value: float) -> object:
    def change(images: Images) -> Images:
        images = images.copy()
        images[where] += np.float32(value)
        return images

    return change


@pytest.mark.parametrize(
    "change",
    [
        spoil((0, 0, 3, 5), 2e-4),
        spoil((0, 0, 3, 5), np.nan),
        spoil((-1, 2, 15, 15), np.inf),
        spoil((slice(None),), 5e-5),
        lambda images: images[:, :, :-4],
        lambda images: images[:, ::-1],
        lambda images: np.full_like(images, np.nan),
    ],
    ids=["one pixel", "one NaN", "one infinity", "all a little", "another shape", "BGR", "nothing written"],
)
def test_a_wrong_engine_fails(tiny: Tiny, change: object) -> None:
    result = verify(tiny, change)
    assert result.status == "failed"
    assert not any(result.cases)


def test_an_error_in_a_batch_alone_is_found(tiny: Tiny) -> None:
    result = verify(tiny, lambda images: images[::-1])
    assert [bool(case) for case in result.cases] == [case.shape.startswith("1x") for case in result.cases]
    assert result.status == "failed"


def test_the_change_of_psnr_against_the_truth(tiny: Tiny) -> None:
    quality = verify(tiny, pairs=True).quality
    assert quality is not None
    assert quality.passed
    assert quality.blurry == pytest.approx(24.05, abs=0.001)
    assert quality.candidate == pytest.approx(quality.reference, abs=0.001)


@pytest.mark.parametrize(("error", "passes"), [(TOLERANCES["fp16"].max_error, False), (9e-4, True)])
def test_thresholds_are_held(error: float, passes: bool) -> None:
    expected = np.full((1, 3, 16, 16), 0.5, np.float32)
    assert bool(compare_images(expected, expected + np.float32(error), TOLERANCES["fp16"])) == passes


def test_the_coarser_precision_decides(tiny: Tiny) -> None:
    fp32, fp16 = open_artifact(tiny.onnx), open_artifact(tiny.fp16)
    assert tolerance_of(fp32, "fp32") == TOLERANCES["fp32"]
    assert tolerance_of(fp16, "fp32") == TOLERANCES["fp16"]
    assert tolerance_of(fp32, "bf16") == tolerance_of(fp16, "bf16") == TOLERANCES["bf16"]
    assert tolerance_of(replace(fp32, precision="mixed"), "fp32") == TOLERANCES["fp16"]


def test_an_engine_is_verified_within_its_profile(tiny: Tiny) -> None:
    artifact = open_artifact(tiny.engine)
    assert artifact.shapes is not None
    shapes = cases_for(artifact, OPTIMUM, 5)
    assert shapes[:2] == [artifact.shapes.min, artifact.shapes.opt]
    assert all(shape in artifact.shapes for shape in shapes)
    narrow = replace(artifact, shapes=ShapeRange(Shape(1, 64, 64), Shape(1, 64, 64), Shape(1, 64, 64)))
    assert cases_for(narrow, OPTIMUM, 5) == [Shape(1, 64, 64)]


@pytest.fixture
def engine(tiny: Tiny, tmp_path: Path) -> Path:
    for path in (tiny.engine, tiny.fp16):
        shutil.copy(path, tmp_path)
        shutil.copy(sidecar_of(path), tmp_path)
    return tmp_path / tiny.engine.name


def test_without_a_gpu_the_structure_is_checked_and_nothing_passes(engine: Path) -> None:
    result = verify_structure(open_artifact(engine), "0" * 64, "no GPU")
    assert result.status == "not run"
    assert result.to_json()["numerics"] == "not run (no GPU)"
    assert "in fp16; inner casts: 0" in str(result.structure)


def test_a_forged_receipt_fails(engine: Path) -> None:
    content = json.loads(sidecar_of(engine).read_text())
    content["receipt"]["convolutions"] = {"fp16": 99}
    sidecar_of(engine).write_text(json.dumps(content))
    result = verify_structure(open_artifact(engine), "0" * 64, "no GPU")
    assert result.status == "failed"
    assert "99 in fp16" in str(result.failure)


def test_a_changed_or_missing_graph_fails(engine: Path, tiny: Tiny) -> None:
    graph = engine.with_name(tiny.fp16.name)
    shutil.copy(tiny.onnx, graph)
    shutil.copy(sidecar_of(tiny.onnx), sidecar_of(graph))
    assert "has changed since" in str(verify_structure(open_artifact(engine), "0" * 64, "no GPU").failure)
    graph.unlink()
    assert verify_structure(open_artifact(engine), "0" * 64, "no GPU").status == "failed"


def test_the_report_stands_beside_the_artifact(tiny: Tiny, engine: Path) -> None:
    result = verify_structure(open_artifact(engine), "0" * 64, "no GPU")
    [path] = write_verifications([result, result])
    assert path == engine.with_name(engine.name + ".verification.json")
    entries = json.loads(path.read_text())
    assert [entry["sha256"] for entry in entries] == [open_artifact(engine).sha256] * 2
    nan = Verification(
        open_artifact(engine), "0" * 64, "x", TOLERANCES["fp16"], (verify(tiny, spoil((0, 0, 0, 0), np.nan)).cases[0],)
    )
    assert nan.to_json()["cases"][0]["psnr"] == "nan"
    assert json.loads(json.dumps(nan.to_json(), allow_nan=False))["status"] == "failed"


def test_photographs_as_input(tmp_path: Path) -> None:
    photographs = list_photographs(PHOTOGRAPHS)
    batch = photograph_batch(photographs, Shape(2, 64, 96))
    assert batch.shape == (2, 3, 64, 96)
    assert not np.array_equal(batch[0], batch[1])
    wide = photograph_batch(photographs, Shape(1, 16, 1300))
    np.testing.assert_array_equal(wide[0, :, :, 1278], wide[0, :, :, 1280])  # mirrored, the edge not repeated
    assert len(list_pairs(PHOTOGRAPHS)) == 3
    assert list_pairs(PHOTOGRAPHS / "blur") == []
    with pytest.raises(ImageError, match="holds no photographs"):
        list_photographs(tmp_path)
    (tmp_path / "blur").mkdir()
    (tmp_path / "sharp").mkdir()
    shutil.copy(photographs[0], tmp_path / "blur")
    with pytest.raises(DataError, match="no partner"):
        list_pairs(tmp_path)


def test_shapes_are_drawn_anew_and_repeated_by_their_seed(tiny: Tiny) -> None:
    artifact = open_artifact(tiny.onnx)
    first, again, other = (cases_for(artifact, OPTIMUM, seed) for seed in (1, 1, 2))
    assert first == again
    assert set(first[4:]).isdisjoint(other[4:]) or first != other
    assert all(shape == shape.padded(4) and shape.height * shape.width <= 64 * 512 for shape in first[4:])
    widths = {shape.width for seed in range(60) for shape in cases_for(artifact, OPTIMUM, seed)}
    assert 100 in widths and len(widths) > 100


def test_a_graph_that_misbehaves_at_one_width_is_found_by_the_seed_that_draws_it(tiny: Tiny) -> None:
    artifact = open_artifact(tiny.onnx)
    seed = next(s for s in range(200) if any(shape.width == 100 for shape in cases_for(artifact, OPTIMUM, s)))
    with open_engine(tiny.checkpoint) as reference, open_engine(tiny.onnx, "onnxruntime") as engine:
        sly = FakeEngine(
            lambda images: np.ones_like(images) if images.shape[3] == 100 else engine(images),
            context=0,
        )
        result = verify_numerics(
            artifact, sly, Reference(reference), "0" * 64, list_photographs(PHOTOGRAPHS), optimum=OPTIMUM, seed=seed
        )
    assert result.status == "failed"
    assert {case.shape.rsplit("x", 1)[1] for case in result.cases if not case} == {"100"}
    assert result.to_json()["seed"] == seed


def test_the_report_binds_pictures_and_sidecar(tiny: Tiny) -> None:
    content = verify(tiny).to_json()
    assert content["photographs"] == {path.name: sha256_of(path) for path in list_photographs(PHOTOGRAPHS)}
    assert content["lineage_sha256"] == open_artifact(tiny.onnx).lineage_sha256


def test_an_engines_tolerance_is_its_graphs_whatever_its_sidecar_says(engine: Path, tiny: Tiny) -> None:
    shutil.copy(tiny.onnx, engine.with_name(tiny.onnx.name))
    shutil.copy(sidecar_of(tiny.onnx), engine.with_name(sidecar_of(tiny.onnx).name))
    fp32 = open_artifact(tiny.onnx)
    loose = replace(open_artifact(engine), precision="mixed", parent=fp32.path.name, parent_sha256=fp32.sha256)
    assert tolerance_of(loose, "fp32") == TOLERANCES["fp32"]


def test_an_engine_without_its_graph_has_the_tolerance_of_its_receipt(engine: Path) -> None:
    fp16 = replace(open_artifact(engine), parent=None, parent_sha256=None)
    assert fp16.receipt is not None
    single = replace(fp16, precision="mixed", receipt=replace(fp16.receipt, convolutions={"fp32": 40}))
    assert tolerance_of(fp16, "fp16") == TOLERANCES["fp16"]
    assert tolerance_of(single, "fp32") == TOLERANCES["fp32"]
    assert tolerance_of(replace(fp16, receipt=None), "fp32") == TOLERANCES["fp32"]


def test_one_convolution_scaled_by_two_percent_does_not_pass_as_float32() -> None:
    """It was measured to differ by 102.1 dB."""
    expected = np.full((1, 3, 16, 16), 0.5, np.float32)
    for decibel, passes in ((102.1, False), (114.0, True)):
        noise = np.where(np.arange(expected.size).reshape(expected.shape) % 2, 1, -1) * 10 ** (-decibel / 20)
        assert bool(compare_images(expected, (expected + noise).astype(np.float32), TOLERANCES["fp32"])) == passes
