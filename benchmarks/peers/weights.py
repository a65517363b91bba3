"""A user's own download of a peer's public weights. Nothing is ever unpickled with code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers import PEERS, Peer
from mimo.errors import CheckpointError
from mimo.networks.checkpoint import read_tensors

LAYOUTS = ("state_dict", "params", "model")
"""Where the authors put the state dict when it does not stand alone."""


def load_peer(name: str, path: Path) -> nn.Module:
    """The network ``name`` (a key of :data:`~benchmarks.peers.PEERS`) with the weights at ``path``, in evaluation mode.

    ``path`` is one file, or for DMPHN the folder with one file for each part, ``encoder_s1_lv1.pkl`` and so on. Half
    precision becomes float32. Raises :class:`CheckpointError` when a file is missing, damaged, of another network, holds
    values that are not finite, or is a pickle that wants to run code (which is refused before anything runs).
    """
    if name not in PEERS:
        raise CheckpointError(f"{name} is none of the networks in the table: choose one of {', '.join(PEERS)}.")
    peer = PEERS[name]
    with torch.device("meta"):
        network = peer.build()
    state = _of_parts(peer, network, path) if path.is_dir() else _of_file(path)
    network.load_state_dict(_checked(peer, network, state, path), assign=True)
    return network.requires_grad_(False)


def _of_parts(peer: Peer, network: nn.Module, folder: Path) -> dict[str, Any]:
    """One state dict from the files of a folder, each named after the part of the network that it holds."""
    if peer.name != "dmphn":
        raise CheckpointError(f"{folder} is a folder, but the weights of {peer.title} are one file: give the file in it.")
    parts = [part for part, _ in network.named_children()]
    if missing := [f"{part}.pkl" for part in parts if not (folder / f"{part}.pkl").is_file()]:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of the {len(parts)} files of {peer.title} with four stages, {_first(missing)} "
            "among them: download the stacked network whole."
        )
    return {f"{part}.{key}": value for part in parts for key, value in _of_file(folder / f"{part}.pkl").items()}


def _of_file(path: Path) -> dict[str, Any]:
    """The state dict in one file, out of its layout and without the prefix of ``DataParallel``."""
    if not path.is_file():
        raise CheckpointError(f"{path} is not there: check the name.")
    content, _ = read_tensors(path)
    for layout in LAYOUTS:
        if isinstance(content.get(layout), Mapping):
            content = content[layout]
            break
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
        raise CheckpointError(f"{path} is not a state dict of tensors: download the authors' checkpoint again.")
    return {key.removeprefix("module."): value for key, value in content.items()}


def _checked(peer: Peer, network: nn.Module, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors of ``state`` in float32, in the order of ``network``, every name, shape and value checked."""
    expected = {key: value.shape for key, value in network.state_dict().items()}
    missing = [key for key in expected if key not in state]
    unknown = [key for key in state if key not in expected]
    wrong = [key for key in expected if key in state and state[key].shape != expected[key]]
    if odd := [*missing, *unknown, *wrong]:
        raise CheckpointError(
            f"{path} is not a checkpoint of {peer.title}: {len(missing)} keys are missing, {len(unknown)} unknown and "
            f"{len(wrong)} of another shape, {_first(odd)} among them."
        )
    for key, tensor in state.items():
        if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_meta:
            raise CheckpointError(f"{path}: {key} holds no dense floating-point weights: download the checkpoint again.")
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: {key} holds NaN or infinity: download the checkpoint again.")
    return {key: state[key].to(torch.float32).contiguous() for key in expected}


def _first(names: list[str]) -> str:
    return ", ".join(names[:3])
