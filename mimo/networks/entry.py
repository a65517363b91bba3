"""What the registry says of a network. No torch here: a sidecar is read where there may be none."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mimo.errors import CheckpointError
from mimo.spec import ModelSpec, Parameter

if TYPE_CHECKING:
    from torch import nn

Shapes = Mapping[str, tuple[int, ...]]
"""``{key: shape}`` of a state dict, without prefixes."""
Parameters = Mapping[str, Parameter]

MOST_CHANNELS = 4096
MOST_BLOCKS = 999
"""Of one kind in one place. Networks beyond these are no networks but a way to use up memory."""


@dataclass(frozen=True)
class Published:
    """What the literature reports: on GoPro, and for 1280x720 on ``gpu``; None where it reports nothing."""

    psnr: float
    """In dB, of the test set."""
    async_seconds: float | None = None
    """Until the call returned, with the GPU still at work."""
    sync_seconds: float | None = None
    """Until the result was there."""
    gpu: str | None = None


@dataclass(frozen=True)
class Variant:
    """One set of parameters that has a name."""

    name: str
    title: str
    """As in tables."""
    parameters: Parameters
    published: Published | None = None
    weights: int | None = None
    """How many there are, where the paper or its code says so."""


@dataclass(frozen=True)
class Network:
    """One network: how its state dict is recognised, how it is built, and what is known of it.

    The built module takes float (N,3,H,W), RGB in [0,1], and returns the restored image of the same shape, or several
    tensors of which the last is that image.
    """

    name: str
    paper: str
    recognise: Callable[[Shapes], Parameters | None]
    """The parameters behind a state dict, or None for another network's.

    Raises :class:`CheckpointError` for one that has the network's keys and cannot be one.
    """
    build: Callable[[Parameters], nn.Module]
    """A new network with random weights; imports torch."""
    variants: tuple[Variant, ...]
    other: Callable[[Parameters], str]
    """The name of a variant that has none."""
    size_multiple: int | Callable[[Parameters], int]
    context: Callable[[Parameters], int] | None = None
    """Measured radius of the receptive field in pixels, rounded up to the size multiple; None where it is the whole image."""
    outputs: tuple[str, ...] = ("sharp",)
    """What the module returns, in its order; ``sharp`` is the last."""
    deployed: Callable[[nn.Module], nn.Module] | None = None
    """The same network in a form that takes less to run, for export; equal but for rounding."""
    key: Callable[[str], str] = lambda name: name
    """The network's own name of a tensor that a checkpoint calls by an older one."""

    def spec(self, parameters: Parameters) -> ModelSpec:
        """The variant with ``parameters``."""
        name = next((one.name for one in self.variants if one.parameters == parameters), None) or self.other(parameters)
        multiple = self.size_multiple if isinstance(self.size_multiple, int) else self.size_multiple(parameters)
        return (
            ModelSpec(name, self.name, dict(parameters), multiple, self.context(parameters))
            if self.context
            else ModelSpec(name, self.name, dict(parameters), multiple)
        )


def counted(shapes: Shapes, pattern: str, network: str) -> int:
    """How many numbers stand at the group of ``pattern`` in the keys: 0, 1, 2 ... without a gap.

    Raises :class:`CheckpointError` where one is missing or there are more than :data:`MOST_BLOCKS`.
    """
    expression = re.compile(pattern)
    found = {match[1] for key in shapes if (match := expression.match(key))}
    if len(found) > MOST_BLOCKS or found != {str(number) for number in range(len(found))}:
        raise CheckpointError(
            f"no {network} is like this: {len(found)} blocks whose numbers are not 0, 1, 2 ... without a gap "
            f"(at most {MOST_BLOCKS}); download the checkpoint again."
        )
    return len(found)


def channels(shapes: Shapes, key: str, network: str, *, least: int = 1) -> int:
    """The first size of the tensor ``key``, a convolution's number of outputs.

    Raises :class:`CheckpointError` where it is no convolution, or has fewer than ``least`` or over :data:`MOST_CHANNELS`.
    """
    shape = shapes.get(key, ())
    if len(shape) != 4 or not least <= shape[0] <= MOST_CHANNELS:
        size = f"{shape[0]:,} channels" if len(shape) == 4 else f"{len(shape)} dimensions"
        raise CheckpointError(
            f"no {network} is like this: {key} has {size}, where a convolution of {least} to {MOST_CHANNELS:,} channels "
            "belongs; download the checkpoint again."
        )
    return shape[0]
