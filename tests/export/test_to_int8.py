"""INT8: explicit symmetric Q/DQ, judged before it is written; what costs too much goes back to the float type."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from engines.build import build_engine
from export import to_int8 as module
from export.calibration import Pictures, pictures_from
from export.onnx_file import in_onnxruntime
from export.qdq import quantisable, switchable, unfolded, weight_scales, with_qdq
from export.to_int8 import Judged, Search, convert_to_int8
from mimo.artifact import Artifact, load_onnx, open_artifact
from mimo.bundled import PHOTOGRAPHS
from mimo.errors import ExportError
from tests.tiny import PROFILE, Tiny


def model_of(tiny: Tiny) -> ir.Model:
    return unfolded(ir.from_proto(load_onnx(tiny.onnx)))


@pytest.fixture(scope="module", autouse=True)
def few_pictures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "pictures_from", lambda folder, multiple: pictures_from(folder, multiple, crops=2, side=64))
        yield


@pytest.fixture(scope="module")
def made(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("int8")
    return convert_to_int8(open_artifact(tiny.onnx), folder / "tiny.int8.onnx", cache=folder / "cache")


def test_every_scale_is_symmetric_and_every_weight_has_one_per_output_channel(made: Artifact) -> None:
    graph = load_onnx(made.path).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    rounding = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert rounding
    for node in rounding:
        zero = tensors[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
        if node.input[0] in tensors:
            assert tensors[node.input[1]].size in tensors[node.input[0]].shape[:2]


def test_the_receipt_counts_what_the_graph_has_and_the_rest_is_named_with_a_reason(made: Artifact, tiny: Tiny) -> None:
    proto = load_onnx(made.path)
    dequantised = {name for node in proto.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    int8 = sum(node.op_type in ("Conv", "ConvTranspose") and node.input[0] in dequantised for node in proto.graph.node)
    assert made.receipt is not None
    assert made.receipt.convolutions["int8"] == int8 > 0
    assert len(made.kept_float) == len(quantisable(model_of(tiny))) - int8
    assert all(why for why in made.kept_float.values())
    opened = open_artifact(made.path)
    assert (opened.precision, opened.kept_float, opened.receipt) == ("int8", made.kept_float, made.receipt)


def test_the_choice_of_switches_computes_what_the_written_graph_computes(tiny: Tiny) -> None:
    model = model_of(tiny)
    ranges = dict.fromkeys(quantisable(model), 2.0)
    chosen = list(ranges)[::2]
    image = np.random.default_rng(1).random((1, 3, 32, 48), dtype=np.float32)
    switched = module._switched(model, ranges)
    written = in_onnxruntime(module._proto(with_qdq(model, ranges, chosen)))(image)[0]
    assert np.abs(switched(image, chosen) - written).max() < 0.05 * np.abs(switched(image, ()) - written).max() + 1e-5
    assert len(switchable(model, ranges).graph.inputs) == 1 + len(ranges)


def test_what_costs_most_goes_back_first_and_no_more_than_it_takes(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(tiny)
    names = list(quantisable(model))
    search = Search(dict.fromkeys(names, 2.0), {name: float(place) for place, name in enumerate(names)})
    tried: list[int] = []

    def judged(_: object, results: list[list[int]], __: object) -> Judged:
        tried.append(results[0][0])
        return Judged(0.0, 60.0 if results[0][0] <= 7 else 40.0)

    monkeypatch.setattr(module, "_judged", judged)
    monkeypatch.setattr(module, "_graph", lambda *arguments: arguments[2])
    monkeypatch.setattr(module, "_proto", lambda chosen: chosen)
    monkeypatch.setattr(module, "in_onnxruntime", lambda chosen: lambda _: [[0 if chosen is model else len(chosen)]])
    chosen, _ = module._choose(
        model, search, pictures_from(None, 4, crops=1, side=16), names, max_psnr_loss=0.02, half=False, progress=print
    )
    assert chosen == set(names[:7])
    assert len(tried) <= 8


def test_a_file_that_misses_the_gate_is_not_written(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_PSNR", 400.0)
    with pytest.raises(ExportError, match="no convolution of this network can be INT8 within"):
        convert_to_int8(open_artifact(tiny.onnx), tmp_path / "q.onnx")
    assert not list(tmp_path.iterdir())


def test_a_kept_convolution_stays_and_an_unknown_one_is_named(made: Artifact, tiny: Tiny) -> None:
    graph = load_onnx(made.path)
    dequantised = {name for node in graph.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    name = next(node.name for node in graph.graph.node if node.op_type == "Conv" and node.input[0] in dequantised)
    again = convert_to_int8(
        open_artifact(tiny.onnx), made.path.with_name("kept.onnx"), keep_float=[name], cache=made.path.parent / "cache"
    )
    assert again.kept_float[name] == "--keep-float"
    with pytest.raises(ExportError, match="no convolution nothing"):
        convert_to_int8(open_artifact(tiny.onnx), made.path.with_name("no.onnx"), keep_float=["nothing"])


def test_the_ranking_is_remembered_and_a_damaged_one_is_measured_again(
    made: Artifact, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made.path.parent / "cache", tmp_path / "cache")
    measured: list[str] = []
    search_of = module.search_of

    def search(model: ir.Model, pictures: Pictures, progress: Callable[[str], None]) -> Search:
        measured.append("again")
        return search_of(model, pictures, progress)

    monkeypatch.setattr(module, "search_of", search)
    convert_to_int8(open_artifact(tiny.onnx), tmp_path / "a.onnx", cache=tmp_path / "cache")
    assert not measured
    (file,) = (tmp_path / "cache").iterdir()
    file.write_text(json.dumps({"ranges": {}, "costs": {}}))
    convert_to_int8(open_artifact(tiny.onnx), tmp_path / "b.onnx", cache=tmp_path / "cache")
    assert measured
    assert json.loads(file.read_text())["ranges"]


def test_an_engine_computes_its_convolutions_in_int8_with_fp16_between(made: Artifact, tiny: Tiny) -> None:
    half = convert_to_int8(
        open_artifact(tiny.onnx), made.path.with_name("tiny.int8.fp16.onnx"), half=True, cache=made.path.parent / "cache"
    )
    engine = build_engine(half, made.path.with_name("tiny.engine"), shapes=PROFILE)
    assert half.receipt is not None
    assert engine.receipt is not None
    assert engine.precision == "int8"
    assert dict(engine.receipt.convolutions) == dict(half.receipt.convolutions)
    assert engine.receipt.inner_casts == 0


def test_photographs_that_are_judged_on_are_not_calibrated_on(tmp_path: Path) -> None:
    shutil.copy(next((PHOTOGRAPHS / "blur").iterdir()), tmp_path)
    with pytest.raises(ExportError, match="on which the result is judged"):
        pictures_from(tmp_path, 4)


def test_a_channel_of_zeros_has_a_step_too() -> None:
    weights = np.zeros((2, 3, 3, 3), np.float32)
    weights[1] = 1.27
    scales = weight_scales(weights, 0, np.float16)
    assert scales[0] > 0
    assert scales[1] == pytest.approx(0.01, rel=1e-3)


def test_small_weights_keep_their_levels_in_float16() -> None:
    assert weight_scales(np.full((1, 3, 3, 3), 1e-3, np.float32), 0, np.float16)[0] == pytest.approx(1e-3 / 127, rel=0.01)
