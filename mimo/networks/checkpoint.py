"""Checkpoints of every network of the registry: found in whatever layout they were saved in, checked, and written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mimo.errors import CheckpointError
from mimo.files import sha256_of, write_bytes
from mimo.networks import foreign, registry
from mimo.networks.layouts import Found, find_states
from mimo.networks.reading import read_tensors
from mimo.networks.tied import LINEAGE, TIE, tie_of
from mimo.spec import ModelSpec

MOST_WEIGHTS = 1_000_000_000
"""Numbers in one checkpoint: a tensor made by ``expand`` says any size and costs nothing until it is computed with."""


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one network on the CPU, float32, and where they came from."""

    spec: ModelSpec
    state: Mapping[str, Tensor]
    path: Path
    sha256: str
    """Of the checkpoint file's bytes."""
    lineage: Mapping[str, str]
    """What the file's metadata says of its origin; empty for a pickle."""
    remarks: tuple[str, ...] = ()
    """Sentences on what was chosen while reading: under which key the weights stood, and what was left."""
    tied: bool = False
    """Whether the file holds a hash of weights and lineage together, which both were found to have."""

    def build(self) -> nn.Module:
        """A new network with these weights, in evaluation mode."""
        if self.spec.network == registry.SPANDREL:
            return foreign.build(self.state)
        with torch.device("meta"):
            network = registry.build(self.spec)
        network.load_state_dict(dict(self.state), assign=True)
        return network.eval().requires_grad_(False)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint: a state dict in any usual layout, pickled by ``torch.save`` or as safetensors.

    Which network it is, and which variant, is read from the names and shapes of the tensors. The state dict may stand under
    any key, several deep, and its names may have any prefix; where averaged (EMA) weights stand beside raw ones, they are
    taken. DMPHN may be a folder with a file for each part. Half-precision weights become float32.

    Raises :class:`CheckpointError` when the file is missing, damaged, of an unknown network, holds values that are not
    finite, or is a pickle that wants to run code (which is refused before anything runs), and when weights or lineage are not
    those that :func:`save_checkpoint` wrote together.
    """
    if path.is_dir():
        (content, lineage), sha256 = _of_parts(path), _sha256_of_parts(path)
    elif path.is_file():
        (content, lineage), sha256 = read_tensors(path), sha256_of(path)
    else:
        raise CheckpointError(f"{path} does not exist: check the name, or leave it out to use the bundled weights.")
    found, remarks = _chosen(content, path)
    state = _checked(found.spec, found.state, path)
    tied = lineage.pop(TIE, None) is not None  # it was compared while reading
    return Checkpoint(found.spec, state, path=path, sha256=sha256, lineage=lineage, remarks=remarks, tied=tied)


def save_checkpoint(
    path: Path, spec: ModelSpec, state: Mapping[str, Tensor], lineage: Mapping[str, str], *, half: bool = False
) -> None:
    """Write ``state`` as safetensors with ``lineage`` in its metadata, atomically; ``half`` stores float16.

    A hash over both ties them, see :func:`mimo.networks.tied.tie_of`: neither is taken later with another one's.

    Raises :class:`CheckpointError` when ``state`` is not of ``spec``, :class:`~mimo.errors.OutputError` when the file
    cannot be written; then nothing is left behind.
    """
    found, _ = _chosen(state, path)
    checked = _checked(found.spec, found.state, path)
    if found.spec != spec:
        raise CheckpointError(f"{path}: these are the weights of {found.spec.name}, not of {spec.name}.")
    dtype = torch.float16 if half else torch.float32
    tensors = {key: tensor.to(dtype).contiguous() for key, tensor in checked.items()}
    # One memory for several names, as MPRNet's shared slope has, is none that safetensors writes.
    seen: set[int] = set()
    for key, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: {key} exceeds what float16 can hold; save this checkpoint in float32.")
        if tensor.data_ptr() in seen:
            tensors[key] = tensor.clone()
        seen.add(tensor.data_ptr())
    # One metadata entry, not one per fact: safetensors writes several in random order, and the hash would change.
    # As bytes, because safetensors' own writing reports a full disk as an error of its format.
    facts = {"model": spec.name, **lineage}
    facts[TIE] = tie_of(save(tensors), facts)
    write_bytes(path, save(tensors, metadata={LINEAGE: json.dumps(facts, sort_keys=True)}))


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


def _of_parts(folder: Path) -> tuple[Mapping[Any, Any], dict[str, str]]:
    """One state dict from the files of a folder, each named after the part of the network that it holds."""
    parts = _parts(folder)
    content: dict[str, Any] = {}
    for part, file in parts.items():
        held, _ = read_tensors(file)
        # Each file has the layout of a checkpoint of its own: DataParallel's prefix, at times a key around it.
        state = max(_mappings(held), key=len)
        content |= {f"{part}.{str(key).removeprefix('module.')}": value for key, value in state.items()}
    return content, {}


def _parts(folder: Path) -> dict[str, Path]:
    parts = {file.stem: file for file in sorted(folder.iterdir()) if file.stem.startswith(("encoder_", "decoder_"))}
    stages = {part.split("_")[1] for part in parts if "_s" in part} or {""}
    wanted = [f"{kind}_{stage + '_' if stage else ''}lv{level}" for kind in ("encoder", "decoder")
              for stage in sorted(stages) for level in (1, 2, 3)]  # fmt: skip
    if missing := [part for part in wanted if part not in parts]:
        raise CheckpointError(
            f"{folder} is a folder and lacks {len(missing)} of the {len(wanted)} files of DMPHN, {', '.join(missing[:3])} "
            "among them: download the network whole, or name a checkpoint in one file."
        )
    return {part: parts[part] for part in wanted}


def _sha256_of_parts(folder: Path) -> str:
    import hashlib

    digest = hashlib.sha256()
    for part, file in _parts(folder).items():
        digest.update(f"{part} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def _mappings(content: Mapping[Any, Any]) -> list[Mapping[Any, Any]]:
    return [content, *(value for value in content.values() if isinstance(value, Mapping))]


def _counts(spec: ModelSpec, value: Tensor) -> bool:
    """Whole numbers that an architecture of spandrel's keeps among its weights: positions, and batches counted."""
    return spec.network == registry.SPANDREL and not value.is_floating_point() and not value.is_complex()


def _chosen(content: Mapping[Any, Any], path: Path) -> tuple[Found, tuple[str, ...]]:
    """The state dict to take of all that ``content`` holds, and what is to be said of the choice."""
    found = find_states(content, str(path))
    chosen, others = found[0], found[1:]
    remarks = []
    if chosen.where:
        averaged = ", the averaged ones" if chosen.averaged else ""
        remarks.append(f"{path.name}: the weights were read from {chosen.where}{averaged}.")
    if others:
        places = ", ".join(one.where or "no key" for one in others[:3])
        remarks.append(f"{path.name}: other weights, under {places}, were left.")
    if chosen.left_out:
        names = ", ".join(name[:60] for name in chosen.left_out[:3])
        remarks.append(f"{path.name}: {len(chosen.left_out)} other entries beside the weights were left, {names} among them.")
    return chosen, tuple(remarks)


def _checked(spec: ModelSpec, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors of ``state`` in float32 under the names of the network, every shape and value checked."""
    if spec.network == registry.SPANDREL:
        # Its own keys are what spandrel built; whatever else stands there was spandrel's to judge.
        expected = {key: tuple(value.shape) for key, value in state.items()}
    else:
        with torch.device("meta"):
            expected = {key: tuple(value.shape) for key, value in registry.build(spec).state_dict().items()}
    dense = {key: tuple(value.shape) for key, value in state.items() if not value.is_nested}
    missing, extra = expected.keys() - state.keys(), state.keys() - expected.keys()
    wrong = {key for key in expected.keys() & state.keys() if dense.get(key) != expected[key]}
    if odd := sorted(missing | extra | wrong):
        raise CheckpointError(
            f"{path} is not a checkpoint of {spec.name}: {len(missing)} keys are missing, {len(extra)} unknown and "
            f"{len(wrong)} of another shape, {odd[0][:100]} among them."
        )
    if (count := sum(state[key].numel() for key in expected)) > MOST_WEIGHTS:
        raise CheckpointError(f"{path} says it holds {count:,} weights: more than {MOST_WEIGHTS:,} are no restoration network.")
    for key in expected:
        if (
            not (state[key].is_floating_point() or _counts(spec, state[key]))
            or state[key].layout != torch.strided
            or state[key].is_meta
        ):
            raise CheckpointError(f"{path}: {key} holds no dense floating-point weights: save model.state_dict() instead.")
    tensors = {
        key: (value if _counts(spec, value) else value.to(torch.float32)).contiguous()
        for key in expected
        if (value := state[key]) is not None
    }
    for key, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: {key} holds NaN or infinity; use a checkpoint from before the training diverged.")
    return tensors
