"""Colour for pixels that show none: what stands behind full transparency, taken from the visible neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def filled(samples: NDArray[Any], hidden: NDArray[np.bool_]) -> NDArray[Any]:
    """``samples`` (H,W,C) with each pixel that is ``hidden`` (H,W) replaced by the mean of the visible ones near it.

    By a pyramid of means, so that no visible pixel changes and a large hole costs no more than a small one. Where nothing
    is visible at all the samples are returned as they are.
    """
    if hidden.all():
        return samples
    result = samples.copy()
    _fill(result, hidden)
    return result


def _fill(samples: NDArray[Any], hidden: NDArray[np.bool_]) -> None:
    """Fill ``samples`` in place from a picture of half the size, which is filled in the same way first."""
    if not hidden.any():
        return
    height, width, bands = samples.shape
    half = ((height + 1) // 2, (width + 1) // 2)
    total = np.zeros((*half, bands), np.float32)
    count = np.zeros(half, np.uint8)
    for top in (0, 1):
        for left in (0, 1):
            seen = ~hidden[top::2, left::2]
            rows, columns = seen.shape
            total[:rows, :columns] += samples[top::2, left::2] * seen[:, :, None]
            count[:rows, :columns] += seen
    total /= np.maximum(count, 1)[:, :, None]
    _fill(total, count == 0)
    for top in (0, 1):
        for left in (0, 1):
            part, unseen = samples[top::2, left::2], hidden[top::2, left::2]
            rows, columns = unseen.shape
            values = total[:rows, :columns][unseen]
            part[unseen] = values if samples.dtype == np.float32 else np.rint(values)
