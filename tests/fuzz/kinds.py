"""Each kind of hostile input: how it is made and what reads it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from benchmarks.recorded import _entries
from benchmarks.schema import read_report
from engines.verification_report import verification_schema
from export.to_fp16 import to_fp16
from export.to_onnx import export_onnx
from mimo.artifact import load_onnx, open_artifact, sidecar_of
from mimo.containers.identify import Format
from mimo.images import decode_photo, encode_photo
from mimo.learning import prepare, synthesis
from mimo.learning.distributed import World
from mimo.learning.recipe import Recipe, parse_augment
from mimo.learning.state import Learner, read_run
from mimo.lineage import walk
from mimo.networks.checkpoint import load_checkpoint, save_checkpoint
from mimo.networks.tied import LINEAGE
from mimo.onnx_stats import macs, summarise
from mimo.spec import Shape, ShapeRange
from tests.fuzz import inputs
from tests.plans import plan_bytes
from tests.tiny import PROFILE, SPEC, tiny_state


@dataclass(frozen=True)
class Kind:
    """One kind of input."""

    name: str
    inputs: st.SearchStrategy[Any]
    read: Callable[[Any, Path], object]
    """Called in the child with an input and an empty folder."""


def kinds(folder: Path) -> list[Kind]:
    """All of them; ``folder`` is for the files that are mutated. Its checkpoint and graph are the tiny network's."""
    checkpoint, onnx = folder / "w.safetensors", folder / "m.onnx"
    save_checkpoint(checkpoint, SPEC, tiny_state(), {"origin": "random"})
    export_onnx(load_checkpoint(checkpoint), onnx)
    source, sidecar = onnx.read_bytes(), json.loads(sidecar_of(onnx).read_bytes())
    lineage = {key: sidecar[key] for key in sidecar if key not in ("file", "sha256")}
    state = tiny_state()
    weights = checkpoint.read_bytes()
    untied = save(state, metadata={LINEAGE: json.dumps({"origin": "random"})})
    small = {key: state[key] for key in list(state)[:6]}
    zipped = io.BytesIO()
    torch.save(state, zipped)
    plan = {
        **sidecar, "file": "m.engine", "format": "tensorrt-rtx", "parent": "m.onnx", "parent_sha256": sidecar["sha256"],
        "shapes": {name: str(getattr(PROFILE, name)) for name in ("min", "opt", "max")},
        "receipt": {"convolutions": {"fp16": 40}, "resizes": {"fp16": 4}, "inner_casts": 0},
        "compute_capabilities": ["8.6"], "tools": {"tensorrt-rtx": "1.7.1"},
    }  # fmt: skip
    run = {"format": 1, "model": small, "raw": None, "averaged": 0, "optimizer": {}, "scaler": {}, "data": "a" * 64,
           "position": {"step": 1, "samples": 2, "seconds": 1.0, "validated": 0}, "best": {"psnr": None, "step": 0},
           "watchdog": [0, 0.0, 0.0], "random": [{"cpu": torch.get_rng_state()}], "tools": {}}  # fmt: skip
    recipe = Recipe(spec=SPEC, data=(Path("a"),), iterations=5).to_json()
    run["recipe"] = recipe
    record = {"seed": 1, "shake": [1.0, 2.0], "photographs": {"a": "b"}}
    report = [{"file": "m.onnx", "sha256": "a" * 64, "status": "passed", "cases": [], "quality": {"pictures": 1}}]
    return [
        *(Kind(f"pictures, {kind}", inputs.damaged(_pictures(kind)), _picture) for kind in ("jpeg", "png", "tiff", "webp")),
        Kind("ONNX, bytes", inputs.damaged((source,)), _graph),
        Kind("ONNX, graphs", inputs.graph(source), _graph),
        Kind("sidecar of an ONNX file", inputs.json_text(sidecar), partial(_sidecar, "m.onnx", source)),
        Kind("lineage in an ONNX file", inputs.json_text(lineage),
             partial(_metadata, source)),
        Kind("sidecar of an engine", inputs.json_text(plan), partial(_sidecar, "m.engine", plan_bytes())),
        Kind("engine", inputs.damaged((plan_bytes(), plan_bytes(tag=b"ftrt"))), partial(_plan, plan)),
        Kind("sidecar of an OpenVINO IR", inputs.json_text({**sidecar, "file": "m.xml", "format": "openvino"}),
             partial(_sidecar, "m.xml", b"<?xml version='1.0'?><net name='m'/>")),
        Kind("safetensors, bytes", inputs.damaged((weights, untied)), partial(_checkpoint, "w.safetensors")),
        Kind("safetensors, headers", st.one_of(inputs.safetensors(weights), inputs.safetensors(untied)),
             partial(_checkpoint, "w.safetensors")),
        Kind("pickles that run code", inputs.hostile_pickle(small), partial(_checkpoint, "w.pkl")),
        Kind("checkpoints, tensors", inputs.odd_state(state), partial(_checkpoint, "w.pt")),
        Kind("checkpoints, bytes", inputs.damaged((zipped.getvalue(),)), partial(_checkpoint, "w.pt")),
        Kind("last.pt", inputs.saved(run), _run),
        Kind("recipe", inputs.changed(recipe), lambda value, folder: Recipe.from_json(value)),
        Kind("records of prepare and synthesize", inputs.json_text(record), _record),
        Kind("recipe.json beside weights", inputs.json_text(recipe), partial(_beside, weights)),
        Kind("reports of verify and bench", inputs.json_text(report), _report),
        Kind("option values", inputs.TEXTS, _options),
    ]  # fmt: skip


def _pictures(kind: Format) -> tuple[bytes, ...]:
    samples = np.random.default_rng(1).integers(0, 255, (24, 32, 3), np.uint8)
    texts = []
    for picture in (Image.fromarray(samples), Image.fromarray(samples[..., 0]), Image.fromarray(samples).convert("RGBA")):
        if kind == "jpeg" and picture.mode == "RGBA":
            continue
        out = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "a picture"
        picture.save(out, kind.upper(), exif=exif)
        texts.append(out.getvalue())
    return tuple(texts)


def _picture(data: bytes, folder: Path) -> None:
    photo = decode_photo(data, "it")
    for kind in ("jpeg", "png", "tiff", "webp"):
        encode_photo(photo, kind, "it")


def _graph(data: bytes, folder: Path) -> None:
    import onnx_ir as ir

    path = folder / "m.onnx"
    path.write_bytes(data)
    list(walk(path))
    open_artifact(path)
    model = load_onnx(path)
    summarise(model)
    macs(model, Shape(1, 64, 64))
    to_fp16(ir.from_proto(model))


def _sidecar(name: str, content: bytes, text: bytes, folder: Path) -> None:
    path = folder / name
    path.write_bytes(content)
    if path.suffix == ".xml":
        path.with_suffix(".bin").write_bytes(b"weights")
    sidecar_of(path).write_bytes(text)
    list(walk(path))
    artifact = open_artifact(path)
    str(artifact.spec), str(artifact.receipt), artifact.lineage_sha256


def _metadata(source: bytes, text: bytes, folder: Path) -> None:
    import onnx

    model = onnx.load_from_string(source)
    model.metadata_props[0].value = text.decode("utf-8", "replace")
    _graph(model.SerializeToString(), folder)


def _plan(sidecar: dict[str, Any], data: bytes, folder: Path) -> None:
    kind = "tensorrt" if data[:4] == b"ftrt" else "tensorrt-rtx"
    record = {**sidecar, "format": kind, "sha256": hashlib.sha256(data).hexdigest()}
    _sidecar("m.engine", data, json.dumps(record).encode(), folder)


def _checkpoint(name: str, data: bytes, folder: Path) -> None:
    path = folder / name
    path.write_bytes(data)
    list(walk(path))
    load_checkpoint(path).build()


def _run(data: bytes, folder: Path) -> None:
    path = folder / "last.pt"
    path.write_bytes(data)
    content = read_run(path)
    learner = Learner(Recipe.from_json(content["recipe"]), World(torch.device("cpu")), fresh=False)
    learner.unpack(content)


def _record(text: bytes, folder: Path) -> None:
    for name, read in ((prepare.RECORD, prepare._same_settings), (synthesis.RECORD, synthesis._same_settings)):
        (folder / name).write_bytes(text)
        _refusals(partial(read, folder, {"seed": 1}))


def _beside(weights: bytes, text: bytes, folder: Path) -> None:
    (folder / "w.safetensors").write_bytes(weights)
    (folder / "recipe.json").write_bytes(text)
    facts = {"origin": "mimo train", "recipe": text.decode("utf-8", "replace")}
    from mimo.lineage import _training

    list(_training(folder / "w.safetensors", facts))


def _report(text: bytes, folder: Path) -> None:
    path = folder / "m.onnx.verification.json"
    path.write_bytes(text)
    verification_schema()
    _entries(path)
    read_report(path)


def _options(text: str, folder: Path) -> None:
    def shape() -> object:
        return ShapeRange(Shape.parse(text), Shape.parse(text), Shape.parse(text))

    _refusals(shape)
    _refusals(lambda: parse_augment(text))


def _refusals(*calls: Callable[[], object]) -> None:
    """Every call is made, though an earlier one refuses; the last refusal is raised."""
    from mimo.errors import MimoError

    for call in calls:
        try:
            call()
        except MimoError as error:
            str(error)


def named(all_of_them: Sequence[Kind], names: Sequence[str]) -> list[Kind]:
    """Those of which a name in ``names`` is the beginning; all without names."""
    return [kind for kind in all_of_them if not names or kind.name.startswith(tuple(names))]
