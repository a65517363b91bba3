"""The rows of the comparison table: MIMO-UNet's family and the networks it is compared with, each as one module.

A module takes one float32 tensor (N,3,H,W), RGB in [0,1], and returns the image that is deployed, in the same shape.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from benchmarks.peers import PEERS, Published
from mimo.bundled import SHIPPED
from mimo.errors import CheckpointError, MimoError
from mimo.spec import SPECS, ModelSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

Way = Literal["one pass of four", "two batches of two"]
"""How MIMO-UNet++ is run: the first where all four rotations have one shape, the second as its authors did."""

_GPU = "RTX 3090"
_FAMILY = {
    "mimo-unet": ("MIMO-UNet", Published(31.73, 0.012, 0.130, _GPU)),
    "mimo-unet-plus": ("MIMO-UNet+", Published(32.45, 0.025, 0.282, _GPU)),
    "mimo-unet-small": ("mimo-unet-small (ours)", None),
}
_PLUS_PLUS = Published(32.68, 0.049, 1.115, _GPU)
"""Cho et al., ICCV 2021, table 1, for the PSNR; the times as in ``benchmarks.peers``."""


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
        return ModelSpec.other(self.name, self.size_multiple)

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

        from benchmarks.peers.weights import load_peer
        from mimo.networks.checkpoint import load_checkpoint
        from mimo.networks.mimo_unet import MIMOUNet

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if self.name in PEERS:
                return PEERS[self.name].build() if self.weights is None else load_peer(self.name, self.weights)
            network: nn.Module
            if self.weights is None:
                network = MIMOUNet(SPECS[self.name])
            else:
                checkpoint = load_checkpoint(self.weights)
                if checkpoint.spec.name != self.name:
                    raise CheckpointError(f"{self.weights} is {checkpoint.spec.name}: give it to that network.")
                network = checkpoint.build()
        return _last_output(network.requires_grad_(False), self.way).eval()

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
    if unknown := sorted(weights.keys() - PEERS.keys() - _FAMILY.keys()):
        known = ", ".join((*PEERS, *_FAMILY))
        raise MimoError(f"--weights {unknown[0]}=...: there is no such network in the table: use one of {known}.")
    for path in weights.values():
        if not path.exists():
            raise MimoError(f"--weights: {path} is not there: check the name.")
    family = {
        name: Network(name, title, SPECS[name].size_multiple, published, weights.get(name, SHIPPED.get(name)))
        for name, (title, published) in _FAMILY.items()
    }
    plus = family["mimo-unet-plus"]
    peers = {
        name: Network(name, peer.title, peer.size_multiple, peer.published, weights.get(name)) for name, peer in PEERS.items()
    }
    return (
        peers["dmphn"],
        peers["mt-rnn"],
        peers["mprnet"],
        family["mimo-unet"],
        plus,
        *(Network(plus.name, "MIMO-UNet++", 4, _PLUS_PLUS, plus.weights, way) for way in cast("tuple[Way, ...]", _WAYS)),
        peers["nafnet-32"],
        peers["nafnet-64"],
        family["mimo-unet-small"],
    )


_WAYS = ("one pass of four", "two batches of two")


def _last_output(network: nn.Module, way: Way | None) -> nn.Module:
    import torch
    from torch import nn

    class Deployed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, blur: Tensor) -> Tensor:
            result: Tensor = self.network(blur)[-1]
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
