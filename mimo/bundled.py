"""What comes with the project: the weights that ``mimo`` starts from and a few photographs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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

    if path is not None and not path.exists():
        path = SHIPPED.get(str(path), path)
    return load_checkpoint(path or WEIGHTS)
