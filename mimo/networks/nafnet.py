"""NAFNet, on one page: a U-Net of blocks without activation functions.

L. Chen et al., "Simple Baselines for Image Restoration", ECCV 2022 (arXiv 2204.04676).
Names are those of the authors' checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

ENCODER_BLOCKS = (1, 1, 1, 28)
"""Of the published networks, at full, half, quarter and eighth size."""
DECODER_BLOCKS = (1, 1, 1, 1)
"""The same on the way up, from the smallest size."""


class LayerNorm(nn.Module):
    """Normalises each pixel over its channels; the shape stays.

    In elementary operations: ONNX's LayerNormalization works on the last dimensions and would cost two transpositions.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        variance = (centred * centred).mean(dim=1, keepdim=True)
        normal = centred / torch.sqrt(variance + 1e-6)
        return normal * self.weight.reshape(1, -1, 1, 1) + self.bias.reshape(1, -1, 1, 1)


def gate(x: Tensor) -> Tensor:
    """The product of the two halves of the channels. (N,2C,H,W) -> (N,C,H,W)."""
    a, b = x.chunk(2, dim=1)
    return a * b


class Block(nn.Module):
    """A depthwise and a pointwise half, each added to its input; the shape stays."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        # Training begins at zero, where a block does nothing; networks are timed without weights, so the work must count.
        self.beta = nn.Parameter(torch.full((1, c, 1, 1), 0.2))
        self.gamma = nn.Parameter(torch.full((1, c, 1, 1), 0.2))
        self.conv1 = nn.Conv2d(c, 2 * c, 1)
        self.conv2 = nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
        self.conv3 = nn.Conv2d(c, c, 1)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1))
        self.conv4 = nn.Conv2d(c, 2 * c, 1)
        self.conv5 = nn.Conv2d(c, c, 1)
        self.norm1 = LayerNorm(c)
        self.norm2 = LayerNorm(c)

    def forward(self, x: Tensor) -> Tensor:
        gated = gate(self.conv2(self.conv1(self.norm1(x))))
        y = x + self.beta * self.conv3(gated * self.sca(gated))
        z: Tensor = y + self.gamma * self.conv5(gate(self.conv4(self.norm2(y))))
        return z


class NAFNet(nn.Module):
    """The network of ``width`` channels at full size, twice as many at each of the smaller ones, with so many blocks at each.

    Input: float (N,3,H,W), RGB in [0,1], H and W multiples of 2 to the number of sizes (16 with four).
    Output: the restored image, same shape, not clamped.
    """

    def __init__(
        self,
        width: int,
        encoder_blocks: Sequence[int] = ENCODER_BLOCKS,
        middle_blocks: int = 1,
        decoder_blocks: Sequence[int] = DECODER_BLOCKS,
    ) -> None:
        super().__init__()
        self.intro = nn.Conv2d(3, width, 3, padding=1)
        self.ending = nn.Conv2d(width, 3, 3, padding=1)
        widths = [width * 2**level for level in range(len(encoder_blocks))]
        self.encoders = nn.ModuleList(
            nn.Sequential(*(Block(c) for _ in range(blocks))) for c, blocks in zip(widths, encoder_blocks, strict=True)
        )
        self.decoders = nn.ModuleList(
            nn.Sequential(*(Block(c) for _ in range(blocks)))
            for c, blocks in zip(reversed(widths), decoder_blocks, strict=True)
        )
        self.middle_blks = nn.Sequential(*(Block(2 * widths[-1]) for _ in range(middle_blocks)))
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * c, 4 * c, 1, bias=False), nn.PixelShuffle(2)) for c in reversed(widths)
        )
        self.downs = nn.ModuleList(nn.Conv2d(c, 2 * c, 2, stride=2) for c in widths)

    def forward(self, x: Tensor) -> Tensor:
        y = self.intro(x)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            y = encoder(y)
            skips.append(y)
            y = down(y)
        y = self.middle_blks(y)
        for up, decoder, skip in zip(self.ups, self.decoders, reversed(skips), strict=True):
            y = decoder(up(y) + skip)
        image: Tensor = self.ending(y) + x
        return image
