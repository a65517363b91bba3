from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from mimo.transparency import filled


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_hole_takes_the_colour_around_it(dtype: type) -> None:
    samples: NDArray[Any] = np.full((37, 53, 3), 200, dtype)
    hidden = np.zeros((37, 53), np.bool_)
    hidden[5:30, 10:50] = True
    samples[hidden] = 7
    result = filled(samples, hidden)
    assert result.dtype == dtype and (result == 200).all()
    assert (samples[hidden] == 7).all(), "the caller's array was changed"


@settings(max_examples=50, deadline=None)
@given(hidden=arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 20))), seed=st.integers(0, 99))
def test_visible_samples_stay_and_hidden_ones_come_from_them_alone(hidden: NDArray[np.bool_], seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = rng.integers(0, 256, (*hidden.shape, 3), np.uint8)
    other = np.where(hidden[:, :, None], rng.integers(0, 256, samples.shape, np.uint8), samples)
    result = filled(samples, hidden)
    np.testing.assert_array_equal(result[~hidden], samples[~hidden])
    if not hidden.all():
        np.testing.assert_array_equal(result, filled(other, hidden))
        assert result.min() >= samples[~hidden].min() and result.max() <= samples[~hidden].max()
