"""Sidecars that are damaged in every way end in our error, whatever the entry and whatever stands in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mimo.artifact import open_artifact, sidecar_of
from mimo.errors import ArtifactError
from mimo.plan_header import check_plan
from tests.plans import plan_bytes
from tests.tiny import Tiny

WRONG: tuple[Any, ...] = (
    5, 8.6, -1, 0, True, "", "x", "../../etc/passwd", "\ud800", [], ["a"], [8.6], {}, {"a": {}}, "9" * 5000,
)  # fmt: skip
ENTRIES = (
    "file", "sha256", "schema", "format", "precision", "io", "model", "checkpoint_sha256", "parent", "parent_sha256",
    "shapes", "receipt", "compute_capabilities", "tools",
)  # fmt: skip
RIGHT: dict[str, tuple[Any, ...]] = {
    "file": ("x", "9" * 5000), "parent": ("x",), "compute_capabilities": ([], ["a"]), "tools": ({},),
}  # fmt: skip


@pytest.fixture
def copy(tiny: Tiny, tmp_path: Path) -> Path:
    for path in (tiny.engine, sidecar_of(tiny.engine)):
        shutil.copy(path, tmp_path)
    return tmp_path / tiny.engine.name


def change(path: Path, **entries: Any) -> None:
    content = json.loads(sidecar_of(path).read_text())
    sidecar_of(path).write_text(json.dumps(content | entries))


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_of_another_type_or_range_is_refused(copy: Path, entry: str) -> None:
    original = sidecar_of(copy).read_text()
    for value in WRONG:
        if value in RIGHT.get(entry, ()):
            continue
        sidecar_of(copy).write_text(original)
        change(copy, **{entry: value})
        with pytest.raises(ArtifactError) as caught:
            open_artifact(copy)
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"schema": 1, "x": ' + b"[" * 100_000,
        b" " * (1 << 21),
        b'{"schema": NaN}',
        b"\xff",
    ],
    ids=["lists", "objects", "beside the schema", "two megabytes", "NaN", "no UTF-8"],
)
def test_json_without_bounds_is_refused(copy: Path, content: bytes) -> None:
    sidecar_of(copy).write_bytes(content)
    with pytest.raises(ArtifactError, match="is damaged"):
        open_artifact(copy)


def test_an_unknown_entry_is_refused(copy: Path) -> None:
    change(copy, comment="x")
    with pytest.raises(ArtifactError, match="comment"):
        open_artifact(copy)


@pytest.mark.parametrize("claim", [{"precision": "fp16"}, {"precision": "mixed"}, {"io": "float16"}], ids=str)
def test_a_sidecar_cannot_loosen_what_the_graph_computes_in(tiny: Tiny, tmp_path: Path, claim: dict[str, str]) -> None:
    for path in (tiny.onnx, sidecar_of(tiny.onnx)):
        shutil.copy(path, tmp_path)
    change(tmp_path / tiny.onnx.name, **claim)
    with pytest.raises(ArtifactError, match="computes in fp32 with float32 input and output, and is said to"):
        open_artifact(tmp_path / tiny.onnx.name)


def test_random_bytes_are_no_plan_though_their_sidecar_agrees(copy: Path) -> None:
    import hashlib

    copy.write_bytes(bytes(range(250)) * 4)
    change(copy, sha256=hashlib.sha256(copy.read_bytes()).hexdigest())
    with pytest.raises(ArtifactError, match="does not begin as a plan of tensorrt-rtx does"):
        open_artifact(copy)


def test_the_header_of_a_plan_is_read(tmp_path: Path, tiny: Tiny) -> None:
    path = tmp_path / "p.engine"
    path.write_bytes(plan_bytes())
    assert check_plan(path, "tensorrt-rtx", "1.7.1.116") == "1.7.1.116"
    with pytest.raises(ArtifactError, match=r"was written by tensorrt-rtx 1\.7\.1\.116, its sidecar says 1\.6\.0"):
        check_plan(path, "tensorrt-rtx", "1.6.0")
    with pytest.raises(ArtifactError, match="does not begin as a plan of tensorrt does"):
        check_plan(path, "tensorrt", None)
    path.write_bytes(plan_bytes() + b"x")
    with pytest.raises(ArtifactError, match="of another length than it says"):
        check_plan(path, "tensorrt-rtx", None)
    path.write_bytes(plan_bytes(tag=b"ftrt", version=(10, 9, 0, 34)))
    assert check_plan(path, "tensorrt", "10.9.0.34") == "10.9.0.34"
    assert check_plan(tiny.engine, "tensorrt-rtx", open_artifact(tiny.engine).tools["tensorrt-rtx"])
