"""The smallest MIMO-UNet: two seconds from weights to files, and real in every other respect."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mimo.networks.registry import build, mimo_unet
from mimo.spec import Shape, ShapeRange
from tests.parity_weights import weights

if TYPE_CHECKING:
    from torch import Tensor

WIDTH = 8
SPEC = mimo_unet(WIDTH, 1)
PROFILE = ShapeRange(Shape(1, 16, 16), Shape(1, 64, 96), Shape(2, 256, 384))


@dataclass(frozen=True)
class Tiny:
    """Files of one tiny network, sidecars beside them, made once a session. To be read only: copy what you change."""

    folder: Path
    checkpoint: Path
    onnx: Path
    """FP32."""
    fp16: Path
    """Made from ``onnx``; input and output float32."""
    engine: Path
    """TensorRT-RTX, made from ``fp16`` for :data:`PROFILE`."""


def tiny_state() -> dict[str, Tensor]:
    """Random weights, the same ones every time, with which outputs keep the size of images."""
    import torch

    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in build(SPEC).state_dict().items()}
    filled = weights(shapes)
    return {key: torch.from_numpy(filled[key]) for key in shapes}
