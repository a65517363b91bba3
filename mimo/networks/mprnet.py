"""MPRNet (deblurring), on one page: three stages, on quarters, on halves and on the whole image.

S. W. Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021 (arXiv 2102.02808).
Names are those of the authors' checkpoints. There are no biases, and one PReLU whose parameter all blocks share.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mimo.networks.patches import HEIGHT, WIDTH, halves

Widths = tuple[int, int, int]
"""Channels at full, half and quarter size of a U-Net; in the published network 96, 144, 192."""

Levels = list[Tensor]
"""Three maps of one U-Net half: full, half and quarter size, with :data:`Widths` channels."""


def conv(a: int, b: int, kernel: int) -> nn.Conv2d:
    """Convolution without bias. (N,a,H,W) -> (N,b,H,W)."""
    return nn.Conv2d(a, b, kernel, padding=kernel // 2, bias=False)


class ChannelAttention(nn.Module):
    """Scales each channel by what its mean says; the shape stays."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        c, few = channels, channels // reduction
        self.conv_du = nn.Sequential(conv(c, few, 1), nn.ReLU(), conv(few, c, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.conv_du(nn.functional.adaptive_avg_pool2d(x, 1))
        return y


class CAB(nn.Module):
    """Channel attention block: a residual block with :class:`ChannelAttention`; the shape stays."""

    def __init__(self, channels: int, act: nn.PReLU, reduction: int) -> None:
        super().__init__()
        self.CA = ChannelAttention(channels, reduction)
        self.body = nn.Sequential(conv(channels, channels, 3), act, conv(channels, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.CA(self.body(x)) + x
        return y


def two_blocks(channels: int, act: nn.PReLU, reduction: int) -> nn.Sequential:
    """One level of an encoder or a decoder."""
    return nn.Sequential(*(CAB(channels, act, reduction) for _ in range(2)))


class Down(nn.Module):
    """Bilinear halving, then 1x1. (N,a,H,W) -> (N,b,H/2,W/2)."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Upsample(scale_factor=0.5, mode="bilinear", align_corners=False), conv(a, b, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(x)
        return y


class Up(nn.Module):
    """Bilinear doubling, then 1x1. (N,a,H,W) -> (N,b,2H,2W)."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False), conv(a, b, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.up(x)
        return y


class Encoder(nn.Module):
    """(N,a,H,W) -> three levels; with ``fused``, each level takes in those of the stage before."""

    def __init__(self, widths: Widths, act: nn.PReLU, reduction: int, *, fused: bool = False) -> None:
        super().__init__()
        a, b, c = widths
        self.encoder_level1, self.encoder_level2, self.encoder_level3 = (two_blocks(c, act, reduction) for c in widths)
        self.down12, self.down23 = Down(a, b), Down(b, c)
        if fused:
            self.csff_enc1, self.csff_enc2, self.csff_enc3 = (conv(c, c, 1) for c in widths)
            self.csff_dec1, self.csff_dec2, self.csff_dec3 = (conv(c, c, 1) for c in widths)

    def forward(self, x: Tensor, encoded: Levels | None = None, decoded: Levels | None = None) -> Levels:
        e1 = self.encoder_level1(x)
        if encoded and decoded:
            e1 = e1 + self.csff_enc1(encoded[0]) + self.csff_dec1(decoded[0])
        e2 = self.encoder_level2(self.down12(e1))
        if encoded and decoded:
            e2 = e2 + self.csff_enc2(encoded[1]) + self.csff_dec2(decoded[1])
        e3 = self.encoder_level3(self.down23(e2))
        if encoded and decoded:
            e3 = e3 + self.csff_enc3(encoded[2]) + self.csff_dec3(decoded[2])
        return [e1, e2, e3]


class Decoder(nn.Module):
    """An encoder's levels -> as many of the same shapes."""

    def __init__(self, widths: Widths, act: nn.PReLU, reduction: int) -> None:
        super().__init__()
        a, b, c = widths
        self.decoder_level1, self.decoder_level2, self.decoder_level3 = (two_blocks(c, act, reduction) for c in widths)
        self.skip_attn1, self.skip_attn2 = CAB(a, act, reduction), CAB(b, act, reduction)
        self.up21, self.up32 = Up(b, a), Up(c, b)

    def forward(self, encoded: Levels) -> Levels:
        e1, e2, e3 = encoded
        d3 = self.decoder_level3(e3)
        d2 = self.decoder_level2(self.up32(d3) + self.skip_attn2(e2))
        d1 = self.decoder_level1(self.up21(d2) + self.skip_attn1(e1))
        return [d1, d2, d3]


class SAM(nn.Module):
    """Supervised attention: (N,C,H,W) and the blurry image -> what to hand on, same shape, and a restored image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        self.conv1, self.conv2, self.conv3 = conv(c, c, 1), conv(c, 3, 1), conv(3, c, 1)

    def forward(self, x: Tensor, blurry: Tensor) -> tuple[Tensor, Tensor]:
        image = self.conv2(x) + blurry
        return self.conv1(x) * torch.sigmoid(self.conv3(image)) + x, image


class ORB(nn.Module):
    """Original resolution block: a residual row of ``blocks`` :class:`CAB` and a conv; the shape stays."""

    def __init__(self, channels: int, act: nn.PReLU, blocks: int, reduction: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*(CAB(channels, act, reduction) for _ in range(blocks)), conv(channels, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.body(x)
        return y


class ORSNet(nn.Module):
    """Original resolution subnetwork: (N,last,H,W) and the second stage's levels -> (N,last,H,W)."""

    def __init__(self, widths: Widths, last: int, act: nn.PReLU, blocks: int, reduction: int) -> None:
        super().__init__()
        a, b, c = widths
        self.orb1, self.orb2, self.orb3 = (ORB(last, act, blocks, reduction) for _ in range(3))
        self.up_enc1, self.up_dec1 = Up(b, a), Up(b, a)
        self.up_enc2, self.up_dec2 = (nn.Sequential(Up(c, b), Up(b, a)) for _ in range(2))
        self.conv_enc1, self.conv_enc2, self.conv_enc3 = (conv(a, last, 1) for _ in range(3))
        self.conv_dec1, self.conv_dec2, self.conv_dec3 = (conv(a, last, 1) for _ in range(3))

    def forward(self, x: Tensor, encoded: Levels, decoded: Levels) -> Tensor:
        x = self.orb1(x) + self.conv_enc1(encoded[0]) + self.conv_dec1(decoded[0])
        x = self.orb2(x) + self.conv_enc2(self.up_enc1(encoded[1])) + self.conv_dec2(self.up_dec1(decoded[1]))
        y: Tensor = self.orb3(x) + self.conv_enc3(self.up_enc2(encoded[2])) + self.conv_dec3(self.up_dec2(decoded[2]))
        return y


def joined(a: Levels, b: Levels, dim: int) -> Levels:
    """Each level of ``a`` with that of ``b`` beside it along ``dim``."""
    return [torch.cat([one, other], dim=dim) for one, other in zip(a, b, strict=True)]


class MPRNet(nn.Module):
    """The whole network; the defaults are the published one's.

    ``blocks`` of channel attention in each original resolution block; attention has channels / ``reduction`` in its middle.
    Input: float (N,3,H,W), RGB in [0,1], H and W multiples of 8. Output: the third stage's image, same shape, not clamped.
    """

    def __init__(
        self, channels: Widths = (96, 144, 192), last_channels: int = 128, blocks: int = 8, reduction: int = 4
    ) -> None:
        super().__init__()
        c, act = channels[0], nn.PReLU()
        self.shallow_feat1, self.shallow_feat2, self.shallow_feat3 = (
            nn.Sequential(conv(3, c, 3), CAB(c, act, reduction)) for _ in range(3)
        )
        self.stage1_encoder, self.stage1_decoder = Encoder(channels, act, reduction), Decoder(channels, act, reduction)
        self.stage2_encoder = Encoder(channels, act, reduction, fused=True)
        self.stage2_decoder = Decoder(channels, act, reduction)
        self.stage3_orsnet = ORSNet(channels, last_channels, act, blocks, reduction)
        self.sam12, self.sam23 = SAM(c), SAM(c)
        self.concat12, self.concat23 = conv(2 * c, c, 3), conv(2 * c, last_channels, 3)
        self.tail = conv(last_channels, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.restore(x)[0]

    def restore(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The images of all stages, the last stage's first, in the authors' order."""
        images1, encoded2s = [], []
        for half in halves(x, HEIGHT):
            left, right = (self.stage1_encoder(self.shallow_feat1(part)) for part in halves(half, WIDTH))
            encoded1 = joined(left, right, WIDTH)
            decoded1 = self.stage1_decoder(encoded1)
            features1, image1 = self.sam12(decoded1[0], half)
            images1.append(image1)
            features2 = self.concat12(torch.cat([self.shallow_feat2(half), features1], dim=1))
            encoded2s.append(self.stage2_encoder(features2, encoded1, decoded1))

        top2, bottom2 = encoded2s
        encoded2 = joined(top2, bottom2, HEIGHT)
        decoded2 = self.stage2_decoder(encoded2)
        features2, image2 = self.sam23(decoded2[0], x)

        features3 = self.concat23(torch.cat([self.shallow_feat3(x), features2], dim=1))
        image3 = self.tail(self.stage3_orsnet(features3, encoded2, decoded2)) + x
        return image3, image2, torch.cat(images1, dim=HEIGHT)
