"""SIGTERM while a command writes: nothing half-written stays, and the exit code says by which signal it ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny import Tiny

ROOT = Path(__file__).parents[1]

STOPPED = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a shell's background job may ignore it
sync = os.fsync
def fsync(handle):
    # Everything is written, and nothing has its name yet.
    os.fsync = sync
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.5)
    sync(handle)
os.fsync = fsync
import cli
sys.argv = ["mimo", *sys.argv[1:]]
cli.main()
"""

COMMANDS: dict[str, list[str]] = {
    "export": ["export", "t.safetensors", "--out", "out/new.onnx"],
    "export --to openvino": ["export", "t.safetensors", "--to", "openvino", "--out", "out/new.xml"],
    "build-engine --fp16": ["build-engine", "out/t.onnx", "--fp16", "--max", "1x64x64", "--min", "1x64x64", "--opt", "1x64x64"],
    "adopt": ["adopt", "out/t.onnx", "--out", "out/adopted.onnx"],
    "deblur": ["deblur", "data/blur", "--model", "out/t.onnx", "--out", "out"],
    "eval": ["eval", "out/t.onnx", "--data", "data", "--save", "out", "--json", "out/eval.json"],
    "score": ["score", "data/blur", "data/sharp", "--csv", "out/score.csv"],
    "weights average": ["weights", "average", "t.safetensors", "t.safetensors", "--out", "out/mean.safetensors"],
    "verify": ["verify", "out/t.onnx", "--against", "t.safetensors", "--engine", "onnxruntime", "--size", "32x32"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_stopped_leaves_nothing_half_written(tiny: Tiny, tmp_path: Path, command: str) -> None:
    (tmp_path / "t.safetensors").write_bytes(tiny.checkpoint.read_bytes())
    (tmp_path / "out").mkdir()
    for ending in ("", ".json"):
        (tmp_path / f"out/t.onnx{ending}").write_bytes(tiny.onnx.with_name(tiny.onnx.name + ending).read_bytes())
    for side in ("blur", "sharp"):
        (tmp_path / "data" / side).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (24, 16), (90, 60, 40 * number)).save(tmp_path / "data" / side / f"a_{number}.png")
    before = {path.name for path in (tmp_path / "out").iterdir()}
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, *COMMANDS[command]],
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=200,
    )
    assert done.returncode == 143, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    left = {path.name for path in (tmp_path / "out").iterdir()} - before
    if command == "deblur":  # the photograph at hand is finished on its own thread
        assert left <= {"a_0.png"}
        for name in left:
            Image.open(tmp_path / "out" / name).load()
    else:
        assert left == set()
