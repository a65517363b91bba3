"""Cutting images into patches, for the networks that see an image in parts."""

from __future__ import annotations

from torch import Tensor

HEIGHT, WIDTH = 2, 3
"""Dimensions of a (N,C,H,W) tensor, along which it is cut and joined."""


def halves(image: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Cut in two along ``dim``, whose size is even."""
    middle = image.shape[dim] // 2
    return image.narrow(dim, 0, middle), image.narrow(dim, middle, middle)
