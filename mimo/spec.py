"""What a network is and which shapes it takes. Frozen values, checked when they are made; no torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mimo.errors import CheckpointError, ShapeError

SMALLEST_SIDE = 16
"""The shortest side in pixels that is accepted: four samples at the coarsest scale."""


SMALLEST_WIDTH = 2
"""With fewer channels the shallow features, which carry the image itself, have none left to compute."""


WHOLE_IMAGE = 1 << 20
"""As a context in pixels: more than any image has."""


@dataclass(frozen=True)
class ModelSpec:
    """One variant of MIMO-UNet, told by its tensor shapes alone.

    ``residual_blocks``: per stage; ``width``: channels at full size (twice at half, four times at quarter size);
    ``size_multiple``: height and width of an input must be multiples of it.
    """

    name: str
    residual_blocks: int
    width: int
    size_multiple: int = 4

    @property
    def context(self) -> int:
        """Pixels of context on each side, a multiple of 4, with which a tile equals the whole image.

        Measured radius of the receptive field: 241 for 8 blocks, 577 for 20; it grows by 28 px a block (7 maps of
        residual blocks: 1 px + 2 px + 4 px, twice each conv), whatever the width.
        """
        if not self.residual_blocks:
            return WHOLE_IMAGE
        radius = 17 + 28 * self.residual_blocks
        return -(-radius // 4) * 4

    @classmethod
    def other(cls, name: str, size_multiple: int) -> ModelSpec:
        """A network that is no MIMO-UNet, of which nothing else is known: no tile of it equals the whole image."""
        return cls(name, 0, 0, size_multiple)

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, tuple[int, ...]]) -> ModelSpec:
        """The spec behind a state dict's ``{key: shape}``.

        Raises :class:`CheckpointError` when a key that tells the variant is missing; that every other key fits is
        checked by loading.
        """
        blocks = {int(found[1]) for key in shapes if (found := re.match(r"Encoder\.0\.layers\.(\d+)\.", key))}
        first = shapes.get("feat_extract.0.main.0.weight")
        if not blocks or first is None or len(first) != 4:
            raise CheckpointError(
                "this is a checkpoint of another network: MIMO-UNet's keys (Encoder.0.layers.*, feat_extract.0.*) are missing."
            )
        depth, width = len(blocks), first[0]
        if blocks != set(range(depth)) or width < SMALLEST_WIDTH:
            raise CheckpointError(
                f"no MIMO-UNet is like this: residual blocks numbered up to {max(blocks)}, {depth} of them, "
                f"and {width} channels; download the checkpoint again."
            )
        for known in SPECS.values():
            if (known.residual_blocks, known.width) == (depth, width):
                return known
        return cls(f"mimo-unet-w{width}-b{depth}", depth, width)


SPECS = {
    spec.name: spec
    for spec in (
        ModelSpec("mimo-unet", 8, 32),
        ModelSpec("mimo-unet-plus", 20, 32),
        # Ours, not the authors': half the width, for machines without a GPU.
        ModelSpec("mimo-unet-small", 8, 16),
    )
}
"""The variants that have a name. The first two are the paper's."""


@dataclass(frozen=True, order=True)
class Shape:
    """Batch, height and width of an NCHW batch of RGB images. Raises :class:`ShapeError` when it cannot be one."""

    batch: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ShapeError(f"{self}: the batch must be at least 1.")
        if min(self.height, self.width) < SMALLEST_SIDE:
            raise ShapeError(f"{self}: height and width must be at least {SMALLEST_SIDE} pixels.")

    def __str__(self) -> str:
        return f"{self.batch}x{self.height}x{self.width}"

    @property
    def nchw(self) -> tuple[int, int, int, int]:
        """(batch, 3, height, width)."""
        return (self.batch, 3, self.height, self.width)

    def padded(self, multiple: int) -> Shape:
        """The smallest shape of which height and width are multiples of ``multiple`` and that holds this one."""
        return Shape(self.batch, -(-self.height // multiple) * multiple, -(-self.width // multiple) * multiple)

    @classmethod
    def parse(cls, text: str) -> Shape:
        """``"1x720x1280"`` (batch, height, width), ``"720x1280"`` (batch 1) or, as trtexec writes it, ``"1x3x720x1280"``.

        Raises :class:`ShapeError`.
        """
        numbers = text.strip().lower().split("x")
        if len(numbers) == 4 and numbers[1] == "3":
            del numbers[1]
        if len(numbers) not in (2, 3) or not all(number.isdecimal() and len(number) < 10 for number in numbers):
            raise ShapeError(f"{text!r:.80} is not a size: write HEIGHTxWIDTH or BATCHxHEIGHTxWIDTH, such as 1x720x1280.")
        values = [int(number) for number in numbers]
        return cls(*values) if len(values) == 3 else cls(1, *values)


@dataclass(frozen=True)
class ShapeRange:
    """The shapes an engine is built for: every dimension from ``min`` to ``max``, tuned for ``opt``.

    Raises :class:`ShapeError` when some min > opt or opt > max, or a side is no multiple of ``multiple``.
    """

    min: Shape
    opt: Shape
    max: Shape
    multiple: int = 4

    def __post_init__(self) -> None:
        for name in ("batch", "height", "width"):
            low, middle, high = (getattr(shape, name) for shape in (self.min, self.opt, self.max))
            if not low <= middle <= high:
                raise ShapeError(
                    f"the profile's {name} runs {low}, {middle}, {high}: min <= opt <= max must hold; "
                    "change --min, --opt or --max."
                )
        for shape in (self.min, self.opt, self.max):
            if shape != shape.padded(self.multiple):
                raise ShapeError(
                    f"{shape}: the profile's heights and widths must be multiples of {self.multiple}; "
                    f"{shape.padded(self.multiple)} is the next one."
                )

    def __contains__(self, shape: Shape) -> bool:
        return all(
            getattr(self.min, name) <= getattr(shape, name) <= getattr(self.max, name) for name in ("batch", "height", "width")
        )

    def __str__(self) -> str:
        return f"{self.min} .. {self.opt} .. {self.max}"
