"""Where a file comes from, walked back: engine -> graph -> checkpoint -> training run, and what was compared at each step.

Parents are told by their hash and looked for in the file's folder, in the current one and among what is bundled. A step says
whether two things that should agree do; it says just as plainly when one of them is not here, or when there is nothing that
could be compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mimo.artifact import Artifact, artifact_from, onnx_lineage, open_artifact, sidecar_of
from mimo.bundled import with_hash
from mimo.errors import MimoError
from mimo.files import sha256_of
from mimo.formats import format_info
from mimo.kinds import kind_of
from mimo.networks.registry import ADOPTED

Outcome = Literal["match", "changed", "not found", "nothing to compare"]

MOST_STEPS = 16
"""Parents walked back one behind the other; ours have four."""


@dataclass(frozen=True)
class Step:
    """One comparison on the way back."""

    what: str
    """Which file or run it is about."""
    outcome: Outcome
    compared: str
    """What with what; where nothing could be, why."""


def walk(path: Path) -> Iterator[Step]:
    """The steps from the artifact or checkpoint at ``path`` back to its training run.

    Nothing is raised for a file that is not what it is said to be: that is a step that ``changed``, and what stands behind it
    cannot be told from it. Raises :class:`~mimo.errors.ArtifactError` when ``path`` is not there.
    """
    if kind_of(path) == "checkpoint":
        yield from _checkpoint(path, set())
        return
    seen: set[str] = set()
    current: Path | None = path
    while current is not None and len(seen) < MOST_STEPS:
        artifact, steps = _artifact(current)
        yield from steps
        if artifact is None:
            return
        seen.add(artifact.sha256)
        if artifact.parent is None:
            yield from _origin(artifact)
            return
        step, current = _parent(artifact)
        yield step
        if current is None:
            # The graph in between is gone; the checkpoint is named all the same.
            yield from _origin(artifact)
        elif (artifact.parent_sha256 or "") in seen:
            yield Step(current.name, "changed", "it names itself among its own parents")
            return


def _artifact(path: Path) -> tuple[Artifact | None, list[Step]]:
    """The artifact, where it is what it says, and the steps that show it."""
    try:
        artifact = open_artifact(path)
    except MimoError as error:
        if not path.is_file():
            raise
        return None, [Step(path.name, "changed", str(error))]
    sidecar = sidecar_of(path)
    title = f"{path.name}, {format_info(artifact.format).title}"
    steps = []
    if sidecar.is_file():
        steps.append(Step(title, "match", f"its bytes with the sha256 in {sidecar.name} ({artifact.sha256[:12]})"))
    else:
        steps.append(Step(title, "nothing to compare", "it has no sidecar that would hold its hash"))
    match artifact.format:
        case "onnx":
            steps.append(Step(path.name, "match", "types, precision and lineage with what the graph itself holds"))
        case "tensorrt" | "tensorrt-rtx":
            steps.append(Step(path.name, "match", "tag and version in the plan's header with the sidecar"))
        case "openvino":
            pass  # its two files are in the hash, and nothing in them is ours
    return artifact, steps


def _parent(artifact: Artifact) -> tuple[Step, Path | None]:
    name, sha256 = str(artifact.parent), artifact.parent_sha256
    what = f"{name}, from which {artifact.path.name} was made"
    if sha256 is None:
        return Step(what, "nothing to compare", f"{sidecar_of(artifact.path).name} holds no hash of it"), None
    found = with_hash(sha256, artifact.path.parent, "onnx")
    if found is None:
        there = artifact.path.with_name(name)
        if there.is_file():
            now = sha256_of(there)[:12]
            return Step(what, "changed", f"sha256 {now} with the {sha256[:12]} that {artifact.path.name} was made from"), None
        return Step(what, "not found", f"no file with sha256 {sha256[:12]} is in its folder, here or bundled"), None
    try:
        text = artifact_from(found, sha256, onnx_lineage(found), f"{found.name}'s metadata").checkpoint_sha256
    except MimoError as error:
        return Step(what, "changed", str(error)), None
    if text != artifact.checkpoint_sha256:
        return Step(what, "changed", f"the checkpoint that it names ({text[:12]}) with {artifact.checkpoint_sha256[:12]}"), None
    called = "" if found.name == name else f", now called {found.name}"
    return Step(what, "match", f"sha256 {sha256[:12]}{called}, and the checkpoint that both name"), found


def _origin(artifact: Artifact) -> Iterator[Step]:
    sha256 = artifact.checkpoint_sha256
    if artifact.spec.network == ADOPTED:
        found = with_hash(sha256, artifact.path.parent, "onnx")
        what = f"the graph that {artifact.path.name} was adopted from"
        if found is None:
            yield Step(what, "not found", f"no file with sha256 {sha256[:12]} is in its folder or here")
        else:
            yield Step(what, "match", f"sha256 {sha256[:12]}: {found.name}")
        yield Step("training run", "nothing to compare", "an adopted graph says nothing of its training")
        return
    found = with_hash(sha256, artifact.path.parent, "checkpoint")
    if found is None:
        yield Step("checkpoint", "not found", f"no checkpoint with sha256 {sha256[:12]} is in its folder, here or bundled")
        return
    yield Step(f"{found.name}, the checkpoint", "match", f"sha256 {sha256[:12]} with the one that {artifact.path.name} names")
    yield from _checkpoint(found, set())


def _checkpoint(path: Path, seen: set[str]) -> Iterator[Step]:
    """The tie of weights and lineage in a checkpoint, then what it says that it was made from."""
    lineage = _lineage_of(path)
    if lineage is None:
        yield Step(path.name, "nothing to compare", "a pickle holds weights without a lineage")
        return
    if isinstance(lineage, Step):
        yield lineage
        return
    yield _tie(path, lineage)
    seen.add(sha256_of(path))
    if "averaged" in lineage:
        yield from _parts(path, lineage["averaged"], seen)
        return
    if "init_sha256" in lineage:
        yield from _ancestor(path, lineage.get("init", "its start"), lineage["init_sha256"], seen)
    yield from _training(path, lineage)


def _lineage_of(path: Path) -> dict[str, str] | Step | None:
    from safetensors import SafetensorError, safe_open

    from mimo.kinds import is_safetensors
    from mimo.networks.tied import lineage_in

    if path.is_dir():
        return None
    with path.open("rb") as file:
        if not is_safetensors(file.read(9), path.stat().st_size):
            return None
    try:
        with safe_open(path, framework="np") as opened:
            return lineage_in(opened.metadata())
    except (SafetensorError, ValueError, RecursionError) as error:
        return Step(path.name, "changed", f"it is damaged ({str(error)[:100]})")


def _tie(path: Path, lineage: Mapping[str, str]) -> Step:
    from mimo.networks.tied import TIE, tie_of

    if TIE not in lineage:
        return Step(path.name, "nothing to compare", "its lineage is not tied to its weights: an older file, or not ours")
    same = tie_of(path.read_bytes(), lineage) == lineage[TIE]
    return Step(path.name, "match" if same else "changed", "weights and lineage with the hash that ties them")


def _ancestor(path: Path, name: str, sha256: str, seen: set[str]) -> Iterator[Step]:
    what = f"{name}, the weights that {path.name} was made from"
    found = with_hash(sha256, path.parent, "checkpoint")
    if found is None:
        yield Step(what, "not found", f"no checkpoint with sha256 {sha256[:12]} is in its folder, here or bundled")
        return
    yield Step(what, "match", f"sha256 {sha256[:12]}: {found.name}")
    if sha256 not in seen and len(seen) < MOST_STEPS:
        yield from _checkpoint(found, seen)


def _parts(path: Path, text: str, seen: set[str]) -> Iterator[Step]:
    try:
        parts = [(str(part["name"]), str(part["sha256"])) for part in json.loads(text)]
    except (ValueError, KeyError, TypeError, RecursionError):
        yield Step(path.name, "changed", "the list of what it averages is damaged")
        return
    for name, sha256 in parts[:MOST_STEPS]:
        yield from _ancestor(path, name, sha256, seen)


def _training(path: Path, lineage: Mapping[str, str]) -> Iterator[Step]:
    what = f"training run of {path.name}"
    if lineage.get("origin") != "mimo train":
        yield Step(what, "nothing to compare", f"its origin is {lineage.get('origin', 'not told')[:100]}")
        return
    file = path.with_name("recipe.json")
    if not file.is_file():
        yield Step(what, "not found", f"no recipe.json is beside {path.name}")
        return
    try:
        told, kept = _recipe(lineage["recipe"]), _recipe(file.read_text("utf-8"))
    except (ValueError, KeyError, RecursionError, OSError) as error:
        yield Step(what, "changed", f"recipe.json or the recipe in {path.name} is damaged ({str(error)[:100]})")
        return
    other = sorted(key for key in told if kept.get(key) != told[key])
    told_of = f", {', '.join(other[:3])[:100]}" if other else ""
    yield Step(what, "changed" if other else "match", f"recipe.json with the recipe in {path.name}{told_of}")
    yield from _data(path.with_name("last.pt"), lineage)


def _recipe(text: str) -> dict[str, Any]:
    """What a continued run cannot change: without its length. Raises ``ValueError`` and ``RecursionError``."""
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("no recipe")
    return {key: value for key, value in content.items() if key not in ("epochs", "iterations")}


def _data(last: Path, lineage: Mapping[str, str]) -> Iterator[Step]:
    from importlib.util import find_spec

    what = "training data"
    if not last.is_file():
        yield Step(what, "not found", "no last.pt is beside the weights")
    elif not find_spec("torch"):
        yield Step(what, "nothing to compare", "last.pt takes torch to read")
    else:
        from mimo.learning.state import read_run

        try:
            same = read_run(last)["data"] == lineage.get("data_sha256")
        except MimoError as error:
            yield Step(what, "changed", str(error))
            return
        yield Step(what, "match" if same else "changed", "the hash of the pictures in last.pt with the one in the weights")
