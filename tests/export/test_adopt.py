"""A graph from elsewhere: what is found out about it, what is made of it, and what is not taken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from cli import app
from engines.references import References
from engines.runtimes.onnxruntime import OnnxRuntimeEngine
from export.adopt import adopt
from export.onnx_file import in_onnxruntime
from export.to_fp16 import convert_to_fp16
from mimo.artifact import load_onnx, open_artifact, sidecar_of
from mimo.errors import ArtifactError
from mimo.networks.registry import ADOPTED

FLOAT = TensorProto.FLOAT


def graph(path: Path, *, full: float = 1.0, sides: tuple[str | int, str | int] = ("H", "W"), halved: bool = True) -> Path:
    """A picture of 0..``full`` plus a hundredth of itself, halved and doubled where ``halved``, so that odd sizes fail."""
    nodes = [helper.make_node("Relu", ["in"], ["positive"])]
    last = "positive"
    if halved:
        nodes.append(helper.make_node("SpaceToDepth", [last], ["deep"], blocksize=4))
        nodes.append(helper.make_node("DepthToSpace", ["deep"], ["flat"], blocksize=4))
        last = "flat"
    # Far from its own range the picture is pushed back to it, as a trained network would.
    nodes += [
        helper.make_node("Mul", [last, "hundredth"], ["little"]),
        helper.make_node("Add", [last, "offset"], ["raised"]),
        helper.make_node("Add", ["raised", "little"], ["out"]),
    ]
    constants = {"hundredth": 0.01, "offset": 0.002 * full}
    made = helper.make_graph(
        nodes,
        "elsewhere",
        [helper.make_tensor_value_info("in", FLOAT, ["N", 3, *sides])],
        [helper.make_tensor_value_info("out", FLOAT, ["N", 3, *sides])],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize(("full", "values"), [(1.0, "0..1"), (255.0, "0..255")])
def test_what_is_found_out_by_trial(tmp_path: Path, full: float, values: str) -> None:
    adopted = adopt(graph(tmp_path / "net.onnx", full=full), tmp_path / "ours.onnx")
    spec = adopted.artifact.spec
    assert (spec.name, spec.network, spec.size_multiple, spec.has_context) == ("net", ADOPTED, 4, False)
    assert spec.parameters == {"values": values}
    assert any(f"values: {values}" in finding for finding in adopted.findings)
    assert "height and width: multiples of 4, by trial" in adopted.findings
    again = open_artifact(tmp_path / "ours.onnx")
    assert again.spec == spec

    # Ours takes 0..1, whatever the graph took.
    images = np.random.default_rng(0).random((1, 3, 20, 24), dtype=np.float32)
    (expected,) = in_onnxruntime(load_onnx(tmp_path / "net.onnx"), "in")(images * np.float32(full))
    with OnnxRuntimeEngine(again, "cpu") as engine:
        np.testing.assert_allclose(engine(images), expected / full, atol=1e-6)


def test_a_network_that_takes_any_size_has_the_multiple_one(tmp_path: Path) -> None:
    adopted = adopt(graph(tmp_path / "net.onnx", halved=False), tmp_path / "ours.onnx")
    assert adopted.artifact.spec.size_multiple == 1
    assert convert_to_fp16(adopted.artifact, tmp_path / "half.onnx").spec == adopted.artifact.spec


@pytest.mark.parametrize(
    ("sides", "says"),
    [((64, 96), "height 64, but others work"), (("H", 96), "width 96, but others work")],
    ids=["both", "width"],
)
def test_sizes_that_are_only_declared_are_dynamic(tmp_path: Path, sides: tuple[str | int, str | int], says: str) -> None:
    adopted = adopt(graph(tmp_path / "net.onnx", sides=sides), tmp_path / "ours.onnx")
    assert any(says in finding for finding in adopted.findings)
    assert adopted.artifact.spec.size_multiple == 4
    images = np.random.default_rng(0).random((2, 3, 20, 132), dtype=np.float32)
    with OnnxRuntimeEngine(open_artifact(tmp_path / "ours.onnx"), "cpu") as engine:
        assert np.abs(engine(images) - images).max() < 0.02


def test_sizes_that_the_nodes_hold_are_refused_with_the_cure(tmp_path: Path) -> None:
    shape = numpy_helper.from_array(np.array([1, 3, 64, 96], np.int64), "shape")
    ends = [helper.make_tensor_value_info(name, FLOAT, [1, 3, 64, 96]) for name in ("in", "out")]
    made = helper.make_graph([helper.make_node("Reshape", ["in", "shape"], ["out"])], "fixed", ends[:1], ends[1:], [shape])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx")
    with pytest.raises(ArtifactError, match="fixed batch and height and width, and takes no other by trial: export it with"):
        adopt(tmp_path / "net.onnx", tmp_path / "ours.onnx")
    assert not (tmp_path / "ours.onnx").exists()


def test_what_gives_back_another_size_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("SpaceToDepth", ["in"], ["out"], blocksize=2)
    ends = [helper.make_tensor_value_info(name, FLOAT, ["N", None, "H", "W"]) for name in ("in", "out")]
    ends[0].type.tensor_type.shape.dim[1].dim_value = 3
    made = helper.make_graph([node], "smaller", ends[:1], [helper.make_tensor_value_info("out", FLOAT, ["N", 12, "h", "w"])])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx")
    with pytest.raises(ArtifactError, match="no image of the size it was given"):
        adopt(tmp_path / "net.onnx", tmp_path / "ours.onnx")


def test_what_is_adopted_is_never_called_verified_against_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    graph(tmp_path / "net.onnx")
    run = CliRunner()
    told = run.invoke(app, ["adopt", "net.onnx", "--out", "ours/net.onnx"])
    (tmp_path / "ours").mkdir(exist_ok=True)
    told = run.invoke(app, ["adopt", "net.onnx", "--out", "ours/net.onnx"])
    assert told.exit_code == 0, told.output
    assert "nobody has compared it with PyTorch" in told.output
    verified = run.invoke(app, ["verify", "ours/net.onnx", "--size", "64x64", "--engine", "onnxruntime"])
    assert verified.exit_code == 0, verified.output
    assert "itself in ONNX Runtime FP32, not with PyTorch" in verified.output
    quick = ("--size", "64x64", "--max-seconds", "0", "--min-samples", "2", "--no-limits", "--json", "bench.json")
    assert run.invoke(app, ["bench", "ours/net.onnx@onnxruntime", *quick]).exit_code == 0
    assert '"as adopted"' in Path("bench.json").read_text()


def test_files_said_to_be_made_of_each_other_end_verification(tmp_path: Path) -> None:
    first = adopt(graph(tmp_path / "net.onnx", halved=False), tmp_path / "ours.onnx").artifact
    second = convert_to_fp16(first, tmp_path / "half.onnx")
    proto = onnx.load(str(first.path))
    lineage = {**json.loads(proto.metadata_props[0].value), "parent": "half.onnx", "parent_sha256": second.sha256}
    proto.metadata_props[0].value = json.dumps(lineage, sort_keys=True)
    onnx.save(proto, str(first.path))
    sidecar_of(first.path).unlink()
    with pytest.raises(ArtifactError, match="made of a file that was made of it"):
        References(None, 1).check(open_artifact(tmp_path / "half.onnx"))
