"""Checkpoints as people save them, and as people save them who mean harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mimo.errors import CheckpointError
from mimo.kinds import kind_of
from mimo.networks.checkpoint import Checkpoint, load_checkpoint
from tests.tiny import SPEC, tiny_state
from tests.tiny_networks import TINY, random_state

State = dict[str, Tensor]
FIRST = "feat_extract.0.main.0.weight"


@pytest.fixture(scope="module")
def state() -> State:
    return tiny_state()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "download.pth.tar"


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: {prefix + key: value for key, value in state.items()}


def equal(checkpoint: Checkpoint, state: State) -> bool:
    return list(checkpoint.state) == list(state) and all(torch.equal(checkpoint.state[key], state[key]) for key in state)


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "module.module.",
        "_orig_mod.",
        "_orig_mod.module.",
        "module._orig_mod.",
        "model.",
        "net.",
        "generator.",
        "net_g.",
        "model.module.net.",
        "restorer.backbone.",
    ],
)
@pytest.mark.parametrize("key", [None, "state_dict"])
def test_prefixes_in_any_nesting(path: Path, state: State, prefix: str, key: str | None) -> None:
    saved: dict[str, Any] = prefixed(prefix)(state)
    torch.save(saved if key is None else {key: saved}, path)
    checkpoint = load_checkpoint(path)
    assert equal(checkpoint, state)
    kept = prefix.replace("_orig_mod.", "")
    assert bool(checkpoint.remarks) == bool(kept or key)
    assert all(part in " ".join(checkpoint.remarks) for part in (kept, key or ""))


@pytest.mark.parametrize(
    "keys",
    [
        ("params",),
        ("params_ema",),
        ("state_dict",),
        ("model_state_dict",),
        ("model",),
        ("net",),
        ("network",),
        ("ema",),
        ("model_ema",),
        ("generator",),
        ("checkpoint", "model", "state_dict"),
    ],
    ids="/".join,
)
def test_the_usual_keys(path: Path, state: State, keys: tuple[str, ...]) -> None:
    saved: dict[str, Any] = state
    for key in reversed(keys):
        saved = {"epoch": 3, key: saved}
    torch.save(saved, path)
    checkpoint = load_checkpoint(path)
    assert equal(checkpoint, state)
    assert "/".join(keys) in checkpoint.remarks[0]


@pytest.mark.parametrize(
    ("averaged", "raw"),
    [("params_ema", "params"), ("model_ema", "model"), ("ema", "state_dict"), ("state_dict_ema", "state_dict")],
)
def test_averaged_weights_come_before_raw_ones_and_it_is_said(path: Path, state: State, averaged: str, raw: str) -> None:
    torch.save({raw: {key: value + 1 for key, value in state.items()}, averaged: state}, path)
    checkpoint = load_checkpoint(path)
    assert equal(checkpoint, state)
    said = " ".join(checkpoint.remarks)
    assert f"from {averaged}/, the averaged ones" in said
    assert f"under {raw}/, were left" in said


def test_a_lightning_checkpoint(path: Path, state: State) -> None:
    """The network under a name of its module, a loss's network and an optimizer's tensors beside it."""
    inside = prefixed("model.")(state) | {"perceptual.features.0.weight": torch.zeros(4, 3, 3, 3), "steps": torch.tensor(7)}
    optimizer = {"state": {0: {"exp_avg": state[FIRST]}}, "param_groups": [{"lr": 1e-4}]}
    content = {"epoch": 1, "pytorch-lightning_version": "2.5.0", "state_dict": inside, "optimizer_states": [optimizer]}
    torch.save(content | {"callbacks": {}, "hyper_parameters": {"lr": 1e-4}}, path)
    checkpoint = load_checkpoint(path)
    assert equal(checkpoint, state)
    assert "2 other entries beside the weights were left" in " ".join(checkpoint.remarks)


@pytest.mark.parametrize("number", [np.float64(31.7), np.float32(0.5), np.int64(3), np.bool_(True)], ids=repr)
@pytest.mark.parametrize("beside", [True, False])
def test_numbers_of_numpy_beside_the_weights(path: Path, state: State, number: Any, beside: bool) -> None:
    torch.save({**state, "best": number} if beside else {"state_dict": state, "best": number}, path)
    assert equal(load_checkpoint(path), state)


class Config:
    """A stranger's class."""


def test_a_refusal_names_the_class(path: Path, state: State) -> None:
    torch.save({"state_dict": state, "config": Config()}, path)
    with pytest.raises(CheckpointError, match=r"was refused; nothing ran. It asks for \S*test_layouts.Config"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", TINY)
def test_every_network_is_read_whatever_the_file_is_called(tmp_path: Path, name: str) -> None:
    weights = random_state(TINY[name])
    for file in ("weights", "weights.bin", "weights.onnx", "weights.pth.tar"):
        torch.save({"params_ema": prefixed("module.")(weights)}, tmp_path / file)
        assert kind_of(tmp_path / file) == "checkpoint"
        checkpoint = load_checkpoint(tmp_path / file)
        assert checkpoint.spec == TINY[name]
        assert list(checkpoint.build().state_dict()) == list(weights)


def huge(*shape: int) -> Tensor:
    return torch.zeros(1).expand(*shape)


@pytest.mark.parametrize(
    "change",
    [
        {FIRST: "nested"},
        {FIRST: huge(2**40, 3, 3, 3)},
        {FIRST: huge(4096, 3, 3, 3)},
        {f"Encoder.0.layers.{'9' * 5000}.main.0.main.0.weight": torch.zeros(1)},
        {"k" * 100_000: torch.zeros(1)},
        {"AFFs.0.conv.0.main.0.bias": "nested"},
        {"AFFs.0.conv.0.main.0.bias": huge(2**40)},
    ],
    ids=["nested", "2**40 channels", "4,096 channels", "5,000 digits", "a long key", "nested bias", "2**40 biases"],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_what_is_made_to_do_harm_is_one_bounded_sentence(path: Path, state: State, change: dict[str, Tensor | str]) -> None:
    spoilt = {
        key: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]) if isinstance(value, str) else value
        for key, value in change.items()
    }
    torch.save(state | spoilt, path)
    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(path)
    assert len(str(raised.value)) < 500
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "lineage",
    [
        "[" * 100_000,
        json.dumps({"origin": 3}),
        json.dumps({"origin": {"a": "b"}}),
        json.dumps(["origin"]),
        '{"origin": "\\ud800"}',
    ],
    ids=["deep", "a number", "nested", "a list", "half a character"],
)
def test_a_lineage_of_another_type(tmp_path: Path, state: State, lineage: str) -> None:
    save_file(state, tmp_path / "a.safetensors", metadata={"mimo.lineage": lineage})
    with pytest.raises(CheckpointError, match="is damaged") as raised:
        load_checkpoint(tmp_path / "a.safetensors")
    assert len(str(raised.value)) < 500


def test_mappings_in_mappings_end(path: Path, state: State) -> None:
    deep: dict[str, Any] = {"state_dict": state}
    for _ in range(50):
        deep = {"inner": deep}
    torch.save(deep, path)
    with pytest.raises(CheckpointError, match="not a state dict"):
        load_checkpoint(path)
    assert SPEC.name == "mimo-unet-w8-b1"
