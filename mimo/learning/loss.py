"""What MIMO-UNet is trained to make small: the content and the frequency loss of its authors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

FREQUENCY_WEIGHT = 0.1


@dataclass(frozen=True)
class Loss:
    """Both parts, float32 scalars."""

    content: Tensor
    """Sum over the three scales of the mean absolute difference."""
    frequency: Tensor
    """Sum over the scales of the mean absolute difference of the spectra, real and imaginary parts as entries of their own."""

    @property
    def total(self) -> Tensor:
        """content + 0.1 * frequency."""
        return self.content + FREQUENCY_WEIGHT * self.frequency


def deblur_loss(outputs: Tensor | Sequence[Tensor], sharp: Tensor) -> Loss:
    """The loss of the network's ``[quarter, half, full]``, or of one image of full size, against ``sharp`` (N,3,H,W) in [0,1].

    Computed in float32 whatever the outputs' type. The smaller truths are shrunk from the full one, bilinearly, without
    antialiasing. The spectrum is the whole complex one, without normalisation.

    Source: the authors' training code; tests/parity/loss.json has its numbers.
    """
    sharp = sharp.float()
    content, frequency = sharp.new_zeros(()), sharp.new_zeros(())
    scales: tuple[float, ...] = (1.0,) if isinstance(outputs, Tensor) else (0.25, 0.5, 1.0)
    for output, scale in zip([outputs] if isinstance(outputs, Tensor) else outputs, scales, strict=True):
        truth = sharp if scale == 1 else interpolate(sharp, scale_factor=scale, mode="bilinear", align_corners=False)
        difference = output.float() - truth
        content = content + difference.abs().mean()
        # The transform is linear: the difference of the spectra is the spectrum of the difference, at half the cost.
        # torch's complex transform wants planes in memory order, which channels_last pictures are not.
        spectrum = torch.view_as_real(torch.fft.fft2(difference.contiguous()))
        frequency = frequency + spectrum.abs().mean()
    return Loss(content, frequency)
