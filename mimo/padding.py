"""The one way in which pictures are made larger: mirrored at their lower and right edges, without repeating the edge."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


def pad_to(images: NDArray[Scalar], height: int, width: int) -> NDArray[Scalar]:
    """``images`` (...,H,W) mirrored below and right to at least ``height`` and ``width``; itself if there is nothing to do.

    An edge is not repeated (``reflect``): that is how every picture reaches the network's size multiple, in deblurring,
    validation, verification and measuring. More than a picture's own size is mirrored again; a single row or column is
    repeated.
    """
    below, right = max(0, height - images.shape[-2]), max(0, width - images.shape[-1])
    if not (below or right):
        return images
    return np.pad(images, ((0, 0),) * (images.ndim - 2) + ((0, below), (0, right)), mode="reflect")
