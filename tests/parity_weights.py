"""Weights and inputs behind the files in tests/parity: the same numbers from NumPy alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PARITY = Path(__file__).with_name("parity")
GAIN = {"MIMO-UNet": 0.8, "MIMO-UNetPlus": 0.68}
"""Every other network: 0.8. MIMO-UNetPlusPlus.npz uses the MIMO-UNetPlus weights."""


def image(seed: int = 999, height: int = 64, width: int = 96) -> NDArray[np.float32]:
    """Input (1,3,H,W) in [0,1]; MT-RNN's is the same times 255; labels for the loss use seed 998."""
    return np.random.default_rng(seed).random((1, 3, height, width), dtype=np.float32)


def keys(network: str) -> dict[str, tuple[int, ...]]:
    """``{key: shape}`` as listed for ``network``, in the file's order."""
    listed = {}
    for line in (PARITY / f"{network}.keys.txt").read_text().splitlines():
        key, shape = line.split(" ", 1)
        listed[key] = tuple(int(number) for number in shape.strip("() ,").split(",") if number.strip())
    return listed


def weights(shapes: Mapping[str, tuple[int, ...]], gain: float = 0.8) -> dict[str, NDArray[np.float32]]:
    """One tensor per key, keys in sorted order; those of MT-RNN's fixed mean shifts are left out."""
    filled = {}
    for number, key in enumerate(sorted(shapes)):
        shape = shapes[key]
        if "mean" in key:
            continue
        draw = np.random.default_rng(number).standard_normal(shape).astype(np.float32)
        if len(shape) == 4:
            draw = draw * np.float32(gain / np.sqrt(int(np.prod(shape[1:]))))
        elif key.endswith("bias"):
            draw = draw * np.float32(0.02)
        else:
            draw = np.float32(0.25) + draw * np.float32(0.02)
        # NAFNet-32 only: beta and gamma are 0.2, norm weights 1, norm biases 0.
        if key.endswith(("beta", "gamma")):
            draw = np.full(shape, 0.2, np.float32)
        if ".norm" in key:
            draw = np.full(shape, 1.0 if key.endswith("weight") else 0.0, np.float32)
        filled[key] = draw
    return filled
