"""A state dict of every network at a size that computes in a blink, and of one of spandrel's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mimo.networks.registry import DMPHN, MIMO_UNET, MPRNET, MT_RNN, NAFNET, build
from mimo.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

TINY: dict[str, ModelSpec] = {
    "mimo-unet": MIMO_UNET.spec({"residual_blocks": 1, "width": 8}),
    "dmphn": DMPHN.spec({"stages": 1, "width": 4}),
    "mt-rnn": MT_RNN.spec({"width": 4}),
    "mprnet": MPRNET.spec({"channels": (8, 12, 16), "last_channels": 8, "blocks": 1, "reduction": 4}),
    "nafnet": NAFNET.spec({"width": 4, "encoder_blocks": (1, 2), "middle_blocks": 1, "decoder_blocks": (1, 1)}),
}
"""By the entry's name."""


def random_state(spec: ModelSpec) -> dict[str, Tensor]:
    """Random weights, the same ones every time, small enough that the picture stays one."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = build(spec).state_dict()
    return {key: value.clone() for key, value in state.items()}


def spandrel_state() -> dict[str, Tensor]:
    """DnCNN as spandrel builds it: seventeen convolutions and ReLUs that guess the noise, at a tenth of the usual width."""
    import torch

    from mimo.networks import foreign

    assert foreign.is_installed()
    foreign.prepare()
    from spandrel.architectures.DnCNN import DnCNN

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = DnCNN(in_nc=3, out_nc=3, nc=8, nb=17, act_mode="R")
    state: dict[str, Tensor] = network.state_dict()
    return state


STATES: dict[str, Callable[[], dict[str, Tensor]]] = {
    **{name: (lambda spec=spec: random_state(spec)) for name, spec in TINY.items()},  # type: ignore[misc]
    "spandrel": spandrel_state,
}
