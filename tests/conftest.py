"""What all tests share: one tiny network and the files made from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mimo.files import sha256_of
from tests.tiny import PROFILE, SPEC, Tiny, tiny_state


def _contents(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the tiny network: safetensors, float32. To be read only."""
    from mimo.networks.checkpoint import save_checkpoint

    path = tmp_path_factory.mktemp("tiny") / f"{SPEC.name}.safetensors"
    save_checkpoint(path, SPEC, tiny_state(), {"origin": "random"})
    return path


@pytest.fixture(scope="session")
def tiny_onnx(tiny_checkpoint: Path) -> tuple[Path, Path]:
    """The tiny network as FP32 and FP16 ONNX, beside the checkpoint. To be read only."""
    from export.to_fp16 import convert_to_fp16
    from export.to_onnx import export_onnx
    from mimo.networks.checkpoint import load_checkpoint

    onnx, fp16 = (tiny_checkpoint.parent / f"{SPEC.name}{suffix}" for suffix in (".onnx", ".fp16.onnx"))
    convert_to_fp16(export_onnx(load_checkpoint(tiny_checkpoint), onnx), fp16)
    return onnx, fp16


@pytest.fixture(scope="session")
def tiny(tiny_checkpoint: Path, tiny_onnx: tuple[Path, Path]) -> Iterator[Tiny]:
    """The tiny network as checkpoint, FP32 and FP16 ONNX, and as engine; a test that changed them is found out at the end."""
    from engines.build import build_engine
    from mimo.artifact import open_artifact

    folder = tiny_checkpoint.parent
    onnx, fp16 = tiny_onnx
    made = Tiny(folder, tiny_checkpoint, onnx, fp16, folder / f"{SPEC.name}.fp16.engine")
    build_engine(open_artifact(fp16), made.engine, shapes=PROFILE)
    before = _contents(folder)
    yield made
    assert _contents(folder) == before, "a test wrote into the session's folder: it must copy what it changes"
