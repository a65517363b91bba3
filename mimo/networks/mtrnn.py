"""MT-RNN, on one page: one small network, applied again to what it returned.

D. Park et al., "Multi-Temporal Recurrent Neural Networks for Progressive Non-uniform Single Image Deblurring with
Incremental Temporal Training", ECCV 2020 (arXiv 1911.07410). Names are those of the authors' checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MEAN = (0.4488, 0.4371, 0.4040)
"""Of red, green and blue in the training images."""


class MeanShift(nn.Conv2d):
    """Adds ``sign`` times the mean colour to an image in 0..255; a fixed 1x1 convolution, as in the checkpoints."""

    def __init__(self, sign: int) -> None:
        super().__init__(3, 3, 1)
        with torch.no_grad():
            self.weight.copy_(torch.eye(3).reshape(3, 3, 1, 1))
            assert self.bias is not None
            self.bias.copy_(sign * 255 * torch.tensor(MEAN))
        self.requires_grad_(False)


class ResidualBlock(nn.Module):
    """x + conv3(LeakyReLU(conv3(x))); the shape stays."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        self.stem = nn.Sequential(nn.Conv2d(c, c, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(c, c, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.stem(x)
        return y


def conv(a: int, b: int, kernel: int) -> nn.Sequential:
    """Convolution, nothing after it. (N,a,H,W) -> (N,b,H,W)."""
    return nn.Sequential(nn.Conv2d(a, b, kernel, padding=kernel // 2))


def down(a: int, b: int) -> nn.Sequential:
    """(N,a,H,W) -> (N,b,H/2,W/2)."""
    return nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.LeakyReLU(0.1))


def up(a: int, b: int) -> nn.Sequential:
    """(N,a,H,W) -> (N,b,2H,2W)."""
    return nn.Sequential(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1), nn.LeakyReLU(0.1))


class MTRNN(nn.Module):
    """``iterations`` of one recurrent network, ``width`` channels wide at full size.

    Input: float (N,3,H,W), RGB in [0,1], H and W multiples of 4. Output: the last estimate, same shape, not clamped.
    """

    def __init__(self, iterations: int = 6, width: int = 32) -> None:
        super().__init__()
        self.iterations = iterations
        a, b, c = width, 2 * width, 4 * width
        self.sub_mean = MeanShift(-1)
        self.conv1_1 = conv(6, a, 3)
        self.conv1_2, self.conv1_3, self.conv1_4 = (ResidualBlock(a) for _ in range(3))
        self.conv2_1, self.conv2_c = down(a, b), conv(2 * b, b, 1)
        self.conv2_2, self.conv2_3, self.conv2_4 = (ResidualBlock(b) for _ in range(3))
        self.conv3_1, self.conv3_c = down(b, c), conv(2 * c, c, 1)
        self.conv3_2, self.conv3_3, self.conv3_4 = (ResidualBlock(c) for _ in range(3))
        self.conv4_1, self.conv4_2, self.conv4_3 = (ResidualBlock(c) for _ in range(3))
        self.conv5_1, self.conv5_c = up(c, b), conv(2 * b, b, 1)
        self.conv5_2, self.conv5_3, self.conv5_4 = (ResidualBlock(b) for _ in range(3))
        self.conv6_1, self.conv6_c = up(b, a), conv(2 * a, a, 1)
        self.conv6_2, self.conv6_3, self.conv6_4 = (ResidualBlock(a) for _ in range(3))
        self.img_prd = conv(a, 3, 3)
        self.add_mean = MeanShift(+1)

    def forward(self, x: Tensor) -> Tensor:
        blurry = x * 255.0
        estimate, half, quarter = self.iterate(blurry, blurry, None, None)
        for _ in range(1, self.iterations):
            estimate, half, quarter = self.iterate(blurry, estimate, half, quarter)
        return estimate * (1 / 255)

    def iterate(
        self, blurry: Tensor, estimate: Tensor, half: Tensor | None, quarter: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One iteration: the next estimate (in 0..255, as both images are) and what the next one is to remember.

        ``half`` (N,2w,H/2,W/2) and ``quarter`` (N,4w,H/4,W/4) are what the last one left; None at first.
        """
        blurry = self.sub_mean(blurry)
        x = self.conv1_1(torch.cat([blurry, self.sub_mean(estimate)], dim=1))
        level1 = self.conv1_4(self.conv1_3(self.conv1_2(x)))

        x = self.conv2_1(level1)
        x = self.conv2_c(torch.cat([x, x if half is None else half], dim=1))
        level2 = self.conv2_4(self.conv2_3(self.conv2_2(x)))

        x = self.conv3_1(level2)
        x = self.conv3_c(torch.cat([x, x if quarter is None else quarter], dim=1))
        x = self.conv3_4(self.conv3_3(self.conv3_2(x)))
        quarter = self.conv4_3(self.conv4_2(self.conv4_1(x)))

        x = self.conv5_c(torch.cat([self.conv5_1(quarter), level2], dim=1))
        half = self.conv5_4(self.conv5_3(self.conv5_2(x)))

        x = self.conv6_c(torch.cat([self.conv6_1(half), level1], dim=1))
        x = self.conv6_4(self.conv6_3(self.conv6_2(x)))
        return self.add_mean(self.img_prd(x) + blurry), half, quarter
