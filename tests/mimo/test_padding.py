"""One way to make pictures larger."""

from __future__ import annotations

import numpy as np
import pytest

from mimo.padding import pad_to


def test_it_mirrors_below_and_right_without_repeating_the_edge() -> None:
    image = np.arange(12.0).reshape(1, 3, 4)
    padded = pad_to(image, 5, 6)
    np.testing.assert_array_equal(padded, np.pad(image, ((0, 0), (0, 2), (0, 2)), mode="reflect"))
    np.testing.assert_array_equal(padded[0, 3], padded[0, 1])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 1), (3, 2)])
def test_more_than_a_picture_has_is_mirrored_again(height: int, width: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (3, height, width), np.uint8)
    padded = pad_to(image, 16, 20)
    assert padded.shape == (3, 16, 20)
    assert padded.dtype == np.uint8
    assert set(padded.flat) <= set(image.flat)


def test_what_is_large_enough_stays_itself() -> None:
    image = np.zeros((2, 3, 8, 8), np.float32)
    assert pad_to(image, 8, 4) is image
