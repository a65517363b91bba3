"""The least that must be done, what a device can do, and the one beside the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from benchmarks import roofline as limits
from benchmarks.cost import Work, work_of_graph, work_of_module
from benchmarks.roofline import Ceiling, limits_of, measure_ceiling
from mimo.errors import ArtifactError
from mimo.networks.registry import build, mimo_unet
from mimo.spec import Shape
from tests.tiny import WIDTH, Tiny

MEBIBYTE = 1 << 20

# --- work ---


def test_the_work_of_a_graph(tmp_path: Path) -> None:
    ends = [
        helper.make_tensor_value_info("blur", onnx.TensorProto.FLOAT, ["n", 3, "h", "w"]),
        helper.make_tensor_value_info("sharp", onnx.TensorProto.FLOAT, ["n", 5, "h", "w"]),
    ]
    weight = numpy_helper.from_array(np.ones((5, 3, 1, 1), np.float16), "w")
    nodes = [
        helper.make_node("Cast", ["blur"], ["half"], to=onnx.TensorProto.FLOAT16),
        helper.make_node("Conv", ["half", "w"], ["x"]),
        helper.make_node("Cast", ["x"], ["sharp"], to=onnx.TensorProto.FLOAT),
    ]
    opset = [helper.make_opsetid("", 18)]
    path = tmp_path / "a.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "one", ends[:1], ends[1:], [weight]), opset_imports=opset), path)
    pixels = 2 * 32 * 48
    assert work_of_graph(path, Shape(2, 32, 48)) == Work(5 * 3 * pixels, 2 * 5 * 3 + 4 * (3 + 5) * pixels)

    product = helper.make_node("Einsum", ["blur", "blur"], ["sharp"], equation="nchw,nkhw->nchw")
    onnx.save(helper.make_model(helper.make_graph([product], "one", ends[:1], ends[1:]), opset_imports=opset), path)
    assert work_of_graph(path, Shape(2, 32, 48)) == Work(None, 4 * (3 + 3) * pixels), "not counted, and said so"

    with pytest.raises(ArtifactError, match="not a readable ONNX file"):
        work_of_graph(tmp_path / "missing.onnx", Shape(1, 32, 48))


def heads(width: int, shape: Shape) -> tuple[int, int]:
    """Weights and cost of the two outputs at lower scales, which a deployed graph does not have."""
    quarter, half = 3 * 4 * width * 9, 3 * 2 * width * 9
    pixels = shape.batch * shape.height * shape.width
    return quarter + 3 + half + 3, quarter * pixels // 16 + half * pixels // 4


def test_a_network_and_its_graph_cost_the_same(tiny: Tiny) -> None:
    from mimo.networks.checkpoint import load_checkpoint

    shape = Shape(2, 64, 96)
    module = load_checkpoint(tiny.checkpoint).build()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module_work, graph_work = work_of_module(module, shape), work_of_graph(tiny.onnx, shape)
    more_weights, more_macs = heads(WIDTH, shape)
    assert graph_work.macs is not None
    # The exported fusion reduces before it doubles: a pixel of full size costs it 27/4 of the squared width less.
    assert module_work.macs == graph_work.macs + more_macs + 27 * WIDTH**2 * 2 * 64 * 96 // 4
    image = 4 * 3 * 2 * 64 * 96
    assert module_work.bytes == pytest.approx(graph_work.bytes + 4 * more_weights + image // 16 + image // 4, rel=2e-3)
    # What it counts is there: the module's own numbers.
    parameters = sum(value.numel() for value in module.parameters())
    assert module_work.bytes == 4 * parameters + 2 * image + image // 16 + image // 4
    assert all((value == before[name]).all() for name, value in module.state_dict().items())
    assert not any(value.is_meta for value in module.parameters())


def test_the_published_network_costs_what_its_paper_says() -> None:
    import torch

    spec, shape = mimo_unet(32, 8), Shape(1, 256, 256)
    with torch.device("meta"):
        work = work_of_module(build(spec), shape)
    assert work.macs is not None
    assert work.macs - heads(32, shape)[1] == pytest.approx(63.7e9, rel=2e-3)


def test_a_module_in_half_with_what_it_makes_itself() -> None:
    import torch
    from torch import nn

    class Network(nn.Module):
        mean: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, padding=1, groups=1, bias=False)
            self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
            self.attention = nn.Linear(8, 8, bias=False)
            self.register_buffer("mean", torch.zeros(3, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.depthwise(self.conv(x - self.mean))
            gate = self.attention(y.mean((2, 3))) + torch.ones(8, dtype=y.dtype)
            result: torch.Tensor = y * gate[:, :, None, None]
            return result

    pixels = 32 * 48
    work = work_of_module(Network().half(), Shape(1, 32, 48))
    weights = 8 * 3 * 9 + 8 * 9 + 8 * 8
    assert work == Work((8 * 3 * 9 + 8 * 9) * pixels + 8 * 8, 2 * (weights + 3 + (3 + 8) * pixels))


# --- ceilings ---


def clock_of(*durations: float) -> Callable[[], float]:
    """A clock that is asked before and after each thing it times, and says that they took so long."""
    now = 0.0
    ticks = chain.from_iterable(zip(repeat(0.0), durations, strict=False))

    def clock() -> float:
        nonlocal now
        now += next(ticks)
        return now

    return clock


class Recorded:
    """A library that computes nothing and remembers what it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, scale: limits._Scale, copy_bytes: int = 64 * MEBIBYTE) -> None:
        self.products: list[int] = []
        self.copies: list[int] = []

        @contextmanager
        def opened(device: str, compute: str) -> Iterator[limits._Library]:
            yield limits._Library(
                "a library", self._prepare(self.products), self._prepare(self.copies), copy_bytes, scale
            )  # fmt: skip

        monkeypatch.setattr(limits, "_torch", opened)
        monkeypatch.setattr(limits, "find_spec", lambda _: object())

    def _prepare(self, record: list[int]) -> limits.Prepare:
        return lambda size: lambda: record.append(size)


def test_the_best_repetition_counts_and_all_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Recorded(monkeypatch, limits._CPU)
    # Sides 256 and 512 are too quick to tell; 1024 takes 0.1 s, so about 1.6 times that side takes 0.4 s.
    products = (0.5, 0.4, 0.25, 0.6, 0.3)
    copies = (0.2, 0.3, 0.1, *[0.2] * 7)
    ceiling = measure_ceiling("cpu", "fp32", clock=clock_of(0.001, 0.01, 0.1, *products, *copies))
    side = 1536
    assert library.products == [256] * 2 + [512] * 2 + [1024] * 2 + [side] * 6, "each first call is not timed"
    assert library.copies == [64 * MEBIBYTE] * 11
    assert ceiling.flop_per_second == pytest.approx(2 * side**3 / 0.25)
    assert ceiling.bytes_per_second == pytest.approx(2 * 64 * MEBIBYTE / 0.1)
    assert ceiling.product_size == side
    assert ceiling.copy_bytes == 2 * 64 * MEBIBYTE
    assert ceiling.product_seconds == pytest.approx(products)
    assert ceiling.copy_seconds == pytest.approx(copies)
    assert (ceiling.label, ceiling.device, ceiling.compute) == ("cpu fp32", "cpu", "fp32")
    assert "a library: best of 5 products of two 1536x1536 matrices; best of 10 copies of 64 MiB" in ceiling.method


def test_several_copies_in_a_row_are_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    scale = replace(limits._GPU, products=1, copies=1)
    Recorded(monkeypatch, scale)
    ceiling = measure_ceiling("cuda", "fp16", clock=clock_of(0.01, 0.02, 0.9, 0.5))
    assert ceiling.product_size == 8192, "the fastest of the three sides, not the largest"
    assert ceiling.bytes_per_second == pytest.approx(16 * 2 * 64 * MEBIBYTE / 0.5)
    assert "16 in a row" in ceiling.method


@pytest.mark.parametrize(("probe", "side"), [(40.0, 256), (1e-9, 8192)])
def test_matrices_are_neither_too_small_nor_too_large(monkeypatch: pytest.MonkeyPatch, probe: float, side: int) -> None:
    library = Recorded(monkeypatch, limits._CPU)
    ceiling = measure_ceiling("cpu", "fp32", clock=clock_of(*[probe] * 100))
    assert ceiling.product_size == max(library.products) == side


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As measured here, in a moment."""
    monkeypatch.setattr(limits, "_CPU", limits._Scale(64, 0.0, 0.0, 256, products=2, copies=2, copies_in_a_row=1))
    monkeypatch.setattr(limits, "COPY_BYTES", MEBIBYTE)
    monkeypatch.setattr(limits, "last_level_cache_bytes", lambda: 0)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("compute", "dtype"), [("fp32", "float32"), ("tf32", "float32"), ("fp16", "float16"), ("bf16", "bfloat16")]
)
def test_torch_multiplies_in_the_precision_asked_for(monkeypatch: pytest.MonkeyPatch, compute: str, dtype: str) -> None:
    import torch

    multiply, seen = torch.mm, []

    def mm(left: torch.Tensor, right: torch.Tensor, *, out: torch.Tensor) -> None:
        seen.append((left.shape, right.shape, str(left.dtype), str(out.dtype), torch.get_float32_matmul_precision()))
        multiply(left, right, out=out)
        if compute == "fp32":
            assert torch.allclose(out, torch.from_numpy(left.numpy() @ right.numpy()), atol=1e-3)

    monkeypatch.setattr(torch, "mm", mm)
    before = "medium"
    torch.set_float32_matmul_precision(before)
    try:
        ceiling = measure_ceiling("cpu", compute)
        assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen[2:]) == {
        ((256, 256), (256, 256), f"torch.{dtype}", f"torch.{dtype}", "high" if compute == "tf32" else "highest")
    }
    assert ceiling.product_size == 256
    assert ceiling.flop_per_second is not None
    assert ceiling.bytes_per_second is not None
    assert f"torch {torch.__version__}, {torch.get_num_threads()} threads" in ceiling.method


@pytest.mark.usefixtures("small")
def test_every_byte_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[int] = []
    copy = np.copyto

    def copyto(target: Any, source: Any) -> None:
        copy(target, source)
        assert target.base is not source.base
        copied.append(target.nbytes)

    monkeypatch.setattr(np, "copyto", copyto)
    monkeypatch.setattr(limits, "core_count", lambda: 3)
    run = limits._copy_on_cpu(MEBIBYTE + 1)
    run()
    assert len(copied) == 3
    assert sum(copied) == MEBIBYTE + 1


def test_the_buffer_is_much_larger_than_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    for cache, size in ((0, 256), (32, 256), (100, 400), (10_000, 1024)):
        monkeypatch.setattr(limits, "last_level_cache_bytes", lambda cache=cache: cache * MEBIBYTE)
        assert limits._copy_bytes_on_cpu() == size * MEBIBYTE


@pytest.mark.usefixtures("small")
def test_what_cannot_be_measured_is_none_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    unknown, gpu = measure_ceiling("cpu", "int8"), measure_ceiling("cuda", "fp16")
    assert unknown.flop_per_second is None
    assert unknown.bytes_per_second is not None
    assert "none in int8" in unknown.method
    assert gpu.flop_per_second is gpu.bytes_per_second is None
    assert "torch sees no CUDA device" in gpu.method

    monkeypatch.setattr(limits, "find_spec", lambda _: None)
    single, half, gpu = measure_ceiling("cpu", "fp32"), measure_ceiling("cpu", "fp16"), measure_ceiling("cuda", "fp16")
    assert single.flop_per_second is not None
    assert single.method.startswith("NumPy")
    assert half.flop_per_second is None
    assert "without torch none in fp16" in half.method
    assert half.bytes_per_second is not None
    assert gpu.flop_per_second is gpu.bytes_per_second is None
    assert "torch is not installed" in gpu.method


# --- one beside the other ---


def ceiling_of(flop: float | None, bandwidth: float | None) -> Ceiling:
    return Ceiling("cpu fp32", "cpu", "fp32", flop, bandwidth, "by hand")


def test_a_fraction_of_each_ceiling() -> None:
    # 10 s of arithmetic (two operations for each multiply-accumulate) and 2 s of copying, in 40 s.
    found = limits_of(Work(500, 60), ceiling_of(100.0, 30.0), 40.0)
    assert asdict(found) == {
        "macs": 500,
        "bytes": 60,
        "compute_fraction": 0.25,
        "copy_fraction": 0.05,
        "floor_seconds": 10.0,
        "ceiling": "cpu fp32",
        "layers_fraction": None,
    }
    assert limits_of(Work(500, 600), ceiling_of(100.0, 30.0), 40.0).floor_seconds == 20.0, "bound by the copy"


@pytest.mark.parametrize(
    ("work", "ceiling", "compute", "copy", "floor"),
    [
        (Work(500, 60), None, None, None, None),
        (Work(500, 60), ceiling_of(None, None), None, None, None),
        (Work(500, 60), ceiling_of(None, 30.0), None, 0.05, 2.0),
        (Work(500, 60), ceiling_of(100.0, None), 0.25, None, 10.0),
        (Work(None, 60), ceiling_of(100.0, 30.0), None, 0.05, 2.0),
    ],
)
def test_no_fraction_of_what_is_not_known(
    work: Work, ceiling: Ceiling | None, compute: float | None, copy: float | None, floor: float | None
) -> None:
    found = limits_of(work, ceiling, 40.0)
    assert (found.compute_fraction, found.copy_fraction, found.floor_seconds) == (compute, copy, floor)
    assert found.ceiling == (None if ceiling is None else "cpu fp32")


def test_a_ceiling_as_json() -> None:
    ceiling = replace(ceiling_of(1.0, 2.0), product_size=256, product_seconds=(0.5,), copy_bytes=8, copy_seconds=(0.25,))
    assert json.loads(json.dumps(asdict(ceiling))) == {
        "label": "cpu fp32",
        "device": "cpu",
        "compute": "fp32",
        "flop_per_second": 1.0,
        "bytes_per_second": 2.0,
        "method": "by hand",
        "product_size": 256,
        "product_seconds": [0.5],
        "copy_bytes": 8,
        "copy_seconds": [0.25],
    }


def test_the_per_layer_roofline_is_the_sum_of_what_binds_each_node() -> None:
    # One node of 4 s of arithmetic and 1 s of traffic, one of 1 s and 3 s: 7 s, where the floor of all together is 5 s.
    work = Work(macs=5, bytes=8, nodes=((4, 2), (1, 6)))
    found = limits_of(work, ceiling_of(2.0, 2.0), 14.0)
    assert found.layers_fraction == pytest.approx(0.5)
    assert found.floor_seconds == pytest.approx(5.0)
    assert limits_of(work, ceiling_of(2.0, None), 14.0).layers_fraction is None
    assert limits_of(Work(5, 8), ceiling_of(2.0, 2.0), 14.0).layers_fraction is None, "a graph whose nodes are not known"


def test_a_module_has_the_nodes_that_torch_runs() -> None:
    layer = torch.nn.Conv2d(3, 8, 3, padding=1)
    work = work_of_module(layer, Shape(1, 16, 16))
    (node,) = (one for one in work.nodes if one[0])
    picture = 16 * 16 * 4
    assert node == (work.macs, 3 * picture + 8 * picture + 4 * (8 * 3 * 9 + 8))
