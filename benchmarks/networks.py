"""The rows of the comparison table: MIMO-UNet's family and the networks it is compared with, each as one module.

A module takes one float32 tensor (N,3,H,W), RGB in [0,1], and returns the image that is deployed, in the same shape.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from mimo.bundled import SHIPPED
from mimo.errors import CheckpointError, MimoError
from mimo.networks.entry import Published
from mimo.networks.registry import NETWORKS, build, named
from mimo.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

Way = Literal["one pass of four", "two batches of two"]
"""How MIMO-UNet++ is run: the first where all four rotations have one shape, the second as its authors did."""

_PLUS_PLUS = Published(32.68, 0.049, 1.115, "RTX 3090")
"""Cho et al., ICCV 2021, table 1, for the PSNR; the times as the other networks'. MIMO-UNet++ is no network of its own."""


@dataclass(frozen=True)
class Network:
    """One row: a network with its weights, if there are any."""

    name: str
    """Of the network behind it: MIMO-UNet++ has MIMO-UNet+'s."""
    title: str
    size_multiple: int
    published: Published | None
    weights: Path | None = None
    """None: untrained, which takes the same time but says nothing of FP16."""
    way: Way | None = None

    @property
    def spec(self) -> ModelSpec:
        return named(self.name)

    @property
    def file(self) -> str:
        """What the row is called in files and columns."""
        return self.name + ("" if self.way is None else "-plus-1x4" if self.way == "one pass of four" else "-plus-2x2")

    def takes(self, height: int, width: int) -> str | None:
        """Why it cannot take images of this size, or None."""
        if height % self.size_multiple or width % self.size_multiple:
            return f"takes multiples of {self.size_multiple} only"
        if self.way == "one pass of four" and height != width:
            return "turned by a quarter, an image that is not square has another shape: no batch of four"
        return None

    def build(self) -> nn.Module:
        """The network in evaluation mode; untrained weights are the same each time.

        Raises :class:`~mimo.errors.CheckpointError` when the weights are not this network's.
        """
        import torch

        from mimo.networks.checkpoint import load_checkpoint

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if self.weights is None:
                network = build(self.spec)
            else:
                checkpoint = load_checkpoint(self.weights)
                if checkpoint.spec.name != self.name:
                    raise CheckpointError(f"{self.weights} is {checkpoint.spec.name}: give it to that network.")
                network = checkpoint.build()
        return _deployed(network.requires_grad_(False), self.way).eval()

    def weights_sha256(self, network: nn.Module) -> str:
        """Of the tensors themselves, in order: trained or not, they are what the numbers belong to."""
        digest = hashlib.sha256()
        for name, value in network.state_dict().items():
            digest.update(name.encode())
            digest.update(value.numpy().tobytes())
        return digest.hexdigest()


def networks(weights: Mapping[str, Path]) -> tuple[Network, ...]:
    """All rows in the table's order; ``weights`` by the network's name, MIMO-UNet's own where none are given.

    Raises :class:`MimoError` for a name that is no network of the table.
    """
    variants = (variant for entry in NETWORKS for variant in entry.variants)
    known = {variant.name: variant for variant in variants if variant.published or variant.name in SHIPPED}
    if unknown := sorted(weights.keys() - known.keys()):
        raise MimoError(f"--weights {unknown[0]}=...: there is no such network in the table: use one of {', '.join(known)}.")
    for path in weights.values():
        if not path.exists():
            raise MimoError(f"--weights: {path} does not exist: check the name.")
    rows: list[Network] = []
    for name, variant in known.items():
        given = weights.get(name, SHIPPED.get(name))
        row = Network(name, variant.title, named(name).size_multiple, variant.published, given)
        rows.append(row)
        if name == "mimo-unet-plus":
            ways = (replace(row, title="MIMO-UNet++", published=_PLUS_PLUS, way=way) for way in cast("tuple[Way, ...]", _WAYS))
            rows += ways
    # What is ours stands below what the literature reports.
    return tuple(sorted(rows, key=lambda row: row.published is None))


_WAYS = ("one pass of four", "two batches of two")


def _deployed(network: nn.Module, way: Way | None) -> nn.Module:
    import torch
    from torch import nn

    class Deployed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, blur: Tensor) -> Tensor:
            outputs = self.network(blur)
            result: Tensor = outputs if isinstance(outputs, torch.Tensor) else outputs[-1]
            return result

    class OnePass(Deployed):
        """The four rotations side by side in the batch."""

        def forward(self, blur: Tensor) -> Tensor:
            turned = [torch.rot90(blur, quarters, (2, 3)) for quarters in range(4)]
            return _mean(_parts(super().forward(torch.cat(turned)), blur.shape[0], 4), range(4))

    class TwoPasses(Deployed):
        """0 and 180 degrees, then 90 and 270: the shapes of each two are equal."""

        def forward(self, blur: Tensor) -> Tensor:
            outputs: list[Any] = []
            for pair in ((0, 2), (1, 3)):
                turned = [torch.rot90(blur, quarters, (2, 3)) for quarters in pair]
                outputs += _parts(super().forward(torch.cat(turned)), blur.shape[0], 2)
            return _mean(outputs, (0, 2, 1, 3))

    def _parts(batch: Tensor, size: int, count: int) -> list[Tensor]:
        # Not chunk: exported, it would take one batch size only.
        return [batch[index * size : (index + 1) * size] for index in range(count)]

    def _mean(outputs: Any, quarters: Any) -> Tensor:
        back = [torch.rot90(output, -turn, (2, 3)) for output, turn in zip(outputs, quarters, strict=True)]
        return torch.stack(back).mean(0)

    match way:
        case None:
            return Deployed()
        case "one pass of four":
            return OnePass()
        case "two batches of two":
            return TwoPasses()
