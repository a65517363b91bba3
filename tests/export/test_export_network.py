"""Another network through the same export: its own size multiple, and sizes that stay integers in FP16."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from export import to_onnx
from export.onnx_file import in_onnxruntime
from export.to_fp16 import convert_to_fp16
from export.to_onnx import export_onnx
from mimo.artifact import Artifact, open_artifact
from mimo.errors import ExportError
from mimo.networks.registry import ADOPTED
from mimo.onnx_stats import summarise
from mimo.spec import ModelSpec

HALF, FLOAT, INT64 = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
SPEC = ModelSpec("halves", ADOPTED, {}, 8)


class Halves(nn.Module):
    """Upper and lower half each by itself, cut by the size of the input; and the mean of the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, blur: Tensor) -> Tensor:
        middle = blur.shape[2] // 2
        parts = [self.convolution(part) for part in (blur[:, :, :middle], blur[:, :, middle:])]
        return torch.cat(parts, dim=2) + blur.mean(dim=(2, 3), keepdim=True)


@dataclass
class Elsewhere:
    """A network that no checkpoint holds."""

    network: nn.Module
    spec: ModelSpec = SPEC
    sha256: str = "ab" * 32

    def build(self) -> nn.Module:
        return self.network


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Halves().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def exported(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return export_onnx(Elsewhere(network), tmp_path_factory.mktemp("halves") / "halves.onnx")


@pytest.fixture(scope="module")
def converted(exported: Artifact) -> Artifact:
    return convert_to_fp16(exported, exported.path.with_name("halves.fp16.onnx"))


def test_sides_in_multiples_of_eight_and_any_batch(exported: Artifact) -> None:
    summary = summarise(onnx.load(exported.path))
    assert summary.inputs == {"blur": "float32 batch x 3 x 8*h x 8*w"}
    assert summary.outputs == {"sharp": "float32 batch x 3 x 8*h x 8*w"}
    found = open_artifact(exported.path)
    assert (found.spec, found.precision, found.checkpoint_sha256) == (SPEC, "fp32", "ab" * 32)


@pytest.mark.parametrize("shape", [(1, 3, 16, 24), (3, 3, 40, 16), (2, 3, 128, 72)])
def test_it_computes_what_pytorch_computes(exported: Artifact, network: nn.Module, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(1).random(shape, dtype=np.float32)
    (result,) = in_onnxruntime(onnx.load(exported.path))(images)
    np.testing.assert_allclose(result, network(torch.from_numpy(images)).numpy(), rtol=0, atol=1e-5)


def types(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every value, as the file itself says, and as ONNX infers it where the file says nothing."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    return {value.name: value.type.tensor_type.elem_type for value in values} | {
        tensor.name: tensor.data_type for tensor in inferred.initializer
    }


def test_in_fp16_values_are_halves_and_sizes_stay_integers(exported: Artifact, converted: Artifact) -> None:
    before, after = onnx.load(exported.path), onnx.load(converted.path)
    onnx.checker.check_model(after, full_check=True)
    was, now = types(before), types(after)
    integers = {name for name, element in was.items() if element == INT64}
    assert integers & {name for node in before.graph.node for name in node.output}, "no size is computed in this graph"
    assert all(now[name] == INT64 for name in integers)
    computed = {name for node in before.graph.node for name in node.output} - integers - {"sharp"}
    assert computed
    assert {now[name] for name in computed} == {HALF}
    assert (now["blur"], now["sharp"], now["sharp_fp16"]) == (FLOAT, FLOAT, HALF)
    assert not any(tensor.data_type == FLOAT for tensor in after.graph.initializer)


@pytest.mark.parametrize("shape", [(1, 3, 16, 24), (2, 3, 64, 48)])
def test_fp16_is_close_to_fp32_and_no_copy_of_it(exported: Artifact, converted: Artifact, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(2).random(shape, dtype=np.float32)
    (exact,), (close,) = (in_onnxruntime(onnx.load(one.path))(images) for one in (exported, converted))
    assert 0 < float(np.abs(exact - close).max()) < 3e-3


def test_directly_in_fp16_it_is_the_same_graph(
    exported: Artifact, converted: Artifact, network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = ir.from_proto(onnx.load(exported.path))
    monkeypatch.setattr(to_onnx, "_trace", lambda network, multiple, outputs: traced)  # seconds, otherwise
    direct = export_onnx(Elsewhere(network), tmp_path / "direct.onnx", precision="fp16")
    assert direct.precision == open_artifact(direct.path).precision == "fp16"
    assert onnx.load(direct.path).graph == onnx.load(converted.path).graph


def test_a_graph_of_another_network_is_never_written(
    exported: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = ir.from_proto(onnx.load(exported.path))
    monkeypatch.setattr(to_onnx, "_trace", lambda network, multiple, outputs: traced)
    with pytest.raises(ExportError, match="differs from its source"):
        export_onnx(Elsewhere(nn.Identity()), tmp_path / "other.onnx")
    with pytest.raises(ExportError, match=r"8\*h x 8\*w, not batch x 3 x 16\*h x 16\*w"):
        export_onnx(Elsewhere(nn.Identity(), ModelSpec("sixteen", ADOPTED, {}, 16)), tmp_path / "other.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_torch_cannot_export_is_refused_in_one_sentence(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.onnx.OnnxExporterError("Failed to export the model.\nThis is step 1/3.")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ExportError) as raised:
        export_onnx(Elsewhere(network), tmp_path / "never.onnx")
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_the_operator_that_onnx_does_not_have_is_named(tmp_path: Path) -> None:
    class Searching(nn.Module):
        def forward(self, blur: Tensor) -> Tensor:
            result: Tensor = blur + torch.special.bessel_j0(blur)
            return result

    with pytest.raises(ExportError, match=r"its operator \S*bessel_j0 has no counterpart") as raised:
        export_onnx(Elsewhere(Searching()), tmp_path / "never.onnx")
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []
