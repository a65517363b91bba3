"""Crops shaken on the fly: made from their number alone, by two ways that agree, with the margin they need and no more."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mimo.learning.crops import Crops, Mixture, Pictures
from mimo.learning.datasets import open_pairs, open_photographs
from mimo.learning.recipe import parse_augment
from mimo.learning.shake import to_linear
from mimo.learning.shaken import Exposure, ShakenCrops, cut, draw_exposure, render, render_on
from mimo.learning.styles import STYLES, Style
from mimo.learning.synthesis import along
from tests.mimo.learning.training_data import picture, write_pairs, write_picture

PLENTY = 2**30
STILL = replace(STYLES["handheld"], noise=0.0)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(5):
        write_picture(folder / f"{number}.png", picture(number, 120 + 10 * number, 200))
    return Pictures(open_photographs(folder), PLENTY)


def crops(pictures: Pictures, *, style: Style = "handheld", sharp: float = 0.125, seed: int = 3) -> ShakenCrops:
    augment = parse_augment("flips,rot90,rgb-shuffle")
    return ShakenCrops(pictures, range(5), patch=32, shake=STYLES[style], sharp=sharp, augment=augment, seed=seed)


def test_sample_n_is_the_same_whoever_makes_it_and_in_whatever_order(pictures: Pictures) -> None:
    whole = crops(pictures).batch(0, 12)
    others = crops(Pictures(pictures.pairs, 0)), crops(pictures)
    assert all(torch.equal(a, b) for a, b in zip(whole, others[0].batch(0, 12), strict=True))
    for number in (11, 0, 7):
        blur, sharp = others[1][number]
        assert np.array_equal(whole[0][number].numpy(), blur) and np.array_equal(whole[1][number].numpy(), sharp)
    assert not torch.equal(whole[1], crops(pictures, seed=4).batch(0, 12)[1])


def test_no_crop_is_seen_twice_and_every_photograph_once_an_epoch(pictures: Pictures) -> None:
    source = crops(pictures)
    assert len({source[number][1].tobytes() for number in range(60)}) == 60
    shapes = Counter(source.draw(number)[0].shape for number in range(10))
    assert set(shapes.values()) == {2} and len(shapes) == 5


def test_one_in_eight_is_sharp_already_and_the_rest_is_not(pictures: Pictures) -> None:
    source = ShakenCrops(pictures, range(5), patch=32, shake=STILL, sharp=0.125, seed=1)
    same = [np.array_equal(*source[number]) for number in range(400)]
    assert 30 <= sum(same) <= 70
    assert not any(np.array_equal(*crops(pictures, sharp=0.0)[number]) for number in range(30))


def test_a_crop_is_made_from_its_own_surroundings_only(pictures: Pictures) -> None:
    """Whatever the rest of the photograph holds, the crop stays: only square and margin are read."""
    photograph = picture(1, 400, 400)
    for number in range(20):
        exposure = draw_exposure(np.random.default_rng(number), 400, 400, patch=32, shake=STILL)
        window = cut(photograph, exposure)
        assert window.shape[0] == window.shape[1] == exposure.side + 2 * exposure.margin < 200
        # The trajectory and its turning need the whole margin but for the pixels that interpolation may take.
        reach = max(float(np.abs(track[:, :2]).max()) for track in exposure.tracks)
        assert reach < exposure.margin <= reach * 1.5 + 8


def test_the_margin_holds_all_that_any_pose_looks_at(pictures: Pictures) -> None:
    photograph = picture(2, 300, 300)
    for number in range(20):
        exposure = draw_exposure(np.random.default_rng(number), 300, 300, patch=32, shake=replace(STILL, turn=1.0))
        wider = replace(exposure, margin=exposure.margin + 9)
        for narrow, wide in zip(*(render(cut(photograph, one), one, 32) for one in (exposure, wider)), strict=True):
            # To the rounding of float32 coordinates, which a wider window changes.
            assert np.abs(narrow.astype(int) - wide).max() <= 1


@pytest.mark.parametrize("style", ["shake", "handheld", "video"])
def test_torch_and_opencv_make_the_same_pixels(style: Style) -> None:
    photograph = picture(3, 260, 300)
    moved = 0
    for number in range(24):
        shake = replace(STYLES[style], noise=0.0)
        exposure = draw_exposure(np.random.default_rng(number), 260, 300, patch=64, shake=shake, sharp=0.1)
        moved += exposure.region_seed is not None
        window = cut(photograph, exposure)
        ours = render(window, exposure, 64)
        theirs = render_on(torch.from_numpy(np.ascontiguousarray(window)), exposure, 64)
        for one, other in zip(ours, theirs, strict=True):
            assert np.abs(one.astype(int) - other.numpy()).max() <= 1
    assert (moved > 0) == (style == "video")


def test_the_noise_is_the_same_in_distribution() -> None:
    flat = np.full((64, 64, 3), 120, np.uint8)
    exposure = Exposure(0, 0, 64, 0, (), None, 1.0, 0.02, 5, False)
    noisy, truth = render(flat, exposure, 64)
    other, _ = render_on(torch.from_numpy(flat), exposure, 64)
    assert np.array_equal(truth, flat)
    assert noisy.std() == pytest.approx(other.float().std().item(), rel=0.05) and noisy.std() > 2
    # By the slope of sRGB at this grey, from light to samples.
    slope = float(to_linear(np.array([121], np.uint8))[0] - to_linear(np.array([119], np.uint8))[0]) / 2
    light = float(to_linear(np.array([120], np.uint8))[0])
    assert noisy.std() == pytest.approx(0.02 * np.sqrt(0.02 + 0.98 * light / 0.18) / slope, rel=0.05)


def test_it_is_the_blur_that_synthesize_makes() -> None:
    """The same poses about the middle of a whole picture, by the function that moves whole pictures."""
    light = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    exposure = draw_exposure(np.random.default_rng(4), 96, 96, patch=64, shake=replace(STILL, longest=8.0, scales=(1.0, 1.0)))
    middle = replace(exposure, top=16, left=16, side=64, margin=16, encoded=True, gain=1.0)
    ours, _ = render(cut(light, middle), middle, 64)
    whole = along(light.astype(np.float32) / np.float32(255), list(middle.tracks), None)[16:80, 16:80]
    theirs = np.rint(whole * 255)
    assert np.abs(ours.astype(float) - theirs).max() <= 2


def test_a_photograph_hardly_larger_than_a_crop_is_mirrored_at_its_edges() -> None:
    photograph = picture(4, 33, 40)
    for number in range(10):
        exposure = draw_exposure(np.random.default_rng(number), 33, 40, patch=32, shake=STILL)
        blur, sharp = render(cut(photograph, exposure), exposure, 32)
        assert blur.shape == sharp.shape == (32, 32, 3)
        assert 0 <= exposure.top <= 33 - exposure.side and 0 <= exposure.left <= 40 - exposure.side


def test_a_mixture_takes_its_part_from_each_in_order(tmp_path: Path, pictures: Pictures) -> None:
    real = Crops(Pictures(open_pairs(write_pairs(tmp_path, 4)), PLENTY), patch=32)
    shaken = crops(pictures)
    mixed = Mixture(real, shaken, 0.25)
    assert mixed.pairs == 9 and mixed.patch == 32
    expected = [shaken[0], shaken[1], shaken[2], real[0], shaken[3], shaken[4], shaken[5], real[1]]
    for number, (blur, sharp) in enumerate(expected):
        found = mixed[number]
        assert np.array_equal(found[0], blur) and np.array_equal(found[1], sharp)
    # Evenly spread: a batch of eight has two of them, wherever it begins.
    kinds = [any(np.array_equal(mixed[number][1], real[k][1]) for k in range(20)) for number in range(40)]
    assert {sum(kinds[first : first + 8]) for first in range(32)} == {2}
