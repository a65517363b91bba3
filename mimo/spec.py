"""What a network is and which shapes it takes. Frozen values, checked when they are made; no torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mimo.errors import ShapeError

SMALLEST_SIDE = 16
MOST_PIXELS = 2**31 - 1
"""Of a batch: runtimes count elements in 32 bits."""
"""The shortest side in pixels that is accepted: four samples at MIMO-UNet's coarsest scale."""


WHOLE_IMAGE = 1 << 20
"""As a context in pixels: more than any image has."""

Parameter = int | str | tuple[int, ...]
"""What tells one variant of a network from another: a width, a number of blocks, the blocks of each level."""


@dataclass(frozen=True)
class ModelSpec:
    """One variant of a network, as :mod:`mimo.networks.registry` makes it.

    ``name``: of the variant, used for files. ``network``: of the registry's entry. ``parameters``: what :attr:`network` is
    built from. ``size_multiple``: height and width of an input must be multiples of it. ``context``: pixels on each side
    with which a tile equals the whole image; :data:`WHOLE_IMAGE` where no such radius is known.
    """

    name: str
    network: str
    parameters: Mapping[str, Parameter] = field(hash=False)
    size_multiple: int
    context: int = WHOLE_IMAGE

    @property
    def has_context(self) -> bool:
        """Whether a tile can equal the whole image."""
        return self.context < WHOLE_IMAGE

    def to_json(self) -> dict[str, Any]:
        """As it stands in a sidecar; :func:`mimo.networks.registry.spec_from_json` reads it back."""
        return {
            "name": self.name,
            "network": self.network,
            "parameters": {key: list(value) if isinstance(value, tuple) else value for key, value in self.parameters.items()},
            "size_multiple": self.size_multiple,
        }

    def __str__(self) -> str:
        told = ", ".join(
            f"{key.replace('_', ' ')} {'-'.join(map(str, value)) if isinstance(value, tuple) else value}"
            for key, value in self.parameters.items()
        )
        return f"{self.name}: {told}" if told else self.name


@dataclass(frozen=True, order=True)
class Shape:
    """Batch, height and width of an NCHW batch of RGB images. Raises :class:`ShapeError` for an invalid one."""

    batch: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ShapeError(f"{self}: the batch must be at least 1.")
        if min(self.height, self.width) < SMALLEST_SIDE:
            raise ShapeError(f"{self}: height and width must be at least {SMALLEST_SIDE} pixels.")
        if self.batch * self.height * self.width > MOST_PIXELS:
            raise ShapeError(f"{self}: batch x height x width must be at most {MOST_PIXELS} pixels.")

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
