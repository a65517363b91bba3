"""MIMO-UNet, on one page.

S.-J. Cho et al., "Rethinking Coarse-to-Fine Approach in Single Image Deblurring", ICCV 2021 (arXiv 2108.05054).
Attribute names (``Encoder``, ``feat_extract``, ``AFFs``, ``main`` ...) are those of the authors' checkpoints, so that
the published state dicts load unchanged; that is why they do not follow this project's naming.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Conv(nn.Module):
    """Convolution with bias and "same" padding, then ReLU unless told otherwise. (N,a,H,W) -> (N,b,H/stride,W/stride)."""

    def __init__(self, a: int, b: int, kernel: int, *, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        convolution = nn.Conv2d(a, b, kernel, stride=stride, padding=kernel // 2)
        self.main = nn.Sequential(convolution, nn.ReLU()) if relu else nn.Sequential(convolution)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.main(x)
        return y


class UpConv(nn.Module):
    """Transposed convolution 4x4, stride 2, then ReLU. (N,a,H,W) -> (N,b,2H,2W)."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.main(x)
        return y


class ResidualBlock(nn.Module):
    """x + conv3(ReLU(conv3(x))); the shape stays."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(Conv(channels, channels, 3), Conv(channels, channels, 3, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.main(x)
        return y


class Stage(nn.Module):
    """A row of residual blocks: an encoder or a decoder of one scale."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


class ShallowFeatures(nn.Module):
    """SCM: features of a shrunken image, the image itself among them. (N,3,H,W) -> (N,channels,H,W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        self.main = nn.Sequential(Conv(3, c // 4, 3), Conv(c // 4, c // 2, 1), Conv(c // 2, c // 2, 3), Conv(c // 2, c - 3, 1))
        self.conv = Conv(c, c, 1, relu=False)

    def forward(self, image: Tensor) -> Tensor:
        y: Tensor = self.conv(torch.cat([image, self.main(image)], dim=1))
        return y


class FeatureAttention(nn.Module):
    """FAM: one map gates the other. Two (N,C,H,W) maps -> one of the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.merge = Conv(channels, channels, 3, relu=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        y: Tensor = a + self.merge(a * b)
        return y


class FeatureFusion(nn.Module):
    """AFF: the maps of all three scales, brought to one size, become one skip connection."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(Conv(a, b, 1), Conv(b, b, 3, relu=False))

    def forward(self, *maps: Tensor) -> Tensor:
        y: Tensor = self.conv(torch.cat(maps, dim=1))
        return y


def half(x: Tensor) -> Tensor:
    """Nearest-neighbour halving: every second sample, from 0."""
    return nn.functional.interpolate(x, scale_factor=0.5)


def double(x: Tensor) -> Tensor:
    """Nearest-neighbour doubling: every sample twice."""
    return nn.functional.interpolate(x, scale_factor=2.0)


class MIMOUNet(nn.Module):
    """The network of ``width`` channels at full size (twice at half, four times at quarter size).

    ``residual_blocks`` of them stand in each of its six stages.

    Input: float (N,3,H,W), RGB in [0,1], H and W multiples of 4; nothing is padded here.
    Output: ``[quarter, half, full]``, the restored image at (H/4,W/4), (H/2,W/2) and (H,W), in the authors' order.
    Values may leave [0,1] a little; clamp where an image is wanted.
    """

    def __init__(self, width: int, residual_blocks: int) -> None:
        super().__init__()
        self.width, self.residual_blocks = c, n = width, residual_blocks
        self.Encoder = nn.ModuleList([Stage(c, n), Stage(2 * c, n), Stage(4 * c, n)])
        self.feat_extract = nn.ModuleList([
            Conv(3, c, 3), Conv(c, 2 * c, 3, stride=2), Conv(2 * c, 4 * c, 3, stride=2),
            UpConv(4 * c, 2 * c), UpConv(2 * c, c), Conv(c, 3, 3, relu=False),
        ])  # fmt: skip
        self.Decoder = nn.ModuleList([Stage(4 * c, n), Stage(2 * c, n), Stage(c, n)])
        self.Convs = nn.ModuleList([Conv(4 * c, 2 * c, 1), Conv(2 * c, c, 1)])
        self.ConvsOut = nn.ModuleList([Conv(4 * c, 3, 3, relu=False), Conv(2 * c, 3, 3, relu=False)])
        self.AFFs = nn.ModuleList([FeatureFusion(7 * c, c), FeatureFusion(7 * c, 2 * c)])
        self.FAM1, self.SCM1 = FeatureAttention(4 * c), ShallowFeatures(4 * c)
        self.FAM2, self.SCM2 = FeatureAttention(2 * c), ShallowFeatures(2 * c)
        # The authors drop whole fused maps while training the deep variant only; it has no parameters.
        self.drop = nn.Dropout2d(0.1 if n == 20 else 0.0)

    def forward(self, x: Tensor) -> list[Tensor]:
        x2 = half(x)
        x4 = half(x2)

        e1 = self.Encoder[0](self.feat_extract[0](x))
        e2 = self.Encoder[1](self.FAM2(self.feat_extract[1](e1), self.SCM2(x2)))
        e3 = self.Encoder[2](self.FAM1(self.feat_extract[2](e2), self.SCM1(x4)))

        a1, a2 = self.fuse(e1, e2, e3)
        a2, a1 = self.drop(a2), self.drop(a1)

        d3 = self.Decoder[0](e3)
        d2 = self.Decoder[1](self.Convs[0](torch.cat([self.feat_extract[3](d3), a2], dim=1)))
        d1 = self.Decoder[2](self.Convs[1](torch.cat([self.feat_extract[4](d2), a1], dim=1)))
        return [self.ConvsOut[0](d3) + x4, self.ConvsOut[1](d2) + x2, self.feat_extract[5](d1) + x]

    def fuse(self, e1: Tensor, e2: Tensor, e3: Tensor) -> tuple[Tensor, Tensor]:
        """The skip connections (N,C,H,W) and (N,2C,H/2,W/2) from the encoder's maps of all three scales."""
        e3_doubled = double(e3)
        return self.AFFs[0](e1, double(e2), double(e3_doubled)), self.AFFs[1](half(e1), e2, e3_doubled)
