"""DMPHN, on one page: a hierarchy of patches, stacked.

H. Zhang et al., "Deep Stacked Hierarchical Multi-Patch Network for Image Deblurring", CVPR 2019 (arXiv 1904.03468).
Names (``layer1`` ..., ``encoder_s1_lv1`` ...) are those of the authors' checkpoints, one file for each part; that is why
the layers' numbers have gaps.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mimo.networks.patches import HEIGHT, WIDTH, halves


def conv3(a: int, b: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution. (N,a,H,W) -> (N,b,H/stride,W/stride)."""
    return nn.Conv2d(a, b, 3, stride=stride, padding=1)


def up(a: int, b: int) -> nn.ConvTranspose2d:
    """Transposed convolution 4x4, stride 2. (N,a,H,W) -> (N,b,2H,2W)."""
    return nn.ConvTranspose2d(a, b, 4, stride=2, padding=1)


class Pair(nn.Sequential):
    """x + conv3(ReLU(conv3(x))); the shape stays."""

    def __init__(self, channels: int) -> None:
        super().__init__(conv3(channels, channels), nn.ReLU(), conv3(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        first, relu, second = self
        y: Tensor = x + second(relu(first(x)))
        return y


class Encoder(nn.Sequential):
    """(N,3,H,W) -> (N,4w,H/4,W/4), w channels at full size."""

    def __init__(self, width: int) -> None:
        a, b, c = width, 2 * width, 4 * width
        super().__init__(OrderedDict(
            layer1=conv3(3, a), layer2=Pair(a), layer3=Pair(a),
            layer5=conv3(a, b, stride=2), layer6=Pair(b), layer7=Pair(b),
            layer9=conv3(b, c, stride=2), layer10=Pair(c), layer11=Pair(c),
        ))  # fmt: skip


class Decoder(nn.Sequential):
    """(N,4w,H/4,W/4) -> (N,3,H,W)."""

    def __init__(self, width: int) -> None:
        a, b, c = width, 2 * width, 4 * width
        super().__init__(OrderedDict(
            layer13=Pair(c), layer14=Pair(c), layer16=up(c, b),
            layer17=Pair(b), layer18=Pair(b), layer20=up(b, a),
            layer21=Pair(a), layer22=Pair(a), layer24=conv3(a, 3),
        ))  # fmt: skip


class Maps(NamedTuple):
    """Feature maps of one stage, each as it is decoded: of the quarters, of the halves and of the whole image."""

    top3: Tensor
    bottom3: Tensor
    whole2: Tensor
    whole1: Tensor


class DMPHN(nn.Module):
    """``stages`` hierarchies of 1, 2 and 4 patches, ``width`` channels wide, each restoring the image of the one before.

    Input: float (N,3,H,W), RGB in [0,1], H and W multiples of 8. Output: the restored image, same shape, not clamped.
    """

    def __init__(self, stages: int = 4, width: int = 32) -> None:
        super().__init__()
        self.stages = stages
        for part, kind in (("encoder", Encoder), ("decoder", Decoder)):
            for stage in range(1, stages + 1):
                for level in (1, 2, 3):
                    self.add_module(f"{part}_s{stage}_lv{level}", kind(width))

    def forward(self, x: Tensor) -> Tensor:
        image, maps = self.restore(1, x - 0.5, None, None)
        first = image
        for stage in range(2, self.stages + 1):
            image, maps = self.restore(stage, image, maps, first)
        return image + 0.5

    def restore(self, stage: int, image: Tensor, before: Maps | None, first: Tensor | None) -> tuple[Tensor, Maps]:
        """One stage: a restored image and the stage's maps, from those of the stage ``before`` and the ``first`` image."""
        encode3, encode2, encode1 = (self.get_submodule(f"encoder_s{stage}_lv{level}") for level in (3, 2, 1))
        decode3, decode2, decode1 = (self.get_submodule(f"decoder_s{stage}_lv{level}") for level in (3, 2, 1))
        top, bottom = halves(image, HEIGHT)

        top3, bottom3 = (torch.cat([encode3(part) for part in halves(half, WIDTH)], dim=WIDTH) for half in (top, bottom))
        if before is not None:
            top3, bottom3 = top3 + before.top3, bottom3 + before.bottom3

        top2, bottom2 = encode2(top + decode3(top3)) + top3, encode2(bottom + decode3(bottom3)) + bottom3
        whole2 = torch.cat([top2, bottom2], dim=HEIGHT)
        if before is not None:
            whole2 = whole2 + before.whole2

        restored2 = decode2(whole2)
        if first is not None:
            # Not the image before: the authors add the first stage's in every later stage, and their weights rely on it.
            restored2 = restored2 + first
        whole1 = encode1(image + restored2) + whole2
        if before is not None:
            whole1 = whole1 + before.whole1
        return decode1(whole1), Maps(top3, bottom3, whole2, whole1)
