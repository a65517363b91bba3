"""The comparison table, with networks of one convolution in place of the real ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import table as module
from benchmarks.measurement import StoppingRule
from benchmarks.networks import Network
from benchmarks.reports import NetworkRow
from benchmarks.roofline import Ceiling
from benchmarks.schema import parse_report
from benchmarks.table import table
from engines.runtimes.base import Device, Images, check_images
from engines.sample_images import list_photographs
from export.to_onnx import Source, export_onnx
from mimo.artifact import Artifact, open_artifact
from mimo.bundled import PHOTOGRAPHS
from mimo.errors import EngineUnavailable, ExportError
from mimo.files import sha256_of
from mimo.networks.entry import Published
from mimo.networks.registry import ADOPTED
from mimo.spec import ModelSpec, Shape, ShapeRange
from tests.fake_engine import FakeEngine

SHAPE = Shape(1, 64, 64)
QUICK = StoppingRule(warm_up_least=0, warm_up_most=0, min_samples=2, max_seconds=0)
PHOTOS = list_photographs(PHOTOGRAPHS)


def table_json(*arguments: Any, **options: Any) -> dict[str, Any]:
    return table(*arguments, **options).to_json()


@dataclass(frozen=True)
class Small(Network):
    """One convolution that adds a little to the picture; ``gain`` is how far its map goes on the way."""

    gain: float = 1.0

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(self.name, ADOPTED, {}, self.size_multiple)

    def build(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Gained(self.gain).eval().requires_grad_(False)


class Gained(nn.Module):
    def __init__(self, gain: float) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)
        self.gain = gain

    def forward(self, blur: Tensor) -> Tensor:
        result: Tensor = self.convolution(blur) * self.gain * (0.1 / self.gain) + blur
        return result


PARAMETERS = 3 * 3 * 9 + 3
MACS = 3 * 3 * 9  # a pixel
ONE = Small("one", "One", 4, Published(30.0, 0.1, 0.2, "RTX 3090"))


def refuse(source: Source, path: Path) -> Artifact:
    raise ExportError(f"no graph for {source.spec.name}: write it otherwise.")


def pretend(source: Source, path: Path) -> Artifact:
    """A file with a sidecar, in which there is no graph."""
    path.write_bytes(b"no graph")
    artifact = Artifact(path, sha256_of(path), "onnx", "fp32", "float32", source.spec, source.sha256)
    artifact.write_sidecar()
    return artifact


def unasked(artifact: Artifact, path: Path) -> Artifact:
    raise AssertionError("there is nothing to convert")


def use(
    monkeypatch: pytest.MonkeyPatch,
    export: Callable[[Source, Path], Artifact],
    convert: Callable[[Artifact, Path], Artifact] = unasked,
) -> None:
    monkeypatch.setattr("export.to_onnx.export_onnx", export)
    monkeypatch.setattr("export.to_fp16.convert_to_fp16", convert)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network can be exported."""
    use(monkeypatch, refuse)


@pytest.fixture
def ceilings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Device, str]]:
    """The ceilings that were asked for; measuring real ones takes seconds."""
    asked: list[tuple[Device, str]] = []

    def ceiling(device: Device, compute: str) -> Ceiling:
        asked.append((device, compute))
        return Ceiling("made up", device, compute, 1e12, 1e10, "made up")

    monkeypatch.setattr("benchmarks.bench.measure_ceiling", ceiling)
    return asked


def test_rows_of_the_table(ceilings: list[tuple[Device, str]], refused: None, tmp_path: Path) -> None:
    """Eager: a row each, what its export came to beside it, on disk before anybody is told; and no network stops the others."""
    written = tmp_path / "table.json"
    seen: list[str] = []

    def finished(row: NetworkRow) -> None:
        seen.append(row.network)
        content = json.loads(written.read_text())
        parse_report(content)
        assert [found["network"] for found in content["rows"]] == seen
        assert content["rows"][-1] == row.model_dump(mode="json")

    loud = Small("loud", "Loud", 4, None, gain=1e6, weights=Path("mine"))
    coarse = Small("coarse", "Coarse", 4, None, gain=1.0)
    chosen = [
        ONE,
        replace(ONE, name="wide", title="Wide", size_multiple=48),
        loud,
        replace(ONE, way="one pass of four"),
        coarse,
    ]
    report = table_json(chosen, SHAPE, PHOTOS, QUICK, tmp_path, json_out=written, finished=finished)
    parse_report(report)
    assert seen == ["One", "Wide", "Loud", "One", "Coarse"]
    assert json.loads(written.read_text()) == json.loads(json.dumps(report))
    assert ceilings == [("cpu", "fp32")] * 2, "one ceiling for one device and precision, measured twice"
    first, wide, big, again, _ = report["rows"]

    assert (first["file"], first["engine"], first["verified"], first["way"]) == ("one", "pytorch cpu fp32", "reference", None)
    assert (first["parameters"], first["macs"]) == (PARAMETERS, MACS * 64 * 64)
    assert first["limits"]["compute_fraction"] == pytest.approx(2 * first["macs"] / 1e12 / first["summary"]["median"])
    assert first["published"] == {"psnr": 30.0, "async_seconds": 0.1, "sync_seconds": 0.2, "gpu": "RTX 3090"}
    assert first["sha256"] == ONE.weights_sha256(ONE.build()) == first["checkpoint_sha256"]
    assert first["export"]["onnx"] == "no graph for one: write it otherwise."
    assert first["export"]["tensorrt_rtx"] == "no ONNX file"
    assert first["export"]["fp16"].startswith("survives (")
    assert first["export"]["fp16"].endswith(" dB, untrained weights)")

    assert (wide["reason"], wide["summary"], wide["limits"]) == ("takes multiples of 48 only", None, None)
    # What it costs is told at the next square that it takes.
    assert (wide["parameters"], wide["macs"]) == (PARAMETERS, MACS * 96 * 96)
    assert wide["sha256"] == first["sha256"]

    assert (big["reason"], big["published"]) == (None, None)
    assert big["export"]["fp16"] == "not finite"

    # MIMO-UNet++ shares the network of MIMO-UNet+, and so what its export came to.
    assert (again["file"], again["way"], again["export"]) == ("one-plus-1x4", "one pass of four", first["export"])


def test_a_picture_that_is_not_square_is_not_for_one_pass_of_four(
    ceilings: list[tuple[Device, str]], refused: None, tmp_path: Path
) -> None:
    report = table_json([replace(ONE, way="one pass of four")], Shape(1, 32, 128), PHOTOS, QUICK, tmp_path, check_export=False)
    parse_report(report)
    (row,) = report["rows"]
    assert "not square" in row["reason"]
    assert row["macs"] == MACS * 64 * 64
    assert ceilings == []
    assert set(row["export"].values()) == {"not tried"}


def test_what_float16_ruins_is_too_coarse(ceilings: list[tuple[Device, str]], refused: None, tmp_path: Path) -> None:
    class Offset(nn.Module):
        def forward(self, blur: Tensor) -> Tensor:
            return (blur + 100) - 100

    @dataclass(frozen=True)
    class Ruined(Network):
        def build(self) -> nn.Module:
            return Offset()

    report = table_json([Ruined("a", "A", 4, None)], SHAPE, PHOTOS, QUICK, tmp_path)
    parse_report(report)
    assert report["rows"][0]["export"]["fp16"].startswith("too coarse (")
    assert report["rows"][0]["parameters"] == 0


def test_without_a_tensorrt_an_engine_is_not_installed(
    ceilings: list[tuple[Device, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a failure further down the road is told in its own words."""
    asked: list[ShapeRange] = []

    def build(*_: Any, shapes: ShapeRange, **__: Any) -> Artifact:
        asked.append(shapes)
        raise EngineUnavailable("tensorrt_rtx is not installed: install it.")

    monkeypatch.setattr("engines.build.build_engine", build)

    def fail(artifact: Artifact, path: Path) -> Artifact:
        raise ExportError("the graph has the operator Exp.")

    use(monkeypatch, pretend, lambda artifact, path: artifact)
    for shape in (Shape(1, 64, 64), Shape(1, 720, 1280)):
        wide = replace(ONE, size_multiple=16, way="one pass of four" if shape.width == 1280 else None)
        report = table_json([wide], shape, PHOTOS, QUICK, tmp_path)
        assert report["rows"][0]["export"]["tensorrt_rtx"] == "not installed"
        assert report["rows"][0]["export"]["onnx"] == "ok"
    # Tuned for what is measured, and with room for what is checked.
    assert asked == [
        ShapeRange(Shape(1, 64, 64), Shape(1, 64, 64), Shape(1, 128, 128), 16),
        ShapeRange(Shape(1, 64, 64), Shape(1, 720, 1280), Shape(1, 720, 1280), 16),
    ]
    use(monkeypatch, pretend, fail)
    report = table_json([ONE], SHAPE, PHOTOS, QUICK, tmp_path)
    assert report["rows"][0]["export"]["tensorrt_rtx"] == "the graph has the operator Exp."
    parse_report(report)


def test_the_engine_that_is_measured_is_built_for_the_size_that_is_measured(
    ceilings: list[tuple[Device, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Shape]] = []

    def build(*_: Any, runtime: str, shapes: ShapeRange) -> Artifact:
        asked.append((runtime, shapes.opt))
        raise EngineUnavailable("no GPU here.")

    monkeypatch.setattr("engines.build.build_engine", build)
    use(monkeypatch, pretend, lambda artifact, path: artifact)
    report = table_json(
        [ONE], Shape(1, 256, 320), PHOTOS, QUICK, tmp_path, runtime="tensorrt", device="cuda", check_export=False
    )
    parse_report(report)
    assert report["rows"][0]["reason"] == "no GPU here."
    assert asked == [("tensorrt", Shape(1, 256, 320))]


def test_on_a_runtime_the_network_goes_through_its_file(
    ceilings: list[tuple[Device, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exported, converted and built for real, once; measured and checked in ONNX Runtime."""
    exported: list[str] = []

    def export(source: Source, path: Path) -> Artifact:
        exported.append(path.name)
        return export_onnx(source, path)

    monkeypatch.setattr("export.to_onnx.export_onnx", export)
    report = table_json([ONE], SHAPE, PHOTOS, QUICK, tmp_path, runtime="onnxruntime")
    parse_report(report)
    (row,) = report["rows"]
    assert (row["reason"], row["verified"], row["engine"]) == (None, "verified", "onnxruntime cpu fp32")
    assert row["macs"] == MACS * 64 * 64
    assert row["export"]["onnx"] == "ok"
    assert row["export"]["tensorrt_rtx"] == "not installed" or row["export"]["tensorrt_rtx"].startswith("ok (")
    assert exported == ["one.onnx"], "once for the check and the row together"
    artifact = open_artifact(tmp_path / "one.onnx")
    assert artifact.spec == ModelSpec("one", ADOPTED, {}, 4)
    assert artifact.checkpoint_sha256 == row["sha256"]


@pytest.mark.parametrize(
    ("spoil", "verified"),
    [
        (lambda images: images, "verified"),
        (lambda images: images + np.float32(2e-4), "FAILED"),
        (lambda images: np.where(images > 1e9, images, np.nan), "FAILED"),
    ],
)
def test_an_engine_is_held_against_the_module(
    ceilings: list[tuple[Device, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Images], Images],
    verified: str,
) -> None:
    network = ONE.build()

    class Spoiled(FakeEngine):
        def launcher(self, images: Images) -> Callable[[], None]:
            check_images(self, images)
            return lambda: None

    def run(images: Images) -> Images:
        result: Images = spoil(network(torch.from_numpy(images)).numpy()).astype(np.float32)
        return result

    engine = Spoiled(run, 0)
    monkeypatch.setattr(module, "open_engine", lambda *_, **__: engine)
    use(monkeypatch, pretend)
    report = table_json([ONE], SHAPE, PHOTOS, QUICK, tmp_path, runtime="onnxruntime", check_export=False)
    parse_report(report)
    assert (report["rows"][0]["verified"], report["rows"][0]["reason"]) == (verified, None)
    assert engine.seen[-1] == Shape(1, 128, 128)


def test_a_file_that_cannot_be_made_is_the_reason_of_its_row(
    ceilings: list[tuple[Device, str]], refused: None, tmp_path: Path
) -> None:
    report = table_json(
        [ONE, replace(ONE, name="two", title="Two")],
        SHAPE,
        PHOTOS,
        QUICK,
        tmp_path,
        runtime="onnxruntime",
        check_export=False,
    )
    parse_report(report)
    assert [row["reason"] for row in report["rows"]] == [f"no graph for {name}: write it otherwise." for name in ("one", "two")]
    assert [row["macs"] for row in report["rows"]] == [MACS * 64 * 64] * 2
