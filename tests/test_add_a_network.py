"""docs/add-a-network.md, followed: one file and one name in the list, and every command takes the network."""

from __future__ import annotations

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cli import app
from engines.tiles import restore_tiled
from mimo.artifact import open_artifact
from mimo.networks import registry
from mimo.networks.entry import Network

TUTORIAL = Path(__file__).parent.parent / "docs" / "add-a-network.md"
SOURCE = Path(registry.__file__).parent.parent.parent


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    (code,) = re.findall(r"```python\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "toy.py"
    file.write_text(code)
    spec = spec_from_file_location("toy", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "toy", module)
    spec.loader.exec_module(module)
    entry: Network = module.TOY
    monkeypatch.setattr(registry, "NETWORKS", (*registry.NETWORKS, entry))
    return entry


@pytest.mark.slow
def test_the_tutorial_makes_a_network_that_every_command_takes(
    toy: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engines.runtimes.opening import open_engine

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save({"state_dict": registry.build(toy.spec({"width": 5})).state_dict()}, "toy.ckpt")
    run = CliRunner()
    assert "toy-w5" in run.invoke(app, ["inspect", "toy.ckpt"]).output
    for arguments in (["export", "toy.ckpt"], ["verify", "--size", "64x64", "--engine", "onnxruntime"]):
        result = run.invoke(app, arguments)
        assert result.exit_code == 0, (arguments, result.output, result.exception)
    artifact = open_artifact(Path("toy-w5.onnx"))
    assert (artifact.spec.network, artifact.spec.parameters, artifact.spec.context) == ("toy", {"width": 5}, 2)

    # Its context is what it says: tiles give the whole image.
    image = np.random.default_rng(0).random((3, 130, 97), dtype=np.float32)
    with open_engine(Path("toy-w5.onnx"), "onnxruntime", "cpu") as engine:
        whole = restore_tiled(engine, image, tile=200)
        assert float(np.abs(restore_tiled(engine, image, tile=64) - whole).max()) < 1e-5


@pytest.mark.slow
def test_the_names_of_networks_stand_in_one_registry() -> None:
    """No other module lists them; pages, weights and what is MIMO-UNet's own may name their one."""
    names = {entry.name for entry in registry.NETWORKS} - {"mimo-unet"}
    for folder in ("mimo", "export", "engines", "benchmarks"):
        for file in (SOURCE / folder).rglob("*.py"):
            if file.name != "registry.py":
                text = file.read_text(encoding="utf-8")
                assert not [name for name in names if f'"{name}"' in text], file
