from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import mimo
from mimo import metrics
from mimo.errors import MimoError, ShapeError

PHOTOGRAPHS = Path(mimo.__file__).parent / "photographs"
REFERENCE: dict[str, dict[str, float]] = json.loads((Path(__file__).parents[1] / "parity" / "metrics.json").read_text())
PAIRS = sorted(REFERENCE)
Pixels = NDArray[np.float32]
NUMBER: dict[str, Callable[[metrics.Picture, metrics.Picture], float]] = {
    "psnr": metrics.psnr,
    "psnr_uint8": metrics.psnr_uint8,
    "ssim_rgb": metrics.ssim_rgb,
    "ssim_matlab3d": metrics.ssim_matlab3d,
    "realblur_psnr": lambda prediction, truth: metrics.realblur(prediction, truth)[0],
    "realblur_ssim": lambda prediction, truth: metrics.realblur(prediction, truth)[1],
}


def photograph(kind: str, name: str) -> Pixels:
    pixels = np.asarray(Image.open(PHOTOGRAPHS / kind / name), dtype=np.float32) / np.float32(255)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def crop() -> tuple[Pixels, Pixels]:
    """A small blurry/sharp pair with something to see in it."""
    window = (slice(None), slice(200, 296), slice(400, 528))
    return photograph("blur", PAIRS[2])[window].copy(), photograph("sharp", PAIRS[2])[window].copy()


@pytest.mark.parametrize("name", PAIRS)
def test_the_reference_numbers(name: str) -> None:
    blur, sharp = photograph("blur", name), photograph("sharp", name)
    expected = REFERENCE[name]
    assert metrics.psnr(blur, sharp) == pytest.approx(expected["psnr"], abs=1e-3)
    assert metrics.ssim_rgb(blur, sharp) == pytest.approx(expected["ssim_rgb"], abs=1e-4)
    assert metrics.ssim_matlab3d(blur, sharp) == pytest.approx(expected["ssim_matlab3d"], abs=1e-4)


# ECC takes 100 steps over the whole picture, some ten seconds each.
@pytest.mark.parametrize("name", [PAIRS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in PAIRS[1:])])
def test_the_reference_numbers_of_realblur(name: str) -> None:
    decibels, similarity = metrics.realblur(photograph("blur", name), photograph("sharp", name))
    assert decibels == pytest.approx(REFERENCE[name]["realblur_psnr"], abs=1e-3)
    assert similarity == pytest.approx(REFERENCE[name]["realblur_ssim"], abs=1e-4)


def test_psnr_by_hand() -> None:
    truth = np.full((3, 4, 5), 0.5, np.float32)
    assert metrics.psnr(truth + np.float32(0.1), truth) == pytest.approx(20, abs=1e-4)
    assert metrics.psnr(truth, truth) == math.inf


def test_psnr_of_a_batch_is_the_mean_of_the_values_not_the_value_of_the_mean() -> None:
    truth = np.full((2, 3, 4, 5), 0.5, np.float32)
    prediction = truth + np.array([0.1, 0.01], np.float32)[:, None, None, None]
    assert metrics.psnr(prediction, truth) == pytest.approx(30, abs=1e-3)


def test_a_prediction_is_clamped_before_it_is_compared() -> None:
    truth = np.ones((3, 16, 16), np.float32)
    beyond = truth * 3
    assert metrics.psnr(beyond, truth) == math.inf
    assert metrics.ssim_rgb(beyond, truth) == 1
    assert metrics.ssim_matlab3d(beyond, truth) == 1
    assert (beyond == 3).all(), "the caller's array was changed"


def test_rounding_to_8_bits_is_what_tells_uint8_from_mimo() -> None:
    truth = np.full((3, 16, 16), 100 / 255, np.float32)
    near = truth + np.float32(0.4 / 255)
    assert metrics.psnr_uint8(near, truth) == math.inf
    assert metrics.psnr(near, truth) == pytest.approx(20 * math.log10(255 / 0.4), abs=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NUMBER)
def test_one_value_that_is_not_finite_leaves_no_number(name: str, bad: float) -> None:
    blur, sharp = crop()
    blur[0, 0, 0] = bad  # in the corner, where a border cut would hide it
    assert math.isnan(NUMBER[name](blur, sharp))


def test_one_bad_picture_leaves_no_number_for_its_batch() -> None:
    truth = np.full((2, 3, 8, 8), 0.5, np.float32)
    prediction = truth.copy()
    prediction[1, 2, 3, 4] = math.inf
    assert math.isnan(metrics.psnr(prediction, truth))


def test_realblur_forgives_brightness_and_position_and_nothing_else() -> None:
    _, sharp = crop()
    moved = np.roll(sharp, 2, axis=2) * np.float32(0.9)
    decibels, similarity = metrics.realblur(moved, sharp)
    assert decibels > metrics.psnr(moved, sharp) + 6
    assert similarity > metrics.ssim_rgb(moved, sharp)
    assert metrics.realblur(sharp, sharp)[1] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_realblur_gives_no_number_for_a_picture_that_cannot_be_aligned(level: float) -> None:
    _, sharp = crop()
    flat = np.full_like(sharp, level)
    decibels, similarity = metrics.realblur(flat, sharp)
    assert math.isnan(decibels)
    assert math.isnan(similarity)


@pytest.mark.parametrize("protocol", metrics.METRICS)
def test_score_gives_the_numbers_of_its_protocol_by_name(protocol: metrics.Protocol) -> None:
    blur, sharp = crop()
    scores = metrics.score(blur, sharp, protocol)
    assert tuple(scores) == metrics.METRICS[protocol]
    assert set(scores) <= set(metrics.LABELS)
    assert scores == {name: NUMBER[name](blur, sharp) for name in scores}


def test_score_uint8_rounds_for_the_similarity_too() -> None:
    truth = np.random.default_rng(1).integers(0, 256, (3, 16, 16)).astype(np.float32) / np.float32(255)
    near = np.clip(truth + np.float32(0.4 / 255), 0, 1)
    assert metrics.score(near, truth, "uint8")["ssim_rgb"] == 1
    assert metrics.score(near, truth, "mimo")["ssim_rgb"] < 1


@pytest.mark.parametrize("name", NUMBER)
def test_what_cannot_be_compared_is_refused(name: str) -> None:
    blur, sharp = crop()
    with pytest.raises(ShapeError, match="equal size"):
        NUMBER[name](blur[:, :-1], sharp)
    with pytest.raises(ValueError, match=r"must lie in \[0,1\]"):
        NUMBER[name](blur, sharp * 255)
    with pytest.raises(TypeError, match="float32"):
        NUMBER[name]((blur * 255).astype(np.uint8), sharp)


@pytest.mark.parametrize("name", ["ssim_rgb", "ssim_matlab3d", "realblur_ssim"])
def test_similarity_needs_room_for_its_window_and_one_picture_at_a_time(name: str) -> None:
    small = np.zeros((3, 10, 64), np.float32)
    with pytest.raises(ShapeError, match="at least 11"):
        NUMBER[name](small, small)
    batch = np.zeros((1, 3, 32, 32), np.float32)
    with pytest.raises(ShapeError, match=r"\(3,H,W\)"):
        NUMBER[name](batch, batch)


def test_psnr_needs_numpy_alone_and_the_rest_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("skimage", "skimage.metrics", "scipy", "scipy.ndimage", "cv2"):
        monkeypatch.setitem(sys.modules, module, None)
    blur, sharp = crop()
    assert metrics.psnr(blur, sharp) > 10
    for name in ("ssim_rgb", "ssim_matlab3d", "realblur_psnr"):
        with pytest.raises(MimoError, match="pip install"):
            NUMBER[name](blur, sharp)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 0.5))
def test_psnr_falls_as_the_error_grows(seed: int, scale: float) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.uniform(0.25, 0.75, (3, 6, 7)).astype(np.float32)
    noise = generator.uniform(-0.25, 0.25, truth.shape).astype(np.float32)
    assert metrics.psnr(truth + noise * np.float32(scale / 2), truth) > metrics.psnr(truth + noise * np.float32(scale), truth)


def test_numbers_as_people_read_them() -> None:
    assert metrics.text("psnr", 31.734) == "31.73 dB"
    assert metrics.text("ssim_rgb", 0.95123) == "0.9512"
    assert metrics.text("psnr", math.nan) == "no number"


@pytest.mark.parametrize("name", [name for name in NUMBER if "realblur" not in name])
@pytest.mark.parametrize("rows", [1, 7, 40])
def test_strips_give_the_numbers_of_the_whole_picture(name: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    blur, sharp = crop()
    whole = NUMBER[name](blur, sharp)
    monkeypatch.setattr(metrics, "_STRIP_PIXELS", rows * blur.shape[2])
    assert NUMBER[name](blur, sharp) == pytest.approx(whole, rel=1e-12, abs=0)
    assert NUMBER[name](metrics.Whole(blur), metrics.Whole(sharp)) == pytest.approx(whole, rel=1e-12, abs=0)


@pytest.mark.parametrize("name", [name for name in NUMBER if "realblur" not in name])
def test_no_more_than_a_strip_is_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    blur, sharp = crop()
    monkeypatch.setattr(metrics, "_STRIP_PIXELS", 8 * blur.shape[2])
    most = 0

    class Watched(metrics.Whole):
        def crop(self, rows: slice, columns: slice) -> Pixels:
            nonlocal most
            pixels = super().crop(rows, columns)
            most = max(most, pixels.shape[1])
            return pixels

    NUMBER[name](Watched(blur), Watched(sharp))
    assert 0 < most <= 8 + 2 * 5


def test_nan_in_any_strip_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    blur, sharp = crop()
    monkeypatch.setattr(metrics, "_STRIP_PIXELS", 8 * blur.shape[2])
    blur[1, -1, -1] = np.nan
    assert all(math.isnan(value) for value in metrics.score(blur, sharp, "mimo").values())


def test_realblur_refuses_what_it_could_not_align_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    blur, sharp = crop()
    monkeypatch.setattr(metrics, "MOST_ALIGNED", 96 * 128 - 1)
    with pytest.raises(ShapeError, match="aligns whole pictures"):
        metrics.realblur(blur, sharp)
