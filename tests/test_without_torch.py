"""``pip install '.[cpu]'``: what needs no torch works, and what needs it says so in a sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mimo.bundled import GRAPHS, SHIPPED, WEIGHTS, given_model
from tests.tiny import Tiny

ROOT = Path(__file__).parents[1]


def mimo(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = "import sys; sys.modules['torch'] = None; import cli; sys.argv = ['mimo', *sys.argv[1:]]; cli.main()"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """One pair of real pictures, 64x48."""
    for side in ("blur", "sharp"):
        (tmp_path / "data" / side).mkdir(parents=True)
        with Image.open(next((ROOT / "mimo/photographs" / side).glob("*.png"))) as photograph:
            photograph.crop((100, 100, 164, 148)).save(tmp_path / "data" / side / "a_1.png")
    return tmp_path / "data"


def test_the_bundled_network_deblurs_scores_and_is_measured(pictures: Path, tmp_path: Path) -> None:
    done = mimo("deblur", pictures / "blur", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/a_1.png").is_file()
    done = mimo("eval", "mimo-unet-small", "--data", pictures, "--json", "eval.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "eval.json").read_text())["method"]["model"] == GRAPHS["mimo-unet-small"].name
    measured = ("--size", "32x32", "--min-samples", "2", "--max-seconds", "0", "--no-limits", "--json", "bench.json")
    done = mimo("bench", "mimo-unet-small", "mimo-unet-small@onnxruntime", *measured, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert [row["engine"] for row in rows if row["summary"]] == [row["engine"] for row in rows]


COMMANDS = [
    ["export"], ["export", "--to", "openvino"], ["table", "--size", "32x32"], ["inspect", "mimo-unet"],
    ["train", "--model", "mimo-unet-small", "--data", "data"], ["inspect", "t.safetensors"],
    ["weights", "average", "t.safetensors", "t.safetensors", "--out", "m.safetensors"],
    ["eval", "t.safetensors"], ["deblur", "data/blur", "--out", "o", "--engine", "pytorch"], ["sweep", "t.safetensors"],
    ["verify", "t.onnx", "--against", "t.safetensors"], ["compare", "t.safetensors", "t.onnx"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_what_needs_torch_says_how_to_install_it(pictures: Path, tiny: Tiny, tmp_path: Path, arguments: list[str]) -> None:
    for name, source in (("t.safetensors", tiny.checkpoint), ("t.onnx", tiny.onnx)):
        (tmp_path / name).write_bytes(source.read_bytes())
    before = sorted(path.name for path in tmp_path.iterdir())
    done = mimo(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("mimo:")]
    assert len(errors) == 1 and "torch" in errors[0] and "pip install" in errors[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_what_is_bundled_is_a_graph_for_every_runtime_but_pytorch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, weights in SHIPPED.items():
        assert given_model(Path(name), "pytorch") == given_model(Path(name)) == weights
        assert given_model(Path(name), "openvino") == given_model(Path(name), "onnxruntime") == GRAPHS[name]
    assert given_model(None) == WEIGHTS
    assert given_model(WEIGHTS, "openvino") == WEIGHTS, "a file that was named is taken as it is"
    monkeypatch.setitem(sys.modules, "torch", None)
    assert given_model(Path("mimo-unet-small")) == GRAPHS["mimo-unet-small"]
