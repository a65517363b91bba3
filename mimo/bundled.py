"""What is bundled: the weights that ``mimo`` starts from and a few photographs."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mimo.files import sha256_of
from mimo.kinds import kind_of

if TYPE_CHECKING:
    from mimo.networks.checkpoint import Checkpoint

WEIGHTS = Path(__file__).with_name("weights") / "mimo-unet.safetensors"
SMALL_WEIGHTS = WEIGHTS.with_name("mimo-unet-small.safetensors")
"""Of the small sibling, which is ours."""
PHOTOGRAPHS = Path(__file__).with_name("photographs")
"""Pairs of real photographs, 1280x720, in ``blur/`` and ``sharp/``; GoPro dataset, CC BY 4.0, see the README there."""

SHIPPED = {"mimo-unet": WEIGHTS, "mimo-unet-small": SMALL_WEIGHTS}
"""Weights that come with the project, by the network's name."""
GRAPHS = {name: path.with_suffix(".onnx") for name, path in SHIPPED.items()}
"""The same as FP32 ONNX, so that deploying them needs no torch; made by ``python -m export.bundle``."""


def given_checkpoint(path: Path | None) -> Checkpoint:
    """The checkpoint at ``path``, of the bundled network of that name, or the default one. Needs torch.

    Raises :class:`~mimo.errors.CheckpointError` as :func:`~mimo.networks.checkpoint.load_checkpoint` does.
    """
    from mimo.networks.checkpoint import load_checkpoint

    return load_checkpoint(WEIGHTS if path is None else given_file(path))


def given_file(path: Path) -> Path:
    """``path``, or where nothing of that name exists, the bundled weights of the network of that name."""
    return path if path.exists() else SHIPPED.get(str(path), path)


def given_model(path: Path | None, runtime: str = "auto") -> Path:
    """As :func:`given_file`, by default the weights that ship, as a file that ``runtime`` runs: what is bundled is there twice.

    PyTorch takes the weights and every other runtime the graph; ``auto`` is PyTorch where torch is installed.
    """
    found = WEIGHTS if path is None else given_file(path)
    is_bundled = found != path and found in SHIPPED.values()
    runs_weights = runtime == "pytorch" or (runtime == "auto" and find_spec("torch") is not None)
    return GRAPHS[found.stem] if is_bundled and not runs_weights else found


def checkpoint_of(sha256: str, folder: Path) -> Path | None:
    """The checkpoint with that hash, see :func:`with_hash`."""
    return with_hash(sha256, folder, "checkpoint")


def with_hash(sha256: str, folder: Path, kind: Literal["checkpoint", "onnx"]) -> Path | None:
    """The file with that hash: one of ours, or one in ``folder`` or the current directory; None if none has it."""
    ours = SHIPPED if kind == "checkpoint" else GRAPHS
    here = (file for place in dict.fromkeys((folder, Path())) if os.access(place, os.R_OK) for file in sorted(place.iterdir()))
    for file in (*ours.values(), *here):
        if file.is_file() and kind_of(file) == kind and sha256_of(file) == sha256:
            return file
    return None
