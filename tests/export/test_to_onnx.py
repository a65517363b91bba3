"""Exports: what the graph is, that it computes what PyTorch computes, and that a wrong one is never written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export import to_onnx
from export.onnx_file import check_numerics, check_structure, in_onnxruntime
from export.to_onnx import export_onnx
from mimo.artifact import open_artifact, sidecar_of
from mimo.errors import ExportError, OutputError
from mimo.files import sha256_of
from mimo.installing import install
from mimo.networks.checkpoint import Checkpoint, load_checkpoint
from mimo.onnx_stats import summarise
from tests.tiny import SPEC, Tiny

ROOT = Path(__file__).parents[2]
DYNAMIC = "batch x 3 x 4*h x 4*w"


@pytest.fixture(scope="module")
def checkpoint(tiny: Tiny) -> Checkpoint:
    return load_checkpoint(tiny.checkpoint)


@pytest.fixture(scope="module")
def all_scales(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    artifact = export_onnx(checkpoint, tmp_path_factory.mktemp("all") / "all.onnx", all_scales=True)
    return onnx.load(artifact.path)


@pytest.fixture
def traced(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> onnx.ModelProto:
    """What the exporter will return instead of working for seconds: the true graph, for tests to spoil."""
    model = onnx.load(tiny.onnx)
    monkeypatch.setattr(to_onnx, "_trace", lambda network, multiple, outputs: ir.from_proto(model))
    return model


def spoil(model: onnx.ModelProto, value: float) -> None:
    """Change one number of the last convolution's bias."""
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith("feat_extract.5.main.0.bias"))
    numbers = numpy_helper.to_array(bias).copy()
    numbers[0] = value
    bias.CopyFrom(numpy_helper.from_array(numbers, bias.name))


def needed(model: onnx.ModelProto, output: str) -> set[str]:
    """Names of everything that ``output`` is computed from."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found: set[str] = set()
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name and name not in found:
            found.add(name)
            waiting += makers[name].input if name in makers else []
    return found


@pytest.mark.parametrize("file", ["onnx", "fp16"])
def test_one_input_one_output_dynamic(tiny: Tiny, file: str) -> None:
    model = onnx.load(getattr(tiny, file))
    summary = summarise(model)
    assert summary.inputs == {"blur": f"float32 {DYNAMIC}"}
    assert summary.outputs == {"sharp": f"float32 {DYNAMIC}"}
    assert summary.opset >= 18
    onnx.checker.check_model(model, full_check=True)


def test_only_what_the_full_size_needs(tiny: Tiny) -> None:
    model = onnx.load(tiny.onnx)
    needs = needed(model, "sharp")
    assert {name for node in model.graph.node for name in node.output} <= needs
    assert {tensor.name for tensor in model.graph.initializer} <= needs
    assert not any("ConvsOut" in name for name in needs)


def test_all_scales_have_the_two_heads_more(tiny: Tiny, all_scales: onnx.ModelProto) -> None:
    summary, alone = summarise(all_scales), summarise(onnx.load(tiny.onnx))
    assert summary.outputs == {
        "quarter": "float32 batch x 3 x h x w",
        "half": "float32 batch x 3 x 2*h x 2*w",
        "sharp": f"float32 {DYNAMIC}",
    }
    assert summary.operators["Conv"] == alone.operators["Conv"] + 2
    assert summary.parameters == sum(tensor.numel() for tensor in load_checkpoint(tiny.checkpoint).state.values())
    onnx.checker.check_model(all_scales, full_check=True)


def test_the_graph_has_the_seven_operators_and_no_more(tiny: Tiny) -> None:
    operators = summarise(onnx.load(tiny.onnx)).operators
    assert set(operators) == {"Add", "Concat", "Conv", "ConvTranspose", "Mul", "Relu", "Resize"}
    assert (operators["Resize"], operators["ConvTranspose"], operators["Mul"], operators["Concat"]) == (6, 2, 2, 4)


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (2, 3, 36, 100), (3, 3, 64, 20)], ids=str)
def test_onnxruntime_computes_what_pytorch_computes(
    tiny: Tiny, all_scales: onnx.ModelProto, checkpoint: Checkpoint, shape: tuple[int, ...]
) -> None:
    images = np.random.default_rng(1).random(shape, dtype=np.float32)
    expected = [output.numpy() for output in checkpoint.build()(torch.from_numpy(images))]
    (sharp,) = in_onnxruntime(onnx.load(tiny.onnx))(images)
    assert sharp.shape == shape
    np.testing.assert_allclose(sharp, expected[-1], rtol=0, atol=1e-5)
    for found, scale in zip(in_onnxruntime(all_scales)(images), expected, strict=True):
        np.testing.assert_allclose(found, scale, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_same_checkpoint_gives_the_same_bytes(tiny: Tiny, tmp_path: Path) -> None:
    """From another process, in another folder, with other hashes of strings."""
    program = (
        "import sys; from pathlib import Path; from export.to_onnx import export_onnx; "
        "from mimo.networks.checkpoint import load_checkpoint; "
        "export_onnx(load_checkpoint(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    again = tmp_path / tiny.onnx.name
    subprocess.run(
        [sys.executable, "-c", program, tiny.checkpoint, again.name],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"},
    )
    assert again.read_bytes() == tiny.onnx.read_bytes()
    assert sidecar_of(again).read_bytes() == sidecar_of(tiny.onnx).read_bytes()


@pytest.mark.parametrize("file", ["onnx", "fp16"])
def test_the_file_says_nothing_of_the_machine(tiny: Tiny, file: str) -> None:
    content = getattr(tiny, file).read_bytes()
    for trace in (ROOT, Path.home(), tiny.folder, Path(torch.__file__).parent, sys.prefix, ".py", "site-packages", 'File "'):
        assert str(trace).encode() not in content, trace
    model = onnx.load(getattr(tiny, file))
    assert [entry.key for entry in model.metadata_props] == ["mimo.lineage"]
    assert not any(part.metadata_props or part.doc_string for part in (*model.graph.node, *model.graph.value_info))


def test_an_export_returns_what_it_wrote(checkpoint: Checkpoint, traced: onnx.ModelProto, tmp_path: Path) -> None:
    out = tmp_path / "folder" / "any name.json"
    artifact = export_onnx(checkpoint, out)
    assert artifact == open_artifact(out)
    assert artifact.sha256 == sha256_of(out)
    assert onnx.ModelProto.FromString(out.read_bytes()).graph.node  # ONNX whatever the name ends in
    assert sorted(out.parent.iterdir()) == [out, sidecar_of(out)]


@pytest.mark.parametrize(
    ("precision", "io_fp16", "io", "casts"),
    [("fp32", False, "float32", 0), ("fp32", True, "float32", 0), ("fp16", False, "float32", 2), ("fp16", True, "float16", 0)],
)
def test_precisions_of_an_export(
    checkpoint: Checkpoint, traced: onnx.ModelProto, tmp_path: Path, precision: str, io_fp16: bool, io: str, casts: int
) -> None:
    artifact = export_onnx(checkpoint, tmp_path / "x.onnx", precision=precision, io_fp16=io_fp16)  # type: ignore[arg-type]
    assert (artifact.precision, artifact.io, artifact.spec) == (precision, io, SPEC)
    summary = summarise(onnx.load(artifact.path))
    assert summary.inputs["blur"] == summary.outputs["sharp"] == f"{io} {DYNAMIC}"
    assert set(summary.weight_types) == {"float16" if precision == "fp16" else "float32"}
    assert summary.operators.get("Cast", 0) == casts


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_a_graph_that_computes_something_else_is_not_written(
    checkpoint: Checkpoint, traced: onnx.ModelProto, tmp_path: Path, precision: str, value: float
) -> None:
    spoil(traced, value)
    with pytest.raises(ExportError, match=r"differs from its source by|exceeds what float16 can hold"):
        export_onnx(checkpoint, tmp_path / "wrong.onnx", precision=precision)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_what_stood_there_stays_when_an_export_fails(checkpoint: Checkpoint, traced: onnx.ModelProto, tmp_path: Path) -> None:
    out = tmp_path / "x.onnx"
    before = export_onnx(checkpoint, out)
    spoil(traced, 0.5)
    with pytest.raises(ExportError):
        export_onnx(checkpoint, out)
    assert open_artifact(out) == before


def test_a_place_that_cannot_be_written(checkpoint: Checkpoint, traced: onnx.ModelProto, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="there is a folder of that name"):
        export_onnx(checkpoint, tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(("offset", "passes"), [(5e-5, True), (2e-4, False), (np.nan, False)])
@pytest.mark.parametrize("batch", [1, 2])
def test_the_numerical_check_has_a_threshold(tiny: Tiny, offset: float, passes: bool, batch: int) -> None:
    """It is held for one image and for two."""
    model = onnx.load(tiny.onnx)
    run = in_onnxruntime(model)

    def reference(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        (sharp,) = run(images)
        if len(images) == batch:
            sharp[-1, 1, 3, 5] += offset
        return [np.zeros(1, np.float32), sharp]  # only the last ones count

    if passes:
        check_numerics(model, reference, 1e-4, 4)
    else:
        with pytest.raises(ExportError, match=r"differs from its source by .* \(at most 0\.0001\)"):
            check_numerics(model, reference, 1e-4, 4)


def test_without_onnxruntime_there_is_no_export(
    checkpoint: Checkpoint, traced: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExportError, match=rf"ONNX Runtime is not installed.* {re.escape(install('cpu'))}"):
        export_onnx(checkpoint, tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def small(input_name: str = "blur", output_name: str = "sharp", *, width: str | int = "4*w", rank: int = 4) -> onnx.ModelProto:
    """One ReLU under our names, but for what is changed."""
    shape: list[str | int] = ["batch", 3, "4*h", width]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape[:rank]) for name in (input_name, output_name)]
    graph = helper.make_graph([helper.make_node("Relu", [input_name], [output_name])], "small", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_the_structure_that_is_asked_for() -> None:
    check_structure(small(), ("sharp",), 4)


@pytest.mark.parametrize(
    ("model", "outputs", "says"),
    [
        (small("x"), ("sharp",), "inputs and outputs x, sharp instead of blur, sharp"),
        (small(output_name="y"), ("sharp",), "inputs and outputs blur, y instead of blur, sharp"),
        (small(), ("quarter", "half", "sharp"), "instead of blur, quarter, half, sharp"),
        (small(width=64), ("sharp",), r"blur is float32 batch x 3 x 4\*h x 64, not batch"),
        (small(width="w"), ("sharp",), r"blur is float32 batch x 3 x 4\*h x w, not batch"),
        (small(rank=3), ("sharp",), "blur is float32 batch x 3 x"),
    ],
    ids=["input", "output", "missing outputs", "static width", "any width", "rank"],
)
def test_another_structure_is_refused(model: onnx.ModelProto, outputs: tuple[str, ...], says: str) -> None:
    with pytest.raises(ExportError, match=says):
        check_structure(model, outputs, 4)


def test_an_output_of_another_size_is_refused() -> None:
    model = small()
    model.graph.output[0].type.tensor_type.shape.dim[3].dim_param = "unknown"
    with pytest.raises(ExportError, match=r"sharp is float32 batch x 3 x 4\*h x unknown, not batch"):
        check_structure(model, ("sharp",), 4)


def test_an_invalid_graph_is_refused() -> None:
    model = small()
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ExportError, match="not valid ONNX"):
        check_structure(model, ("sharp",), 4)


def test_a_contradiction_of_types_is_refused() -> None:
    model = small()
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    with pytest.raises(ExportError, match="not valid ONNX"):
        check_structure(model, ("sharp",), 4)
