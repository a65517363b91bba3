"""No result takes the place of what a command reads, under whatever name it is given."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from mimo.errors import OutputError
from mimo.outputs import check_output_folder, check_outputs, identity


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file with its sidecar, in a folder of its own."""
    path = tmp_path / "models" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(b"graph")
    path.with_name("model.onnx.json").write_bytes(b"{}")
    return path


def same(model: Path, how: str) -> Path:
    """Another name for ``model``."""
    other = model.parent.parent / "other"
    match how:
        case "itself":
            return model
        case "relative":
            return Path(os.path.relpath(model))
        case "dotted":
            return model.parent / ".." / model.parent.name / model.name
        case "symbolic link":
            other.symlink_to(model)
        case "link of a link":
            (model.parent / "first").symlink_to(model.name)
            other.symlink_to(model.parent / "first")
        case "linked folder":
            other.symlink_to(model.parent)
            return other / model.name
        case "hard link":
            other.hardlink_to(model)
        case "sidecar":
            return model.with_name("model.onnx.json")
        case "link to the sidecar":
            other.symlink_to(model.with_name("model.onnx.json"))
    return other


WAYS = [
    "itself", "relative", "dotted", "symbolic link", "link of a link", "linked folder", "hard link", "sidecar",
    "link to the sidecar",
]  # fmt: skip


@pytest.mark.parametrize("how", WAYS)
def test_an_output_that_is_an_input_is_refused(model: Path, how: str) -> None:
    with pytest.raises(
        OutputError, match=r"--json .* would overwrite .*model.onnx.*, which this command reads: choose another"
    ):
        check_outputs({"--json": same(model, how)}, [None, model])


@pytest.mark.parametrize("how", [way for way in WAYS if "sidecar" not in way])
def test_an_output_that_is_in_a_folder_that_is_read_is_refused(model: Path, how: str) -> None:
    with pytest.raises(OutputError, match="would overwrite"):
        check_outputs({"--csv": same(model, how)}, [model.parent.parent])


@pytest.mark.parametrize("how", [way for way in WAYS if "sidecar" not in way])
def test_two_outputs_that_are_one_file_are_refused(model: Path, how: str) -> None:
    with pytest.raises(OutputError, match=r"--csv .* and --json .* are the same file: choose two names"):
        check_outputs({"--json": model, "--csv": same(model, how)})


def test_two_outputs_that_would_become_one_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("later")
    for other in (tmp_path / "later", tmp_path / "link", tmp_path / "x" / ".." / "later"):
        with pytest.raises(OutputError, match="are the same file"):
            check_outputs({"--json": tmp_path / "later", "--csv": other})
    with pytest.raises(OutputError, match="are the same file"):
        check_outputs({"out": [tmp_path / "a", tmp_path / "a.json"], "json_out": tmp_path / "a.json"})


def test_an_input_that_is_not_there_yet_counts_too(tmp_path: Path) -> None:
    """The command says that it is missing; it must not make it either."""
    with pytest.raises(OutputError, match="would overwrite"):
        check_outputs({"--out": tmp_path / "later"}, [tmp_path / "later"])


def test_what_belongs_to_an_input_is_an_input(model: Path) -> None:
    graph = model.with_name("ir.xml")
    graph.write_text('<?xml version="1.0"?>\n<net name="x">')
    weights = model.with_name("ir.bin")
    weights.write_bytes(b"weights")
    with pytest.raises(OutputError, match=re.escape(f"--json {weights} would overwrite {weights}")):
        check_outputs({"--json": weights}, [graph])
    cache = model.with_name("x.engine.cache")
    cache.write_bytes(b"kernels")
    with pytest.raises(OutputError, match="would overwrite"):
        check_outputs({"--json": cache}, [model.with_name("x.engine")])
    check_outputs({"--json": model.with_name("other.json")}, [model.with_name("n" * 250 + ".onnx")])


def test_other_files_are_fine(model: Path) -> None:
    other = model.with_name("other.onnx")
    other.write_bytes(b"graph")
    check_outputs({"--json": model.with_name("new.json"), "--csv": model.parent / "a" / "b" / "c.csv", "--html": None}, [model])
    check_outputs({"--out": other}, [model, None])
    report = model.with_name("report.json")
    report.write_text("{}")
    check_outputs({"--json": report}, [model.parent])


def test_streams_may_be_given_twice() -> None:
    null = Path(os.devnull)
    check_outputs({"--json": null, "--csv": null, "--html": Path("/dev/stdout")}, [null])


def test_what_cannot_be_written_is_known_before_the_work(model: Path) -> None:
    (model.parent / "loop").symlink_to("loop")
    refused = {
        model.parent: "there is a folder of that name",
        model / "x": "part of its path is a file",
        model / "x" / "y": "part of its path is a file",
        model.parent / ("n" * 256): "longer than the file system takes",
        model.parent.joinpath(*["d" * 200] * 30): "longer than the file system takes",
        model.parent / "loop": "points at itself",
        model.parent / "loop" / "x": "points at itself",
    }
    for path, cause in refused.items():
        with pytest.raises(OutputError, match=re.escape(cause)):
            check_outputs({"--json": path})
        if path != model.parent:
            with pytest.raises(OutputError, match=re.escape(cause)):
                check_output_folder("--out", path)
    with pytest.raises(OutputError, match="part of its path is a file, not a folder"):
        check_output_folder("--out", model)


def test_a_folder_without_permission_is_known_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    (tmp_path / "there").write_text("x")
    for path in (tmp_path / "new", tmp_path / "a" / "b", tmp_path / "there"):
        with pytest.raises(OutputError, match="no permission to write there"):
            check_outputs({"--json": path})
    with pytest.raises(OutputError, match="no permission to write there"):
        check_output_folder("--out", tmp_path)


def test_a_folder_that_is_read_is_not_written_to(model: Path) -> None:
    link = model.parent.parent / "link"
    link.symlink_to(model.parent)
    for folder in (model.parent, link, model.parent / "." / ".." / "models"):
        with pytest.raises(OutputError, match="is a folder that this command reads"):
            check_output_folder("--out", folder, [None, model.parent])
    check_output_folder("--out", model.parent / "below", [model.parent])
    check_output_folder("--out", None, [model.parent])


def test_identity_follows_links(model: Path) -> None:
    assert identity(same(model, "hard link")) == identity(model)
    assert identity(model) != identity(model.parent)
