"""Checkpoints: the authors' ``.pkl`` layout and safetensors in, safetensors out. Nothing is ever unpickled with code."""

from __future__ import annotations

import json
import pickle
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mimo.errors import CheckpointError
from mimo.files import sha256_of, write_bytes
from mimo.networks.mimo_unet import MIMOUNet
from mimo.spec import ModelSpec

LINEAGE = "mimo.lineage"
"""The metadata key of our safetensors files; its value is a JSON object of strings."""


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one MIMO-UNet on the CPU, float32, and where they came from."""

    spec: ModelSpec
    state: Mapping[str, Tensor]
    path: Path
    sha256: str
    """Of the checkpoint file's bytes."""
    lineage: Mapping[str, str]
    """What the file's metadata says of its origin; empty for a ``.pkl``."""

    def build(self) -> MIMOUNet:
        """A new network with these weights, in evaluation mode."""
        with torch.device("meta"):
            network = MIMOUNet(self.spec)
        network.load_state_dict(dict(self.state), assign=True)
        return network.eval().requires_grad_(False)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint: a state dict, bare or under ``model``, pickled by ``torch.save`` or as safetensors.

    The variant is read from the tensor shapes. Half-precision weights become float32. Raises :class:`CheckpointError`
    when the file is missing, damaged, of another network, holds values that are not finite, or is a pickle that wants to
    run code (which is refused before anything runs).
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is not there: check the name, or leave it out to use the weights that ship with mimo.")
    state, lineage = read_tensors(path)
    return Checkpoint(*_checked(state, path), path=path, sha256=sha256_of(path), lineage=lineage)


def save_checkpoint(
    path: Path, spec: ModelSpec, state: Mapping[str, Tensor], lineage: Mapping[str, str], *, half: bool = False
) -> None:
    """Write ``state`` as safetensors with ``lineage`` in its metadata, atomically; ``half`` stores float16.

    Raises :class:`CheckpointError` when ``state`` is not of ``spec``, :class:`~mimo.errors.OutputError` when the file
    cannot be written; then nothing is left behind.
    """
    found, checked = _checked(state, path)
    if found != spec:
        raise CheckpointError(f"{path}: these are the weights of {found.name}, not of {spec.name}.")
    dtype = torch.float16 if half else torch.float32
    tensors = {key: tensor.to(dtype).contiguous() for key, tensor in checked.items()}
    for key, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: {key} exceeds what float16 can hold; save this checkpoint in float32.")
    # One metadata entry, not one per fact: safetensors writes several in random order, and the hash would change.
    # As bytes, because safetensors' own writing reports a full disk as an error of its format.
    write_bytes(path, save(tensors, metadata={LINEAGE: json.dumps({"model": spec.name, **lineage}, sort_keys=True)}))


def average_checkpoints(paths: Sequence[Path], out: Path, *, half: bool = False) -> Checkpoint:
    """Write the mean of several checkpoints of one network to ``out``, as safetensors, and return it.

    Runs that began at the same weights lie in one valley of the loss, and the mean of theirs is often better than each, on
    what each of them has learnt (Wortsman et al., "Model soups", ICML 2022; for a fine-tuned network and what it came from,
    "Robust fine-tuning of zero-shot models", CVPR 2022). ``half`` stores float16. Raises :class:`CheckpointError` for fewer
    than two, for different networks and whatever :func:`load_checkpoint` refuses, and writes nothing then.
    """
    if len(paths) < 2:
        raise CheckpointError("an average takes at least two checkpoints: name more.")
    checkpoints = [load_checkpoint(path) for path in paths]
    first = checkpoints[0]
    for other in checkpoints[1:]:
        if other.spec != first.spec:
            raise CheckpointError(
                f"{other.path} is {other.spec.name}, {first.path} is {first.spec.name}: only weights of one network average."
            )
    state = {
        key: torch.stack([one.state[key] for one in checkpoints]).mean(dim=0, dtype=torch.float64).float()
        for key in first.state
    }
    parts = [{"name": one.path.name, "sha256": one.sha256, "lineage": dict(one.lineage)} for one in checkpoints]
    lineage = {"origin": "mimo weights average", "averaged": json.dumps(parts, sort_keys=True)}
    save_checkpoint(out, first.spec, state, lineage, half=half)
    return load_checkpoint(out)


def read_tensors(path: Path) -> tuple[Mapping[str, Any], dict[str, str]]:
    """What a safetensors file or a pickle of tensors holds, and its metadata; nothing in it is run.

    Raises :class:`CheckpointError` when it is missing, damaged, or a pickle that wants to run code.
    """
    return _read_safetensors(path) if _is_safetensors(path) else (_read_pickle(path), {})


def _is_safetensors(path: Path) -> bool:
    """By content, not by name: the length of a JSON header, then the header."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): check its permissions.") from error
    return len(start) == 9 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] <= path.stat().st_size


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            lineage = json.loads(metadata.get(LINEAGE, "{}"))
            if not isinstance(lineage, dict) or not all(isinstance(value, str) for value in lineage.values()):
                raise ValueError("its lineage is no object of strings")
            return {key: file.get_tensor(key) for key in file.keys()}, lineage  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): copy or download it again.") from error


def _read_pickle(path: Path) -> Mapping[str, Any]:
    try:
        # The open file, not its name: torch goes by the suffix.
        with warnings.catch_warnings(), path.open("rb") as file:
            # torch remarks on old pickle protocols; whatever matters to the user is an error of ours.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch says in prose that it refused a class or a function; a file that is no pickle at all ends here as well.
        if "unsupported global" in str(error).lower():
            raise CheckpointError(
                f"{path} wants to run code while it is loaded, and was refused; nothing ran. "
                "Ask for it as safetensors, or as a file that holds tensors only."
            ) from error
        raise CheckpointError(
            f"{path} is no checkpoint that can be read, and nothing in it ran: "
            "expected safetensors, or a file that torch.save wrote with its default protocol."
        ) from error
    except Exception as error:  # damaged bytes make torch fail in every way there is, assertions among them
        raise CheckpointError(f"{path} is damaged or no checkpoint: copy or download it again.") from error
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict: save model.state_dict() instead.")
    return content


def _checked(state: Mapping[str, Any], path: Path) -> tuple[ModelSpec, dict[str, Tensor]]:
    """The spec of ``state`` and its tensors in float32 under the names of the network, every shape and value checked."""
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        raise CheckpointError(f"{path} is not a state dict of tensors: save model.state_dict() instead.")
    # DistributedDataParallel and torch.compile prefix every key.
    state = {key.removeprefix("module.").removeprefix("_orig_mod."): value for key, value in state.items()}
    try:
        spec = ModelSpec.from_shapes({key: tuple(value.shape) for key, value in state.items()})
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    with torch.device("meta"):
        expected = {key: tuple(value.shape) for key, value in MIMOUNet(spec).state_dict().items()}
    missing, extra = expected.keys() - state.keys(), state.keys() - expected.keys()
    wrong = {key for key in expected.keys() & state.keys() if tuple(state[key].shape) != expected[key]}
    if odd := sorted(missing | extra | wrong):
        raise CheckpointError(
            f"{path} is not a checkpoint of {spec.name}: {len(missing)} keys are missing, {len(extra)} unknown and "
            f"{len(wrong)} of another shape, {odd[0]} among them."
        )
    for key in expected:
        if not state[key].is_floating_point() or state[key].layout != torch.strided or state[key].is_meta:
            raise CheckpointError(f"{path}: {key} holds no dense floating-point weights: save model.state_dict() instead.")
    tensors = {key: state[key].to(torch.float32) for key in expected}
    for key, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: {key} holds NaN or infinity; use a checkpoint from before the training diverged.")
    return spec, tensors
