"""Small pairs, recipes and processes for the tests of training."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimo.images import Photo, write_photo
from mimo.learning.recipe import Recipe
from mimo.networks.registry import mimo_unet

ROOT = Path(__file__).parents[3]
TINY = mimo_unet(8, 1)


def picture(seed: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """Coarse blocks under fine noise: something that blur changes."""
    draw = np.random.default_rng(seed)
    blocks = draw.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    samples: NDArray[np.uint8] = np.clip(blocks + draw.integers(-20, 21, (height, width, 3)), 0, 255).astype(np.uint8)
    return samples


def write_picture(path: Path, samples: NDArray[np.uint8]) -> None:
    write_photo(path, Photo(samples, None))


def write_pairs(folder: Path, count: int, *, scene: str = "scene", height: int = 48, width: int = 64, seed: int = 0) -> Path:
    """``count`` pairs, the blurry one a mean of shifted copies of the sharp one."""
    for number in range(count):
        sharp = picture(seed * 1000 + number, height, width)
        blur = np.mean([np.roll(sharp, shift, axis=1) for shift in range(-2, 3)], axis=0).astype(np.uint8)
        for side, samples in (("blur", blur), ("sharp", sharp)):
            write_picture(folder / side / f"{scene}_{number:06d}.png", samples)
    return folder


def write_dataset(folder: Path, *, train: int = 5, val: int = 2) -> Path:
    write_pairs(folder / "train", train)
    write_pairs(folder / "val", val, seed=1)
    return folder


def recipe(data: Path, **changes: Any) -> Recipe:
    """Steps of a few milliseconds."""
    tiny = Recipe(TINY, (data,), iterations=4, batch_size=2, patch_size=32, lr=1e-3, val_every=1000, save_every=1000)
    return replace(tiny, **changes)


def environment() -> dict[str, str]:
    """For processes that share this machine: one thread each, warnings are errors as in the tests."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def start(module: str, *arguments: str, processes: int = 1) -> subprocess.Popen[str]:
    """Start ``python -m module``, under torchrun for several processes. Its output is one stream of text."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    return subprocess.Popen(
        [sys.executable, *torchrun, "-m", module, *arguments],
        cwd=ROOT,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
