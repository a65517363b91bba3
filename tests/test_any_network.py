"""Every command takes every network: from a saved state dict to a restored photograph, with no further word."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cli import app
from mimo.artifact import open_artifact
from mimo.networks.registry import NETWORKS
from tests.tiny_networks import STATES, TINY

SIDE = 64


def mimo(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, (arguments, result.output, result.exception)
    return result.output


def test_every_network_is_tried() -> None:
    assert TINY.keys() == {entry.name for entry in NETWORKS}


@pytest.mark.slow
@pytest.mark.parametrize("name", STATES)
def test_from_a_saved_state_dict_to_a_restored_photograph(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"params": STATES[name]()}, "downloaded.pth.tar")
    told = mimo("inspect", "downloaded.pth.tar", "--json", "facts.json")
    assert "params/" in told
    mimo("export", "downloaded.pth.tar", "--to", "onnx", "--out", "network.onnx")
    spec = open_artifact(Path("network.onnx")).spec
    assert spec.network == name
    if name in TINY:
        assert spec == TINY[name]

    # MPRNet halves by factors that TensorRT's compiler cannot follow through dynamic sizes: it is built for one size.
    shapes = {"--min": "1x64x64", "--opt": "1x64x64", "--max": "1x64x64" if name == "mprnet" else "1x128x128"}
    mimo("build-engine", "network.onnx", "--fp16", *(word for option in shapes.items() for word in option))
    engine = open_artifact(Path("network.fp16.engine"))
    assert engine.receipt is not None
    assert engine.receipt.convolutions.keys() == {"fp16"}

    # 3: what is here passed, and there is no GPU for the engine.
    mimo("verify", "--size", f"{SIDE}x{SIDE}", "--engine", "onnxruntime", "--json", "verified.json")
    assert {entry["status"] for entry in json.loads(Path("verified.json").read_text())} == {"passed"}
    mimo("verify", "network.fp16.engine", code=3)

    quick = ("--size", f"{SIDE}x{SIDE}", "--max-seconds", "0", "--min-samples", "2", "--no-limits")
    mimo("bench", "network.onnx@onnxruntime", "downloaded.pth.tar", "--sync", *quick, "--json", "bench.json")
    rows = json.loads(Path("bench.json").read_text())["rows"]
    assert [row["verified"] for row in rows] == ["verified", "reference"]

    photograph = (np.random.default_rng(0).random((50, 70, 3)) * 255).astype(np.uint8)
    Image.fromarray(photograph).save("photograph.png")
    for model, out in (("network.onnx", "by-onnx"), ("downloaded.pth.tar", "by-torch")):
        mimo("deblur", "photograph.png", "--model", model, "--out", out)
    by_onnx, by_torch = (np.asarray(Image.open(Path(out) / "photograph.png")).astype(int) for out in ("by-onnx", "by-torch"))
    assert by_onnx.shape == photograph.shape
    assert np.abs(by_onnx - by_torch).max() <= 3  # OpenVINO may compute in bfloat16
