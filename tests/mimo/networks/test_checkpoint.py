"""Checkpoints from the authors, from training and from strangers."""

from __future__ import annotations

import builtins
import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from mimo.bundled import WEIGHTS
from mimo.errors import CheckpointError, OutputError
from mimo.files import sha256_of
from mimo.networks.checkpoint import Checkpoint, average_checkpoints, load_checkpoint, save_checkpoint
from mimo.networks.mimo_unet import MIMOUNet
from mimo.networks.registry import mimo_unet, named
from mimo.spec import ModelSpec
from tests.parity_weights import GAIN, PARITY, keys, weights
from tests.tiny import SPEC, tiny_state

State = dict[str, Any]
FIRST = "feat_extract.0.main.0.weight"


@pytest.fixture(scope="module")
def state() -> State:
    """To be read only."""
    return dict(tiny_state())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "network.pkl"


def equal(checkpoint: Checkpoint, state: State) -> bool:
    return checkpoint.state.keys() == state.keys() and all(
        torch.equal(checkpoint.state[key], value.float()) for key, value in state.items()
    )


# What is read.


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "layout",
    [
        lambda state: state,
        OrderedDict,
        lambda state: {"model": state},
        lambda state: {"model": OrderedDict(state), "optimizer": {"lr": 1e-4, "betas": (0.9, 0.999)}, "epoch": 3000},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"model": {f"module._orig_mod.{key}": value for key, value in state.items()}},
    ],
    ids=["bare", "ordered", "model", "training", "module.", "module._orig_mod."],
)
def test_the_layouts_of_torch_save(path: Path, state: State, layout: Callable[[State], State], zipped: bool) -> None:
    torch.save(layout(state), path, _use_new_zipfile_serialization=zipped)
    checkpoint = load_checkpoint(path)
    assert checkpoint.spec == SPEC
    assert equal(checkpoint, state)
    assert (checkpoint.path, checkpoint.sha256, checkpoint.lineage) == (path, sha256_of(path), {})


@pytest.mark.parametrize(("listed", "name"), [("MIMO-UNet", "mimo-unet"), ("MIMO-UNetPlus", "mimo-unet-plus")])
def test_the_authors_files(path: Path, listed: str, name: str) -> None:
    """In their layout, with their keys; the network that comes of it computes what theirs does."""
    filled = weights(keys(listed), GAIN[listed])
    torch.save({"model": {key: torch.from_numpy(value) for key, value in filled.items()}}, path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.spec == named(name)
    if name == "mimo-unet":
        with np.load(PARITY / f"{listed}.npz") as expected:
            full = checkpoint.build()(torch.from_numpy(expected["x"]))[-1]
            assert float(np.abs(full.numpy() - expected["full"]).max()) <= 1e-4


def test_a_pickle_of_an_older_protocol_is_read_in_silence(path: Path, state: State) -> None:
    torch.save(state, path, pickle_protocol=3)
    assert equal(load_checkpoint(path), state)


def test_a_pickle_of_a_newer_protocol_gets_a_sentence_about_that(path: Path, state: State) -> None:
    torch.save(state, path, pickle_protocol=4)
    with pytest.raises(CheckpointError, match=r"nothing in it ran: expected .* torch\.save wrote with its default protocol"):
        load_checkpoint(path)


def test_what_a_file_is_is_told_by_its_bytes(tmp_path: Path, state: State) -> None:
    save_checkpoint(tmp_path / "misnamed.pkl", SPEC, state, {})
    assert equal(load_checkpoint(tmp_path / "misnamed.pkl"), state)
    torch.save(state, tmp_path / "misnamed.safetensors")
    assert equal(load_checkpoint(tmp_path / "misnamed.safetensors"), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(path: Path, state: State, dtype: torch.dtype) -> None:
    stored = {key: value.to(dtype) for key, value in state.items()}
    torch.save(stored, path)
    checkpoint = load_checkpoint(path)
    assert {value.dtype for value in checkpoint.state.values()} == {torch.float32}
    assert equal(checkpoint, stored)


def test_the_network_is_ready_to_deploy(tiny_checkpoint: Path) -> None:
    network = load_checkpoint(tiny_checkpoint).build()
    assert isinstance(network, MIMOUNet)
    assert (network.width, network.residual_blocks) == (8, 1)
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in network.parameters())


def test_the_shipped_weights() -> None:
    checkpoint = load_checkpoint(WEIGHTS)
    assert checkpoint.spec == named("mimo-unet")
    assert checkpoint.lineage["model"] == "mimo-unet"
    assert len(checkpoint.lineage) > 1


# What is written.


def test_what_is_saved_is_loaded(tmp_path: Path, state: State) -> None:
    path = tmp_path / "saved.safetensors"
    save_checkpoint(path, SPEC, state, {"origin": "a test", "step": "7"})
    checkpoint = load_checkpoint(path)
    assert equal(checkpoint, state)
    assert checkpoint.lineage == {"model": SPEC.name, "origin": "a test", "step": "7"}
    with safe_open(path, framework="np") as file:
        assert file.get_tensor(FIRST).dtype == np.float32
        assert {*json.loads(file.metadata()["mimo.lineage"])} == {*checkpoint.lineage, "tied_sha256"}


def test_half_precision_goes_round(tmp_path: Path, state: State) -> None:
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    save_checkpoint(full, SPEC, state, {})
    save_checkpoint(half, SPEC, state, {}, half=True)
    assert half.stat().st_size < 0.6 * full.stat().st_size
    assert equal(load_checkpoint(half), {key: value.half() for key, value in state.items()})
    again = tmp_path / "again.safetensors"
    save_checkpoint(again, SPEC, load_checkpoint(half).state, {}, half=True)
    assert again.read_bytes() == half.read_bytes()


def test_the_bytes_depend_on_nothing_else(tmp_path: Path, state: State) -> None:
    """Neither on the order of the weights or the facts, nor on views into larger memory."""
    lineage = {"origin": "a test", "data": "none", "step": "7", "url": "none"}
    save_checkpoint(tmp_path / "a", SPEC, state, lineage)
    backwards = {key: torch.stack([value, value], dim=-1)[..., 1] for key, value in reversed(state.items())}
    save_checkpoint(tmp_path / "b", SPEC, backwards, dict(reversed(lineage.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("spec", "change", "half", "says"),
    [
        (mimo_unet(8, 2), {}, False, "weights of mimo-unet-w8-b1, not of mimo-unet-w8-b2"),
        (SPEC, {FIRST: torch.full((8, 3, 3, 3), torch.nan)}, False, "NaN or infinity"),
        (SPEC, {FIRST: torch.full((8, 3, 3, 3), 7e4)}, True, f"{FIRST} exceeds what float16 can hold"),
        (SPEC, {"another": torch.zeros(1)}, False, "1 unknown"),
    ],
    ids=["another spec", "NaN", "too large for half", "unknown key"],
)
def test_what_could_not_be_loaded_is_not_saved(
    tmp_path: Path, state: State, spec: ModelSpec, change: State, half: bool, says: str
) -> None:
    with pytest.raises(CheckpointError, match=says):
        save_checkpoint(tmp_path / "saved", spec, {**state, **change}, {}, half=half)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path, state: State) -> None:
    with pytest.raises(OutputError, match="there is a folder of that name"):
        save_checkpoint(tmp_path, SPEC, state, {})


# What is refused.


class Hostile:
    """Unpickled by Python, it creates a file."""

    def __init__(self, path: Path, how: str) -> None:
        self.path, self.how = str(path), how

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        match self.how:
            case "open":
                return builtins.open, (self.path, "w")
            case "exec":
                return builtins.exec, (f"open({self.path!r}, 'w')",)
            case "system":
                import os

                return os.system, (f"touch '{self.path}'",)
            case _:
                return Path.touch, (Path(self.path),)


def as_zip(content: Any, path: Path) -> None:
    torch.save(content, path)


def as_legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def as_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def as_newer_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("write", [as_zip, as_legacy, as_pickle, as_newer_pickle])
@pytest.mark.parametrize("how", ["open", "exec", "system", "touch"])
@pytest.mark.parametrize(
    "layout",
    [
        lambda state, hostile: hostile,
        lambda state, hostile: {"model": state, "optimizer": hostile},
        lambda state, hostile: {**state, FIRST: hostile},
    ],
    ids=["alone", "beside the weights", "among the weights"],
)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_pickle_that_wants_to_run_code_runs_nothing(
    tmp_path: Path, write: Callable[[Any, Path], None], how: str, layout: Callable[[State, Hostile], Any]
) -> None:
    proof, path = tmp_path / "it ran", tmp_path / "hostile.pkl"
    few = {FIRST: torch.zeros(1) if write in (as_zip, as_legacy) else [0.0]}
    write(layout(few, Hostile(proof, how)), path)
    says = "nothing in it ran" if write is as_newer_pickle else "wants to run code while it is loaded, and was refused"
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(path)
    assert not proof.exists()
    # The same file, read without care, does run: the test above can fail.
    if write in (as_zip, as_legacy):
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert proof.exists()


@pytest.mark.parametrize("write", [as_zip, as_legacy, lambda state, path: save_checkpoint(path, SPEC, state, {})])
@pytest.mark.parametrize("share", [0.0, 0.00002, 0.001, 0.02, 0.5, 0.999])
def test_a_truncated_file(path: Path, state: State, write: Callable[[Any, Path], None], share: float) -> None:
    write(state, path)
    load_checkpoint(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"damaged|no checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("write", [as_zip, as_legacy, lambda state, path: save_checkpoint(path, SPEC, state, {})])
def test_damaged_bytes_are_refused_or_harmless(path: Path, state: State, write: Callable[[Any, Path], None]) -> None:
    """Whatever a changed byte does to the reader, it comes out as our error, or the file still is a checkpoint."""
    write(state, path)
    content = path.read_bytes()
    draw = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(content)
        damaged[int(draw.integers(0, 6000))] = int(draw.integers(0, 256))
        path.write_bytes(damaged)
        try:
            assert load_checkpoint(path).spec == SPEC
        except CheckpointError:
            refused += 1
    assert refused > 10


def png() -> bytes:
    return b"\x89PNG\r\n\x1a\n" + bytes(200)


def some_zip() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a/b.txt", "no tensors here")
    return archive.getvalue()


def safetensors_header(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a text file\n" * 20,
        bytes(1000),
        png(),
        some_zip(),
        pickle.dumps(None),
        safetensors_header(b"{}"),
        safetensors_header(b"{not json}"),
        safetensors_header(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'),
        b"\xff" * 8 + b"{" + bytes(100),
    ],
    ids=["empty", "text", "zeros", "png", "zip", "none", "no keys", "no json", "no data", "enormous header"],
)
def test_a_file_of_another_kind(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"^{path}.*[:;]"):
        load_checkpoint(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "network.pkl"
    with pytest.raises(CheckpointError, match="does not exist: check the name, or leave it out"):
        load_checkpoint(path)


def test_a_file_that_may_not_be_read(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\)"):
        load_checkpoint(tiny_checkpoint)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1, 2], "holds a list, not a state dict"),
        (3, "holds a int, not a state dict"),
        ({"epoch": 3}, "not a state dict of tensors"),
        ({1: torch.zeros(1)}, "not a state dict of tensors"),
        ({"model": {}}, "not a state dict of tensors"),
        ({}, "not a state dict of tensors"),
        ({"conv.weight": torch.zeros(3, 3)}, "another network"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_pickle_of_something_else(path: Path, content: Any, says: str) -> None:
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(path)


def without(state: State, part: str) -> State:
    return {key: value for key, value in state.items() if part not in key}


def with_first(dtype_or_change: Callable[[Tensor], Tensor]) -> Callable[[State], State]:
    return lambda state: {**state, FIRST: dtype_or_change(state[FIRST])}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: without(state, "AFFs.0."), "4 keys are missing, 0 unknown and 0 of another shape, AFFs.0.conv"),
        (lambda state: {**state, "head.weight": torch.zeros(1)}, "0 keys are missing, 1 unknown .*, head.weight among them"),
        (lambda state: {**state, "FAM1.merge.main.0.bias": torch.zeros(7)}, "0 unknown and 1 of another shape, FAM1"),
        (with_first(lambda weight: torch.zeros(16, 3, 3, 3)), "not a checkpoint of mimo-unet-w16-b1"),
        (with_first(lambda weight: torch.zeros(1, 3, 3, 3)), "no MIMO-UNet is like this"),
        (with_first(lambda weight: torch.full_like(weight, torch.nan)), f"{FIRST} holds NaN or infinity"),
        (with_first(lambda weight: torch.full_like(weight, -torch.inf)), f"{FIRST} holds NaN or infinity"),
        (with_first(lambda weight: weight.double() * 1e300), f"{FIRST} holds NaN or infinity"),
        (with_first(lambda weight: weight.int()), f"{FIRST} holds no dense floating-point weights"),
        (with_first(lambda weight: weight.to(torch.complex64)), f"{FIRST} holds no dense floating-point weights"),
        (with_first(lambda weight: weight.to_sparse()), f"{FIRST} holds no dense floating-point weights"),
        (with_first(lambda weight: weight.to("meta")), f"{FIRST} holds no dense floating-point weights"),
    ],
    ids=[
        "missing", "unknown", "shape", "other width", "width 1", "NaN", "infinity", "too large", "integer", "complex",
        "sparse", "meta",
    ],
)  # fmt: skip
def test_almost_a_checkpoint(path: Path, state: State, change: Callable[[State], State], says: str) -> None:
    torch.save(change(state), path)
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(path)


@pytest.mark.parametrize("lineage", ["[1, 2]", '{"step": 7}', "no json", "3"])
def test_a_lineage_that_is_none(tmp_path: Path, state: State, lineage: str) -> None:
    path = tmp_path / "network.safetensors"
    save_file(state, path, metadata={"mimo.lineage": lineage})
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_from_elsewhere_have_no_lineage(tmp_path: Path, state: State, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "network.safetensors"
    save_file(state, path, metadata=metadata)
    checkpoint = load_checkpoint(path)
    assert equal(checkpoint, state)
    assert checkpoint.lineage == {}


# Averages.


def test_the_mean_of_checkpoints(tmp_path: Path, state: State) -> None:
    paths = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for number, path in enumerate(paths):
        save_checkpoint(path, SPEC, {key: value + number for key, value in state.items()}, {"step": str(number)})
    average = average_checkpoints(paths, tmp_path / "mean.safetensors")
    assert all(torch.allclose(average.state[key], value + 1, atol=1e-6) for key, value in state.items())
    parts = json.loads(average.lineage["averaged"])
    assert [part["sha256"] for part in parts] == [load_checkpoint(path).sha256 for path in paths]
    assert [part["lineage"]["step"] for part in parts] == ["0", "1", "2"]


def test_half_of_the_mean(tmp_path: Path, tiny_checkpoint: Path) -> None:
    out = tmp_path / "mean.safetensors"
    average = average_checkpoints([tiny_checkpoint, tiny_checkpoint], out, half=True)
    assert all(torch.equal(value, value.half().float()) for value in average.state.values())
    assert out.stat().st_size < 0.6 * tiny_checkpoint.stat().st_size


def test_what_has_no_mean(tmp_path: Path, tiny_checkpoint: Path) -> None:
    out = tmp_path / "mean.safetensors"
    with pytest.raises(CheckpointError, match="at least two"):
        average_checkpoints([tiny_checkpoint], out)
    with pytest.raises(CheckpointError, match="only weights of one network average"):
        average_checkpoints([WEIGHTS, tiny_checkpoint], out)
    with pytest.raises(CheckpointError, match="does not exist"):
        average_checkpoints([tiny_checkpoint, tmp_path / "none"], out)
    assert not out.exists()
