"""MIMO-UNet in the form in which it is deployed: the same pixels from half the memory.

The feature fusion (AFF) brings the maps of three scales to one size and reduces their 224 channels (at width 32) to 32 with
a 1x1 convolution. A 1x1 convolution looks at one sample alone, so it commutes with nearest-neighbour resizing: reducing
first and resizing after gives the same sums, but 224 channels at full size, where a runtime's memory peaks, never exist.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mimo.networks.mimo_unet import FeatureFusion, MIMOUNet, double, half


class LeanMIMOUNet(MIMOUNet):
    """``network`` with other fusions: for inference only, equal to it but for the rounding of sums in another order."""

    def __init__(self, network: MIMOUNet) -> None:
        super().__init__(network.width, network.residual_blocks)
        self.load_state_dict(network.state_dict())
        self.fusions = nn.ModuleList(_Fusion(cast(FeatureFusion, fusion), level) for level, fusion in enumerate(self.AFFs))
        del self.AFFs
        self.eval()

    def fuse(self, e1: Tensor, e2: Tensor, e3: Tensor) -> tuple[Tensor, Tensor]:
        return self.fusions[0](e1, e2, e3), self.fusions[1](half(e1), e2, e3)


class _Fusion(nn.Module):
    """Three maps -> one of the size of number ``level``; coarser ones are doubled, finer ones have that size already."""

    def __init__(self, fusion: FeatureFusion, level: int) -> None:
        super().__init__()
        self.level = level
        first: nn.Conv2d = fusion.get_submodule("conv.0.main.0")  # type: ignore[assignment]
        width = first.in_channels // 7
        parts = [nn.Conv2d(width * 2**place, first.out_channels, 1, bias=place == 0) for place in range(3)]
        with torch.no_grad():
            for part, weight in zip(parts, torch.split(first.weight, [part.in_channels for part in parts], dim=1), strict=True):
                part.weight.copy_(weight)
            parts[0].bias = first.bias
        self.parts, self.rest = nn.ModuleList(parts), fusion.conv[1]

    def forward(self, *maps: Tensor) -> Tensor:
        total = self.parts[2](maps[2])
        for place in (1, 0):
            # What has been added up from coarse to fine is doubled at every step up to the level.
            total = (double(total) if place >= self.level else total) + self.parts[place](maps[place])
        y: Tensor = self.rest(torch.relu(total))
        return y
