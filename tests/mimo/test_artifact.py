"""Artifacts: what the sidecar says, and what happens when it and the file no longer agree."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import mimo.formats
from mimo.artifact import Artifact, Receipt, artifact_from, open_artifact, sidecar_of, tool_versions
from mimo.errors import ArtifactError
from mimo.files import sha256_of
from mimo.networks.checkpoint import load_checkpoint
from mimo.networks.registry import ADOPTED, named
from mimo.spec import ModelSpec, Shape, ShapeRange
from tests.plans import plan_bytes
from tests.tiny import SPEC, Tiny

SHAPES = ShapeRange(Shape(1, 64, 64), Shape(1, 720, 1280), Shape(4, 2160, 3840))
RECEIPT = Receipt({"fp16": 118, "fp32": 2}, {"fp16": 6}, 3)


@pytest.fixture
def copy(tiny: Tiny, tmp_path: Path) -> Path:
    """The FP32 file and its sidecar, to be changed."""
    for path in (tiny.onnx, sidecar_of(tiny.onnx)):
        shutil.copy(path, tmp_path)
    return tmp_path / tiny.onnx.name


@pytest.fixture
def engine(tmp_path: Path) -> Artifact:
    """An engine by its sidecar; for what is tested here its bytes may be any."""
    path = tmp_path / "mimo-unet.fp16.engine"
    path.write_bytes(plan_bytes())
    artifact = Artifact(
        path=path,
        sha256=sha256_of(path),
        format="tensorrt-rtx",
        precision="mixed",
        io="float16",
        spec=named("mimo-unet"),
        checkpoint_sha256="c" * 64,
        parent="mimo-unet.fp16.onnx",
        parent_sha256="d" * 64,
        shapes=SHAPES,
        receipt=RECEIPT,
        compute_capabilities=("8.6", "8.9"),
        tools={"tensorrt-rtx-cu13": "1.7"},
    )
    artifact.write_sidecar()
    return artifact


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the sidecar of ``path``."""
    content = json.loads(sidecar_of(path).read_text())
    change(content)
    sidecar_of(path).write_text(json.dumps(content))


def test_an_engine_goes_round_with_its_whole_lineage(engine: Artifact) -> None:
    assert open_artifact(engine.path) == engine


def test_the_profile_of_a_network_of_another_multiple_goes_round(engine: Artifact) -> None:
    shape = Shape(1, 50, 70)
    odd = replace(engine, spec=ModelSpec("elsewhere", ADOPTED, {}, 2), shapes=ShapeRange(shape, shape, shape, 2))
    odd.write_sidecar()
    assert open_artifact(odd.path) == odd


def test_optional_parts_go_round_as_none(engine: Artifact) -> None:
    bare = replace(engine, parent=None, parent_sha256=None, shapes=None, receipt=None, compute_capabilities=(), tools={})
    bare.write_sidecar()
    assert open_artifact(bare.path) == bare


def test_the_sidecar_names_the_file_and_is_plain_json(engine: Artifact) -> None:
    content = json.loads(sidecar_of(engine.path).read_text())
    assert content["file"] == engine.path.name
    assert content["sha256"] == engine.sha256
    assert content["shapes"] == {"min": "1x64x64", "opt": "1x720x1280", "max": "4x2160x3840"}
    assert content["receipt"]["convolutions"] == {"fp16": 118, "fp32": 2}


def test_exports_say_where_they_come_from(tiny: Tiny) -> None:
    checkpoint = load_checkpoint(tiny.checkpoint)
    fp32, fp16 = open_artifact(tiny.onnx), open_artifact(tiny.fp16)
    assert (fp32.format, fp32.precision, fp32.io, fp32.spec) == ("onnx", "fp32", "float32", SPEC)
    assert (fp16.format, fp16.precision, fp16.io, fp16.spec) == ("onnx", "fp16", "float32", SPEC)
    assert fp32.checkpoint_sha256 == fp16.checkpoint_sha256 == checkpoint.sha256
    assert (fp32.parent, fp32.parent_sha256) == (None, None)
    assert (fp16.parent, fp16.parent_sha256) == (tiny.onnx.name, fp32.sha256)
    assert {"torch", "onnx", "onnx-ir", "onnxscript"} <= fp32.tools.keys()
    assert fp16.tools == fp32.tools


@pytest.mark.parametrize("file", ["onnx", "fp16"])
def test_an_onnx_file_alone_says_the_same(tiny: Tiny, tmp_path: Path, file: str) -> None:
    path: Path = getattr(tiny, file)
    alone = tmp_path / "renamed.onnx"
    shutil.copy(path, alone)
    assert open_artifact(alone) == replace(open_artifact(path), path=alone)


def test_an_engine_alone_is_refused(engine: Artifact) -> None:
    sidecar_of(engine.path).unlink()
    with pytest.raises(ArtifactError, match=r"has no sidecar mimo-unet\.fp16\.engine\.json.* keep the two together"):
        open_artifact(engine.path)


@pytest.mark.parametrize("change", ["one byte", "longer", "empty", "swapped"])
def test_changed_bytes_are_found_out(copy: Path, tiny: Tiny, change: str) -> None:
    open_artifact(copy)
    content = bytearray(copy.read_bytes())
    match change:
        case "one byte":
            content[len(content) // 2] ^= 1
        case "longer":
            content += b"\0"
        case "empty":
            content.clear()
        case _:
            content[:] = tiny.fp16.read_bytes()
    copy.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"has changed since {copy.name}\.json was written .*make it again, or restore"):
        open_artifact(copy)


@pytest.mark.parametrize("content", ["", "no json", "[]", "3", '"text"', "{}", "null", '{"sha256": ', "\udcff"])
def test_a_sidecar_that_is_none(copy: Path, content: str) -> None:
    sidecar_of(copy).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ArtifactError, match=rf"{copy.name}\.json is damaged .*make {copy.name} again"):
        open_artifact(copy)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "coreml"),
        ("format", None),
        ("precision", "int4"),
        ("io", "int8"),
        ("model", None),
        ("model", []),
        ("model", {}),
        ("model", {"name": "x", "residual_blocks": "many", "width": 8, "size_multiple": 4}),
        ("model", {"name": "x", "residual_blocks": float("inf"), "width": 8, "size_multiple": 4}),
        ("shapes", {"min": "1x64x64"}),
        ("shapes", {"min": 1, "opt": 2, "max": 3}),
        ("shapes", {"min": "1x64x64", "opt": "1x32x32", "max": "1x64x64"}),
        ("shapes", {"min": "small", "opt": "medium", "max": "large"}),
        ("shapes", "1x64x64"),
        ("receipt", {"convolutions": {}}),
        ("receipt", 3),
        ("compute_capabilities", None),
    ],
    ids=str,
)
def test_a_sidecar_with_a_damaged_entry(engine: Artifact, key: str, value: Any) -> None:
    rewrite(engine.path, lambda content: content.update({key: value}))
    with pytest.raises(ArtifactError, match=r"engine\.json is damaged .*make the file again"):
        open_artifact(engine.path)


@pytest.mark.parametrize(
    "key",
    [
        "format", "precision", "io", "model", "checkpoint_sha256", "parent", "parent_sha256", "shapes", "receipt",
        "compute_capabilities", "tools", "schema",
    ],
)  # fmt: skip
def test_a_sidecar_with_a_missing_entry(engine: Artifact, key: str) -> None:
    rewrite(engine.path, lambda content: content.pop(key))
    with pytest.raises(ArtifactError, match=f"is damaged .*{key}"):
        open_artifact(engine.path)


def test_every_entry_of_the_lineage_is_read(engine: Artifact) -> None:
    """The list of the test above is whole."""
    assert set(engine.lineage()) == {
        "format", "precision", "io", "model", "checkpoint_sha256", "parent", "parent_sha256", "shapes", "receipt",
        "compute_capabilities", "tools", "schema",
    }  # fmt: skip


def test_a_sidecar_of_another_schema(engine: Artifact) -> None:
    rewrite(engine.path, lambda content: content.update(schema=2))
    with pytest.raises(ArtifactError, match="has schema 2, this version of mimo reads 1: make the file again"):
        open_artifact(engine.path)


@pytest.mark.parametrize("there", ["nothing", "folder"])
def test_a_file_that_is_not_there(tmp_path: Path, there: str) -> None:
    path = tmp_path / "mimo-unet.onnx"
    if there == "folder":
        path.mkdir()
    with pytest.raises(ArtifactError, match="does not exist: make it with mimo export or mimo build-engine"):
        open_artifact(path)


def test_a_file_that_may_not_be_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(mimo.formats, "sha256_of", refuse)
    with pytest.raises(ArtifactError, match=r"cannot be read \(Permission denied\): check its permissions"):
        open_artifact(copy)


def another_model() -> onnx.ModelProto:
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    other = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    weight = numpy_helper.from_array(np.ones(1, np.float32), "w")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "another", [value], [other], [weight])
    return helper.make_model(graph)


@pytest.mark.parametrize("entry", [None, ("producer", "someone"), ("lineage", "{}")], ids=["none", "other", "not ours"])
def test_an_onnx_file_of_another_model(tmp_path: Path, entry: tuple[str, str] | None) -> None:
    model = another_model()
    if entry:
        helper.set_model_props(model, dict([entry]))
    path = tmp_path / "another.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match=r"an ONNX file of another model: only files made by mimo export"):
        open_artifact(path)


@pytest.mark.parametrize("lineage", ["no json", '{"schema": 1}'])
def test_an_onnx_file_with_damaged_lineage(tmp_path: Path, lineage: str) -> None:
    model = another_model()
    helper.set_model_props(model, {"mimo.lineage": lineage})
    path = tmp_path / "damaged.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match=r"damaged.*(make the file|export it) again"):
        open_artifact(path)


@pytest.mark.parametrize("content", [b"a text file, not ONNX", b"\xff" * 100], ids=["text", "bytes"])
def test_a_file_that_is_no_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "not.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="is not a readable ONNX file: export it again"):
        open_artifact(path)


def test_an_onnx_file_whose_weights_are_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "split.onnx"
    onnx.save(another_model(), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ArtifactError, match="its weights lie in another file"):
        open_artifact(path)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_onnx_file_alone(copy: Path, share: float) -> None:
    sidecar_of(copy).unlink()
    content = copy.read_bytes()
    copy.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ArtifactError, match=r"not a readable ONNX file|another model"):
        open_artifact(copy)


def test_the_error_names_where_the_lineage_stood(engine: Artifact) -> None:
    with pytest.raises(ArtifactError, match=r"^somewhere is damaged"):
        artifact_from(engine.path, engine.sha256, "{}", "somewhere")


def test_versions_are_of_what_is_installed() -> None:
    versions = tool_versions("numpy", "no-such-distribution")
    assert versions["numpy"] == np.__version__
    assert "no-such-distribution" not in versions


def test_a_receipt_reads_as_a_sentence() -> None:
    assert str(RECEIPT) == "convolutions: 118 in fp16, 2 in fp32; inner casts: 3"


@pytest.mark.parametrize(
    "change",
    [
        {"shapes": ShapeRange(Shape(1, 64, 64), Shape(1, 64, 64), Shape(1, 64, 64))},
        {"spec": named("mimo-unet-plus")},
        {"parent": "other.onnx", "parent_sha256": "e" * 64},
        {"checkpoint_sha256": "e" * 64},
        {"tools": {"torch": "99"}},
    ],
)
def test_a_sidecar_that_says_something_else_than_its_graph_is_refused(copy: Path, change: dict[str, Any]) -> None:
    replace(open_artifact(copy), **change).write_sidecar()
    with pytest.raises(ArtifactError, match="says something else"):
        open_artifact(copy)
