"""The script for a machine with a GPU, as far as it runs without one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import openvino
import pytest

from benchmarks import bench
from benchmarks.measurement import StoppingRule
from benchmarks.roofline import Ceiling
from benchmarks.schema import parse_report
from benchmarks.studies import on_gpu
from benchmarks.studies.on_gpu import Way, build_for_this_gpu, speed
from engines.runtimes.base import Device
from mimo.spec import Shape
from tests.engines.runtimes.processor import Processor
from tests.tiny import Tiny


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    def ceiling(device: Device, compute: str) -> Ceiling:
        return Ceiling("a", device, compute, 1e12, 1e10, "made up")

    monkeypatch.setattr(bench, "measure_ceiling", ceiling)
    monkeypatch.setattr(on_gpu, "RULE", StoppingRule(warm_up_most=0, max_seconds=0))


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.slow
def test_every_way_is_a_row_and_what_fails_says_why(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", Processor(openvino, bf16=bf16))
    ways = (Way(), Way(channels_last=True), Way(cuda_graph=True))
    report = speed(tiny.checkpoint, [tiny.onnx], Shape(1, 32, 48), tmp_path / "speed.json", device="cpu", ways=ways).to_json()
    parse_report(report)
    assert json.loads((tmp_path / "speed.json").read_text()) == json.loads(json.dumps(report))
    assert [row["engine"] for row in report["rows"]] == [
        "pytorch cpu fp32",
        "pytorch cpu fp32 (channels last)",
        "pytorch cpu",
        "openvino cpu bf16" if bf16 else "openvino cpu fp32",
        "onnxruntime cpu fp32",
    ]
    assert [row["summary"] is not None for row in report["rows"]] == [True, True, False, True, True]
    assert "needs a GPU" in report["rows"][2]["reason"]
    assert report["rows"][0]["limits"]["macs"] > 0


@pytest.mark.slow
def test_what_tensorrt_rtx_says_is_kept(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = build_for_this_gpu(tiny.fp16, tmp_path / "said.txt")
    assert (tmp_path / "said.txt").read_text() == said + "\n"
    first, *targets = said.splitlines()
    assert first
    assert [line.split(":")[0] for line in targets] == ["targets by default", "targets ('current',)"]
