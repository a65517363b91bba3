"""State dicts wherever people leave them: under ``params_ema``, in a Lightning checkpoint, behind prefixes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mimo.errors import CheckpointError
from mimo.installing import install
from mimo.networks import foreign, registry
from mimo.spec import ModelSpec

DEEPEST = 6
"""Keys and prefixes around a state dict."""
MOST_PLACES = 500
"""Looked at in one file."""
MOST_FOREIGN = 12
"""Of them shown to spandrel, which takes longer to say no."""

_AVERAGED = re.compile(r"(^|[._/])(ema|averaged?|shadow|swa)([._/]|$)", re.IGNORECASE)
_USUAL = ("params", "state_dict", "model_state_dict", "model", "net", "network", "generator", "module")
_NEVER = ("optimizer", "optimizer_states", "optimizer_state_dict", "scheduler", "lr_schedulers", "scaler")
"""Their states have the shapes of weights."""


@dataclass(frozen=True)
class Found:
    """One state dict of a network of the registry."""

    spec: ModelSpec
    state: Mapping[str, Tensor]
    """Under the network's own names."""
    where: str
    """Keys and prefixes in front of it, such as ``state_dict/model.``; empty for a bare one."""
    averaged: bool
    left_out: tuple[str, ...] = ()
    """What stood beside it and is neither a tensor of the network nor a plain number."""


def find_states(content: Mapping[Any, Any], name: str) -> list[Found]:
    """Every state dict in ``content`` that a network of the registry has, averaged weights first.

    Raises :class:`CheckpointError` that begins with ``name`` when there is none.
    """
    refusals: list[CheckpointError] = []
    found: list[Found] = []
    tensors = False
    for count, (where, state, beside) in enumerate(_places(content, "", DEEPEST)):
        if count > MOST_PLACES or any(where.startswith(one.where) for one in found):
            continue
        tensors = True
        try:
            spec = registry.recognise({key: () if value.is_nested else tuple(value.shape) for key, value in state.items()})
        except CheckpointError as error:
            refusals.append(error)
            continue
        entry = registry.entry_of(spec)
        own = {entry.key(key): value for key, value in state.items()}
        found.append(Found(spec, own, where, bool(_AVERAGED.search(where)), beside))
    if not found and foreign.is_installed():
        found = _foreign(content, refusals)
    if not found:
        if not tensors:
            raise CheckpointError(f"{name} is not a state dict of tensors: save model.state_dict() instead.")
        # A network that was recognised and cannot be says more than that others were not.
        told = next((one for one in refusals if "checkpoint of another network" not in str(one)), refusals[0])
        more = "" if foreign.is_installed() else f" Others are read with {install('spandrel')}."
        raise CheckpointError(f"{name}: {told}{more if told is refusals[0] else ''}") from told
    return sorted(found, key=lambda one: not one.averaged)


def _foreign(content: Mapping[Any, Any], refusals: list[CheckpointError]) -> list[Found]:
    """The first state dict in ``content`` that spandrel knows."""
    for count, (where, state, beside) in enumerate(_places(content, "", DEEPEST)):
        if count >= MOST_FOREIGN:
            break
        try:
            spec = foreign.recognise(state)
        except CheckpointError as error:
            refusals.append(error)
            continue
        if spec is not None:
            return [Found(spec, state, where, bool(_AVERAGED.search(where)), beside)]
    return []


def _places(content: Mapping[Any, Any], where: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor], tuple[str, ...]]]:
    """Mappings of tensors in ``content``: itself, what its keys hold, and its parts by prefix, the likeliest first."""
    state = {_own(key): value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if state:
        yield where, state, ()
    if not depth:
        return
    inner = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Mapping)}
    for key in sorted((key for key in inner if key not in _NEVER), key=_rank):
        yield from _places(inner[key], f"{where}{key}/", depth - 1)
    groups: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        prefix, dot, rest = key.partition(".")
        if dot:
            groups.setdefault(prefix, {})[rest] = value
    for prefix in sorted(groups, key=_rank):
        beside = tuple(key for key in state if not key.startswith(f"{prefix}."))
        for place, found, others in _places(groups[prefix], f"{where}{prefix}.", depth - 1):
            yield place, found, (*beside, *others)


def _own(key: str) -> str:
    """torch.compile of a part of a network leaves its mark in the middle of the names."""
    return key.replace("_orig_mod.", "")


def _rank(key: str) -> tuple[bool, int, str]:
    return not _AVERAGED.search(key), _USUAL.index(key) if key in _USUAL else len(_USUAL), key
