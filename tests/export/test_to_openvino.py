"""OpenVINO IR: two files, one artifact, through every command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench import Job, jobs_for
from engines.runtimes.opening import open_engine
from export.to_openvino import convert_to_openvino, export_openvino
from mimo.artifact import open_artifact, sidecar_of
from mimo.errors import ArtifactError, EngineUnavailable, ExportError, OutputError
from mimo.formats import artifacts_in, files_of, hash_of, is_openvino
from mimo.networks.checkpoint import load_checkpoint
from tests.test_cli import Run, mimo
from tests.tiny import Tiny

__all__ = ["mimo"]  # the fixture


@pytest.fixture(scope="module")
def ir(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted FP32 graph; to be read only."""
    out = tmp_path_factory.mktemp("ir") / "tiny.xml"
    convert_to_openvino(open_artifact(tiny.onnx), out)
    return out


@pytest.fixture
def copied(ir: Path, tmp_path: Path) -> Path:
    for path in (*files_of(ir), sidecar_of(ir)):
        shutil.copy(path, tmp_path)
    return tmp_path / ir.name


def test_it_computes_what_the_graph_computes(tiny: Tiny, ir: Path) -> None:
    images = np.random.default_rng(0).random((2, 3, 36, 28), dtype=np.float32)
    with open_engine(tiny.onnx, "onnxruntime", "cpu") as expected, open_engine(ir, precision="fp32") as engine:
        assert (engine.runtime, engine.device) == ("openvino", "cpu")
        np.testing.assert_allclose(engine(images), expected(images), atol=1e-5)


def test_the_artifact_knows_where_it_came_from_and_its_types(tiny: Tiny, ir: Path, tmp_path: Path) -> None:
    artifact, source = open_artifact(ir), open_artifact(tiny.onnx)
    assert (artifact.format, artifact.precision, artifact.parent) == ("openvino", "fp32", tiny.onnx.name)
    assert (artifact.parent_sha256, artifact.checkpoint_sha256) == (source.sha256, source.checkpoint_sha256)
    assert "openvino" in artifact.tools
    half = convert_to_openvino(open_artifact(tiny.fp16), tmp_path / "half.xml")
    assert half.precision == "fp16"
    assert files_of(half.path)[1].stat().st_size < 0.6 * files_of(ir)[1].stat().st_size, "its weights are float16"


@pytest.mark.parametrize("which", [0, 1])
def test_a_change_in_either_file_is_seen(copied: Path, which: int) -> None:
    before = hash_of(copied)
    changed = files_of(copied)[which]
    changed.write_bytes(changed.read_bytes().replace(b"ReLU", b"Relu", 1) if which == 0 else changed.read_bytes()[:-1] + b"\1")
    assert hash_of(copied) != before
    with pytest.raises(ArtifactError, match="has changed since"):
        open_artifact(copied)


def test_the_weights_belong_to_it(copied: Path) -> None:
    files_of(copied)[1].unlink()
    with pytest.raises(ArtifactError, match=r"tiny\.bin is missing"):
        open_artifact(copied)


def test_it_is_told_by_its_content(copied: Path, tmp_path: Path) -> None:
    assert is_openvino(copied)
    (tmp_path / "other.xml").write_text('<?xml version="1.0"?>\n<note>not a net</note>')
    assert artifacts_in(tmp_path) == [copied]
    assert not is_openvino(tmp_path / "missing.xml")


def test_only_openvino_takes_it(tiny: Tiny, ir: Path) -> None:
    assert jobs_for(ir) == [Job(ir, "openvino", "cpu")]
    with pytest.raises(EngineUnavailable, match="takes an ONNX file only"):
        open_engine(ir, "onnxruntime")


def test_refused(tiny: Tiny, ir: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"must end in \.xml"):
        convert_to_openvino(open_artifact(tiny.onnx), tmp_path / "a.bin")
    with pytest.raises(ExportError, match="convert the ONNX file"):
        convert_to_openvino(open_artifact(ir), tmp_path / "a.xml")
    with pytest.raises(OutputError):
        convert_to_openvino(open_artifact(tiny.onnx), Path("/proc/nowhere/a.xml"))
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_becomes_one_without_an_onnx_file_left(tiny: Tiny, tmp_path: Path) -> None:
    artifact = export_openvino(load_checkpoint(tiny.checkpoint), tmp_path / "a.xml")
    assert artifact.parent is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.xml", "a.xml.json"]


def test_through_every_command(mimo: Run, tiny: Tiny, tmp_path: Path) -> None:
    code, out, err = mimo("export", tiny.checkpoint, "--to", "openvino")
    assert code == 0, err
    name = next(tmp_path.glob("*.xml")).name
    code, out, err = mimo("inspect", name)
    assert code == 0, err
    assert out.startswith("openvino")
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    from pyvips import Image

    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.new_from_array(noise).copy(interpretation="srgb").write_to_file(str(photographs / "a.png"))
    code, out, err = mimo(
        "verify", "--against", tiny.checkpoint, "--images", "photographs", "--size", "32x32", "--precision", "fp32"
    )
    assert code == 0, out + err
    assert "openvino cpu fp32" in out
    options = ("--size", "32x32", "--max-seconds", 0, "--min-samples", 1, "--precision", "fp32", "--json", "bench.json")
    code, out, err = mimo("bench", name, *options)
    assert code == 0, err
    (row,) = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert (row["engine"], row["verified"]) == ("openvino cpu fp32", "verified")
    assert row["threads"] >= 1
    code, out, err = mimo("deblur", "photographs", "--model", name, "--out", "sharp")
    assert code == 0, err
    assert (tmp_path / "sharp" / "a.png").is_file()
    assert mimo("export", tiny.checkpoint, "--to", "openvino", "--all-scales")[0] == 2
