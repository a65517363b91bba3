"""The other networks of the comparison table, each written anew on one page and exported like MIMO-UNet.

Each takes one float32 tensor (N,3,H,W), RGB in [0,1], and returns one of the same shape: the image that is deployed.
No weights ship with them: timing needs none, and :func:`benchmarks.peers.weights.load_peer` reads a user's own download.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


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
class Peer:
    """One network of the table."""

    name: str
    title: str
    """As in the table."""
    build: Callable[[], nn.Module]
    """A new network with random weights, in evaluation mode; imports torch."""
    size_multiple: int
    """Height and width of an input must be multiples of it."""
    paper: str
    parameters: int
    published: Published


def _dmphn() -> nn.Module:
    from mimo.networks.dmphn import DMPHN

    return DMPHN().eval().requires_grad_(False)


def _mtrnn() -> nn.Module:
    from mimo.networks.mtrnn import MTRNN

    return MTRNN().eval().requires_grad_(False)


def _mprnet() -> nn.Module:
    from mimo.networks.mprnet import MPRNet

    return MPRNet().eval().requires_grad_(False)


def _nafnet(width: int) -> nn.Module:
    from mimo.networks.nafnet import NAFNet

    return NAFNet(width).eval().requires_grad_(False)


PEERS: Mapping[str, Peer] = MappingProxyType({
    peer.name: peer
    for peer in (
        Peer(
            name="dmphn",
            title="DMPHN",
            build=_dmphn,
            size_multiple=8,
            paper="Zhang et al., Deep Stacked Hierarchical Multi-Patch Network for Image Deblurring, CVPR 2019",
            parameters=21_697_572,
            published=Published(31.20, 0.308, 0.588, "RTX 3090"),
        ),
        Peer(
            name="mt-rnn",
            title="MT-RNN",
            build=_mtrnn,
            size_multiple=4,
            paper="Park et al., Multi-Temporal Recurrent Neural Networks for Progressive Non-Uniform Single Image Deblurring "
            "with Incremental Temporal Training, ECCV 2020",
            parameters=2_635_547,
            published=Published(31.15, 0.031, 0.394, "RTX 3090"),
        ),
        Peer(
            name="mprnet",
            title="MPRNet",
            build=_mprnet,
            size_multiple=8,
            paper="Zamir et al., Multi-Stage Progressive Image Restoration, CVPR 2021",
            parameters=20_127_073,
            published=Published(32.66, 0.075, 1.474, "RTX 3090"),
        ),
        Peer(
            name="nafnet-32",
            title="NAFNet-32",
            build=lambda: _nafnet(32),
            size_multiple=16,
            paper="Chen et al., Simple Baselines for Image Restoration, ECCV 2022",
            parameters=17_111_907,
            published=Published(32.87),
        ),
        Peer(
            name="nafnet-64",
            title="NAFNet-64",
            build=lambda: _nafnet(64),
            size_multiple=16,
            paper="Chen et al., Simple Baselines for Image Restoration, ECCV 2022",
            parameters=67_888_835,
            published=Published(33.71),
        ),
    )
})  # fmt: skip
"""By name, in the order of the table."""
