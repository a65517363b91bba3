"""mimo lineage: every step back says what was compared, and a file that was exchanged anywhere on the way shows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mimo.artifact import open_artifact, sidecar_of
from mimo.errors import ArtifactError, CheckpointError
from mimo.files import sha256_of
from mimo.lineage import walk
from mimo.networks.checkpoint import average_checkpoints, load_checkpoint, save_checkpoint
from mimo.networks.tied import LINEAGE
from tests.tiny import SPEC, Tiny, tiny_state


@pytest.fixture
def folder(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of all files of the tiny network, in an otherwise empty current directory."""
    monkeypatch.chdir(tmp_path)
    for file in tiny.folder.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    return tmp_path


def outcomes(path: Path) -> list[str]:
    return [step.outcome for step in walk(path)]


def retied(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], None]) -> None:
    """Change weights or metadata with another program than ours."""
    with safe_open(path, framework="pt") as file:
        metadata, tensors = dict(file.metadata()), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    change(tensors, metadata)
    save_file(tensors, path, metadata=metadata)


def test_an_engine_is_walked_to_its_checkpoint(folder: Path, tiny: Tiny) -> None:
    steps = list(walk(folder / tiny.engine.name))
    assert [step.outcome for step in steps[:-1]] == ["match"] * (len(steps) - 1)
    assert (steps[-1].outcome, steps[-1].what) == ("nothing to compare", f"training run of {tiny.checkpoint.name}")
    text = " ".join(f"{step.what} {step.compared}" for step in steps)
    for name in (tiny.engine.name, tiny.fp16.name, tiny.onnx.name, tiny.checkpoint.name):
        assert name in text
    assert "tie" in text


@pytest.mark.parametrize(
    ("gone", "found"),
    [("fp16", ["match", "match", "not found", "match"]), ("checkpoint", ["not found"]), ("onnx", ["not found", "match"])],
)
def test_what_is_missing_on_the_way_is_not_found(folder: Path, tiny: Tiny, gone: str, found: list[str]) -> None:
    (folder / getattr(tiny, gone).name).unlink()
    text = outcomes(folder / tiny.engine.name)
    assert "changed" not in text
    assert text.count("not found") == 1
    assert ",".join(found) in ",".join(text)


def test_a_parent_of_another_name_is_found_by_its_hash(folder: Path, tiny: Tiny) -> None:
    (folder / tiny.fp16.name).rename(folder / "other.onnx")
    (folder / (tiny.fp16.name + ".json")).unlink()
    steps = list(walk(folder / tiny.engine.name))
    assert "not found" not in [step.outcome for step in steps]
    assert any("now called other.onnx" in step.compared for step in steps)


def test_a_graph_that_was_exchanged_has_changed(folder: Path, tiny: Tiny) -> None:
    shutil.copy(folder / tiny.onnx.name, folder / tiny.fp16.name)
    (step,) = [step for step in walk(folder / tiny.engine.name) if step.outcome == "changed"]
    assert tiny.fp16.name in step.what


def test_a_file_that_was_changed_has_changed(folder: Path, tiny: Tiny) -> None:
    with (folder / tiny.onnx.name).open("ab") as file:
        file.write(b"\0")
    assert outcomes(folder / tiny.onnx.name) == ["changed"]


def test_a_plan_of_random_bytes_has_changed(folder: Path, tiny: Tiny) -> None:
    path = folder / tiny.engine.name
    artifact = open_artifact(path)
    path.write_bytes(bytes(range(250)) * 4)
    replace(artifact, sha256=sha256_of(path)).write_sidecar()
    assert outcomes(path) == ["changed"]


def test_a_graph_without_a_sidecar_has_no_hash_to_compare(folder: Path, tiny: Tiny) -> None:
    sidecar_of(folder / tiny.onnx.name).unlink()
    assert outcomes(folder / tiny.onnx.name)[0] == "nothing to compare"


def test_sidecars_that_name_each_other_end(folder: Path, tiny: Tiny) -> None:
    for one, other in ((tiny.engine, tiny.engine), (tiny.engine, tiny.fp16)):
        artifact = open_artifact(folder / one.name)
        changed = replace(artifact, parent=other.name, parent_sha256=sha256_of(folder / other.name))
        changed.write_sidecar()
        assert len(list(walk(folder / tiny.engine.name))) < 20


def test_a_file_that_is_not_there_is_an_error(folder: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        list(walk(folder / "none.onnx"))


# The tie of lineage and weights.


def changed_weight(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    next(iter(tensors.values())).add_(1e-3)


def changed_lineage(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    metadata[LINEAGE] = json.dumps({**json.loads(metadata[LINEAGE]), "validation_psnr": "99"})


def renamed_weights(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    first, second = [key for key in tensors if tensors[key].shape == (8,)][:2]
    tensors[first], tensors[second] = tensors[second], tensors[first]


@pytest.mark.parametrize("change", [changed_weight, changed_lineage, renamed_weights])
def test_weights_and_lineage_that_were_not_written_together_are_refused(
    folder: Path, tiny: Tiny, change: Callable[[dict[str, torch.Tensor], dict[str, str]], None]
) -> None:
    path = folder / tiny.checkpoint.name
    assert load_checkpoint(path).tied
    retied(path, change)
    with pytest.raises(CheckpointError, match="other weights than its lineage"):
        load_checkpoint(path)
    assert outcomes(path)[0] == "changed"


def test_a_file_that_another_program_only_wrote_again_is_still_tied(folder: Path, tiny: Tiny) -> None:
    path = folder / tiny.checkpoint.name
    before = path.read_bytes()
    retied(path, lambda tensors, metadata: metadata.update(format="pt"))
    assert path.read_bytes() != before
    assert load_checkpoint(path).tied


def test_an_older_file_without_a_tie_is_read_and_said_not_to_be_tied(folder: Path) -> None:
    path = folder / "old.safetensors"
    save_file(tiny_state(), path, metadata={LINEAGE: json.dumps({"origin": "random"})})
    checkpoint = load_checkpoint(path)
    assert not checkpoint.tied
    assert checkpoint.lineage == {"origin": "random"}
    assert "not tied" in next(iter(walk(path))).compared


@pytest.mark.parametrize("half", [False, True])
def test_an_average_is_tied_and_walked_to_what_it_averages(folder: Path, tiny: Tiny, half: bool) -> None:
    other = folder / "other.safetensors"
    save_checkpoint(other, SPEC, {key: value * 0.5 for key, value in tiny_state().items()}, {"origin": "random"})
    average_checkpoints([folder / tiny.checkpoint.name, other], folder / "mean.safetensors", half=half)
    assert outcomes(folder / "mean.safetensors").count("match") == 5
    other.unlink()
    assert "not found" in outcomes(folder / "mean.safetensors")


# The training run.


def trained(folder: Path, **recipe: object) -> Path:
    path = folder / "weights.safetensors"
    lineage = {"origin": "mimo train", "recipe": json.dumps({"lr": 1e-4, "iterations": 5}), "data_sha256": "a" * 64}
    save_checkpoint(path, SPEC, tiny_state(), lineage)
    (folder / "recipe.json").write_text(json.dumps({"lr": 1e-4, "iterations": 9, "data": ["/x"], **recipe}))
    return path


def test_a_recipe_is_compared_with_the_one_in_the_weights(folder: Path) -> None:
    assert outcomes(trained(folder)) == ["match", "match", "not found"], "a longer run of the same recipe is the same run"
    assert outcomes(trained(folder, lr=2.0)) == ["match", "changed", "not found"]
    (folder / "recipe.json").write_text("{")
    assert outcomes(folder / "weights.safetensors")[1] == "changed"
    (folder / "recipe.json").unlink()
    assert outcomes(folder / "weights.safetensors") == ["match", "not found"]
