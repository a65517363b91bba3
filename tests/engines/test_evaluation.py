from __future__ import annotations

import csv
import errno
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from engines import restoration
from engines.evaluation import Evaluation, PictureScore, Step, evaluate, score_folders
from engines.restoration import restore_rot4, restored, restored_rot4
from engines.runtimes.base import Images
from engines.runtimes.pytorch import PyTorchEngine
from engines.tiles import tiling_for
from mimo import metrics
from mimo.errors import DataError, EngineError, ImageError, MimoError, OutputError, ShapeError
from mimo.files import sha256_of
from mimo.networks.checkpoint import Checkpoint
from mimo.networks.registry import named
from mimo.spec import Shape, ShapeRange
from tests.fake_engine import RADIUS, FakeEngine, neighbours
from tests.parity_weights import GAIN, PARITY, keys, weights

NAMES = ("A_1_000001.png", "A_1_000002.png", "B_000001.png")
HEIGHT, WIDTH = 36, 50


def save(path: Path, samples: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(samples).save(path)


def pixels(path: Path) -> NDArray[np.float32]:
    return np.ascontiguousarray(np.asarray(Image.open(path), np.float32).transpose(2, 0, 1) / np.float32(255))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pairs of two scenes; the blurry picture is the sharp one, darker."""
    generator = np.random.default_rng(0)
    for name in NAMES:
        sharp = generator.integers(0, 200, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        save(tmp_path / "data" / "sharp" / name, sharp)
        save(tmp_path / "data" / "blur" / name, sharp // 2)
    return tmp_path / "data"


def brighter(images: Images) -> Images:
    return images * np.float32(1.9)


def engine() -> FakeEngine:
    return FakeEngine(brighter, context=0)


def test_every_picture_is_scored_with_the_blurry_one_beside_it(data: Path) -> None:
    result = evaluate(engine(), data)
    assert [picture.name for picture in result.pictures] == list(NAMES)
    for picture in result.pictures:
        blur, sharp = (pixels(data / side / picture.name) for side in ("blur", "sharp"))
        assert picture.scores == pytest.approx(metrics.score(brighter(blur), sharp, "mimo"))
        assert picture.blurry == pytest.approx(metrics.score(blur, sharp, "mimo"))
        assert picture.scores["psnr"] > metrics.psnr(blur, sharp)


def test_scenes_and_overall_are_means_over_pictures(data: Path) -> None:
    result = evaluate(engine(), data)
    first, second, third = (picture.scores["psnr"] for picture in result.pictures)
    scenes = result.scenes
    assert {scene: summary.pictures for scene, summary in scenes.items()} == {"A_1": 2, "B": 1}
    assert scenes["A_1"].scores["psnr"] == pytest.approx((first + second) / 2)
    assert scenes["B"].scores["psnr"] == third
    assert result.overall.scores["psnr"] == pytest.approx((first + second + third) / 3)
    assert result.overall.blurry is not None


@pytest.mark.parametrize("protocol", metrics.METRICS)
def test_the_protocol_decides_the_numbers(data: Path, protocol: metrics.Protocol) -> None:
    result = evaluate(engine(), data, protocol=protocol)
    assert tuple(result.overall.scores) == metrics.METRICS[protocol]


def test_how_the_numbers_were_obtained_is_part_of_them(data: Path, tmp_path: Path) -> None:
    model = tmp_path / "some.onnx"
    model.write_bytes(b"model")
    result = evaluate(engine(), data, ensemble="rot4", model=model)
    assert result.method == {
        "data": str(data),
        "engine": "fake cpu fp32",
        "runtime": "onnxruntime",
        "device": "cpu",
        "compute": "fp32",
        "threads": "-",
        "ensemble": "rot4",
        "model": "some.onnx",
        "model_sha256": sha256_of(model),
    }
    assert {"numpy", "scikit-image", "scipy"} <= set(result.tools)


def test_restored_pictures_are_saved_and_score_the_same_as_eight_bits(data: Path, tmp_path: Path) -> None:
    result = evaluate(engine(), data, protocol="uint8", save_dir=tmp_path / "out")
    again = score_folders(tmp_path / "out", data / "sharp", "uint8")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == list(NAMES)
    assert [picture.scores for picture in again.pictures] == [picture.scores for picture in result.pictures]
    assert again.overall.blurry is None


def test_progress_hears_of_every_picture_with_its_pixels(data: Path) -> None:
    steps: list[Step] = []
    result = evaluate(engine(), data, progress=steps.append)
    assert [(step.done, step.total) for step in steps] == [(1, 3), (2, 3), (3, 3)]
    assert [step.score for step in steps] == list(result.pictures)
    for step in steps:
        assert step.before is not None
        every = slice(None)
        assert (step.before.crop(every, every) == pixels(data / "blur" / step.score.name)).all()
        after = step.after.crop(every, every)
        assert after.min() >= 0
        assert after.max() <= 1


def test_large_pictures_run_in_tiles_with_the_same_result(data: Path) -> None:
    whole = FakeEngine(lambda images: neighbours(images) / np.float32(4), RADIUS)
    small = ShapeRange(Shape(1, 16, 16), Shape(1, 28, 32), Shape(1, 28, 32))
    tiled = FakeEngine(lambda images: neighbours(images) / np.float32(4), RADIUS, small)
    assert evaluate(tiled, data).pictures == evaluate(whole, data).pictures
    assert len(tiled.seen) > len(whole.seen) == 3


def test_the_test_split_of_a_prepared_dataset_is_what_is_evaluated(data: Path, tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    data.rename(prepared / "test")
    result = evaluate(engine(), prepared)
    assert result.method["data"] == str(prepared / "test")
    assert len(result.pictures) == 3


def test_an_engine_that_returns_nan_gets_no_number(data: Path) -> None:
    def broken(images: Images) -> Images:
        result = images.copy()
        result[0, 1, 2, 3] = math.nan
        return result

    with pytest.raises(EngineError, match=NAMES[0]):
        evaluate(FakeEngine(broken, 0), data)


def test_a_picture_that_the_engine_cannot_take_is_named(data: Path) -> None:
    large = ShapeRange(Shape(1, 64, 64), Shape(1, 64, 64), Shape(1, 64, 64))
    with pytest.raises(ShapeError, match=NAMES[0]):
        evaluate(FakeEngine(brighter, 0, large), data)


def test_bad_data_is_named_before_anything_runs(data: Path) -> None:
    fake = engine()
    save(data / "sharp" / NAMES[2], np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8))
    with pytest.raises(DataError, match=f"{NAMES[2]}.*one size"):
        evaluate(fake, data)
    (data / "sharp" / NAMES[2]).write_bytes(b"no picture")
    with pytest.raises(ImageError, match=NAMES[2]):
        evaluate(fake, data)
    (data / "sharp" / NAMES[2]).unlink()
    with pytest.raises(DataError, match=NAMES[2]):
        evaluate(fake, data)
    with pytest.raises(DataError, match="expected"):
        evaluate(fake, data / "nowhere")
    assert not fake.seen


@pytest.mark.parametrize("side", ["blur", "sharp"])
def test_results_never_take_the_place_of_the_dataset(data: Path, side: str) -> None:
    before = (data / side / NAMES[0]).read_bytes()
    with pytest.raises(DataError, match="another folder"):
        evaluate(engine(), data, save_dir=data / "blur" / ".." / side)
    assert (data / side / NAMES[0]).read_bytes() == before


@pytest.mark.parametrize("way", ["linked folder", "linked picture", "hard link"])
def test_no_link_leads_a_result_to_the_dataset(data: Path, tmp_path: Path, way: str) -> None:
    out, picture = tmp_path / "out", data / "sharp" / NAMES[1]
    before = picture.read_bytes()
    if way == "linked folder":
        out.symlink_to(data / "sharp")
    else:
        out.mkdir()
        (out / NAMES[1]).symlink_to(picture) if way == "linked picture" else (out / NAMES[1]).hardlink_to(picture)
    fake = engine()
    with pytest.raises(DataError, match="another folder"):
        evaluate(fake, data, save_dir=out)
    assert picture.read_bytes() == before
    assert not fake.seen, "seen before anything is restored"


def test_a_large_result_lies_on_the_disk(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = [evaluate(engine(), data, ensemble=ensemble).pictures for ensemble in ("none", "rot4")]
    monkeypatch.setattr(restoration, "MOST_BYTES", 12 * HEIGHT * WIDTH - 1)
    whole = metrics.Whole(np.random.default_rng(0).random((3, HEIGHT, WIDTH), dtype=np.float32))
    for restore in (restored, restored_rot4):
        assert isinstance(restore(engine(), whole), np.memmap)
    assert [evaluate(engine(), data, ensemble=ensemble).pictures for ensemble in ("none", "rot4")] == usual


def test_a_large_result_without_room_is_a_sentence(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(restoration, "MOST_BYTES", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutputError, match=r"no room for a result of .* the disk is full"):
        evaluate(engine(), data)


def test_rot4_in_tiles_is_rot4(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(4).random((3, 52, 88), dtype=np.float32)
    whole = restore_rot4(FakeEngine(neighbours, RADIUS), image)
    monkeypatch.setattr(restoration, "tiling_for", lambda engine, height, width: tiling_for(engine, height, width, tile=40))
    fake = FakeEngine(neighbours, RADIUS)
    np.testing.assert_allclose(restore_rot4(fake, image), whole, atol=1e-6)
    assert len(fake.seen) > 8


def test_two_pictures_are_never_saved_as_one(data: Path, tmp_path: Path) -> None:
    for side in ("blur", "sharp"):
        save(data / side / "B_000001.jpg", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    with pytest.raises(DataError, match="saved as one"):
        evaluate(engine(), data, save_dir=tmp_path / "out")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """So small a picture is not worth more, least of all on a machine that is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow
def test_rot4_is_mimo_unet_plus_plus() -> None:
    reference = np.load(PARITY / "MIMO-UNetPlusPlus.npz")
    state = {key: torch.from_numpy(value) for key, value in weights(keys("MIMO-UNetPlus"), GAIN["MIMO-UNetPlus"]).items()}
    plus = PyTorchEngine(Checkpoint(named("mimo-unet-plus"), state, Path("parity"), "", {}))
    once = np.load(PARITY / "MIMO-UNetPlus.npz")["full"]
    result = restore_rot4(plus, reference["x"][0])
    np.testing.assert_allclose(result, reference["full"][0], atol=1e-4)
    assert np.abs(result - once).max() > 1e-2, "four rotations give what one gives"


def test_rot4_turns_every_result_back() -> None:
    image = np.random.default_rng(3).random((3, 32, 48), dtype=np.float32)
    fake = FakeEngine(lambda images: images, 0)
    np.testing.assert_allclose(restore_rot4(fake, image), image, atol=1e-6)
    assert [(shape.height, shape.width) for shape in fake.seen] == [(32, 48), (48, 32), (32, 48), (48, 32)]


def test_rot4_averages_before_it_clamps() -> None:
    """Two of four results far above 1 must weigh in with all they have."""
    image = np.full((3, 32, 48), 0.5, np.float32)
    fake = FakeEngine(lambda images: images * np.float32(5 if images.shape[2] == 32 else -1), 0)
    np.testing.assert_allclose(restore_rot4(fake, image), 1.0, atol=1e-6)


def test_the_json_says_everything(data: Path, tmp_path: Path) -> None:
    result = evaluate(engine(), data)
    result.write_json(tmp_path / "sub" / "out.json")
    content = json.loads((tmp_path / "sub" / "out.json").read_text())
    assert content["schema"] == 1
    assert content["protocol"] == "mimo"
    assert content["method"]["engine"] == "fake cpu fp32"
    assert content["overall"] == {
        "pictures": 3,
        "scores": dict(result.overall.scores),
        "blurry": dict(result.overall.blurry or {}),
    }
    assert content["scenes"]["A_1"]["scores"] == dict(result.scenes["A_1"].scores)
    assert content["pictures"][2]["name"] == NAMES[2]
    assert content["pictures"][2]["scene"] == "B"
    assert content["pictures"][2]["blurry"] == dict(result.pictures[2].blurry or {})


def test_no_number_and_infinity_survive_as_what_they_are(tmp_path: Path) -> None:
    good, none = {"realblur_psnr": math.inf, "realblur_ssim": 1.0}, {"realblur_psnr": math.nan, "realblur_ssim": math.nan}
    result = Evaluation("realblur", (PictureScore("a_1", "a", good), PictureScore("b_1", "b", good, none)), {}, {})
    spoilt = Evaluation("realblur", (PictureScore("a", "a", good), PictureScore("b", "b", none)), {}, {})
    assert math.isnan(spoilt.overall.scores["realblur_psnr"])
    assert result.without_number == ("b_1",)
    result.write_json(tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["pictures"][0]["scores"] == {"realblur_psnr": "inf", "realblur_ssim": 1.0}
    assert content["pictures"][0]["blurry"] is None
    assert content["pictures"][1]["blurry"] == {"realblur_psnr": None, "realblur_ssim": None}
    result.write_csv(tmp_path / "out.csv")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert rows[0]["realblur_psnr"] == "inf"
    assert rows[1]["blurry_realblur_psnr"] == ""


def test_the_csv_has_a_line_per_picture_per_scene_and_overall(data: Path, tmp_path: Path) -> None:
    result = evaluate(engine(), data)
    result.write_csv(tmp_path / "out.csv")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [row["level"] for row in rows] == ["picture"] * 3 + ["scene"] * 2 + ["overall"]
    assert [row["name"] for row in rows] == [*NAMES, "A_1", "B", ""]
    assert float(rows[0]["psnr"]) == result.pictures[0].scores["psnr"]
    assert float(rows[-1]["ssim_matlab3d"]) == result.overall.scores["ssim_matlab3d"]
    assert result.overall.blurry is not None
    assert float(rows[-1]["blurry_psnr"]) == result.overall.blurry["psnr"]


def test_a_result_that_cannot_be_written_leaves_the_old_one(data: Path, tmp_path: Path) -> None:
    result = evaluate(engine(), data)
    (tmp_path / "file").write_text("old")
    with pytest.raises(OutputError):
        result.write_json(tmp_path / "file" / "out.json")
    assert (tmp_path / "file").read_text() == "old"


def test_anybodys_pictures_may_have_another_format(data: Path, tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / "pred").mkdir(exist_ok=True)
        Image.open(data / "sharp" / name).save(tmp_path / "pred" / name.replace(".png", ".jpg"), quality=95, subsampling=0)
    result = score_folders(tmp_path / "pred", data / "sharp")
    assert 25 < result.overall.scores["psnr"] < 60
    assert result.pictures[0].name == "A_1_000001.jpg"
    assert result.method == {"predictions": str(tmp_path / "pred"), "truths": str(data / "sharp")}


def test_equal_folders_are_infinitely_good(data: Path) -> None:
    assert score_folders(data / "sharp", data / "sharp").overall.scores["psnr"] == math.inf


def test_a_mean_over_some_of_the_pictures_is_refused(data: Path, tmp_path: Path) -> None:
    (data / "blur" / NAMES[1]).unlink()
    with pytest.raises(DataError, match="A_1_000002"):
        score_folders(data / "blur", data / "sharp")
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(MimoError, match="expected"):
            score_folders(folder, data / "sharp")
    save(data / "blur" / "A_1_000001.jpg", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    with pytest.raises(DataError, match="one of the two"):
        score_folders(data / "blur", data / "sharp")
