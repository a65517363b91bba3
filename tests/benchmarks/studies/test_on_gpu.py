"""The script for a machine with a GPU, as far as it runs without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import openvino
import pytest
import typer

from benchmarks import bench
from benchmarks.measurement import StoppingRule
from benchmarks.roofline import Ceiling
from benchmarks.schema import parse_report
from benchmarks.studies import on_gpu
from benchmarks.studies.on_gpu import Way, main, run_streaming, smoke, speed, train_command
from engines.runtimes.base import Device
from mimo.bundled import PHOTOGRAPHS
from mimo.spec import Shape
from tests.engines.runtimes.processor import Processor
from tests.engines.runtimes.test_tensorrt import FakeCuda
from tests.tiny import Tiny

WIDE = os.environ | {"COLUMNS": "300"}


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
def test_the_dry_run_leaves_what_each_step_promises(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_gpu, "WAYS", (Way(lean=True), Way(cuda_graph=True)))
    monkeypatch.setattr(on_gpu, "BATCHES", (1, 2))
    options: dict[str, Any] = {"out": tmp_path, "weights": tiny.checkpoint, "device": "cpu", "size": "32x48"}
    main("speed", artifacts=[tiny.onnx], **options)
    for shape in ("1x32x48", "2x32x48"):
        report = json.loads((tmp_path / f"speed-{shape}.json").read_text())
        assert report["rows"][0]["engine"] == "pytorch cpu fp32 (lean)"
        assert report["shape"] == shape
    assert "conv" in (tmp_path / "profile.txt").read_text()
    main("photographs", artifacts=[tiny.onnx], **options)
    found = json.loads((tmp_path / "photographs.json").read_text())["photographs"]
    assert [one["file"] for one in found] == [tiny.checkpoint.name] * 2 + [tiny.onnx.name]
    assert all(len(one["seconds"]) == 2 and one["tiles"] >= 1 for one in found)
    started: list[list[str]] = []

    def run(command: list[str], _: Path) -> int:
        started.append(command)
        return 0

    monkeypatch.setattr(on_gpu, "run_streaming", run)
    for step in ("check", "train", "table"):
        with pytest.raises(typer.Exit):
            main(step, **options)
    assert (tmp_path / "cuda.txt").read_text()
    *_, tests, train, table = started
    assert "filterwarnings=default" in tests
    assert "--synthesize-from" in train
    assert table[-2:] == ["--json", str(tmp_path / "table.json")]


def test_the_commands_are_ones_that_mimo_takes(tmp_path: Path) -> None:
    """Every option of what the steps run is in that command's help."""
    for command in (train_command(tmp_path, PHOTOGRAPHS, 1, "cuda", []), on_gpu.table_command(tmp_path, "cuda", [])):
        name, options = command[3], {argument for argument in command if argument.startswith("--")}
        shown = subprocess.run([*command[:3], name, "--help"], capture_output=True, text=True, check=True, env=WIDE).stdout
        assert not [option for option in options if option not in shown], name


def test_training_goes_on_where_a_lease_ended(tmp_path: Path) -> None:
    assert "--resume" not in train_command(tmp_path, PHOTOGRAPHS, 1, "cuda", [])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").touch()
    assert train_command(tmp_path, PHOTOGRAPHS, 1, "cuda", [])[-2:] == ["--resume", str(tmp_path / "run")]


def test_output_is_in_the_file_before_the_command_ends_and_a_limit_stops_it(tmp_path: Path) -> None:
    endless = "import time; print('first'); time.sleep(600)"
    assert run_streaming([sys.executable, "-c", endless], tmp_path / "said.txt", most_seconds=3) != 0
    assert (tmp_path / "said.txt").read_text().startswith("first\n")


def test_a_command_that_does_not_stop_when_asked_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_gpu, "GRACE_SECONDS", 1.0)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(60)"
    assert run_streaming([sys.executable, "-c", deaf], tmp_path / "said.txt", most_seconds=1) != 0


def test_the_smoke_says_right_only_of_what_came_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda()
    monkeypatch.setattr(on_gpu, "open_cuda", lambda: cuda)
    assert "equal" in smoke(tmp_path / "cuda.txt")
    assert not cuda.memory
    assert not cuda.streams
    monkeypatch.setattr(cuda, "upload", lambda *_: None)
    assert "DIFFERENT" in smoke(tmp_path / "cuda.txt")
