"""OpenVINO over many sizes, and what it raises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.runtimes.base import Engine, brief
from engines.runtimes.opening import open_engine
from engines.runtimes.openvino import OpenVinoEngine
from mimo.artifact import open_artifact
from mimo.errors import EngineError, OutOfMemory
from tests.tiny import Tiny

ROOT = Path(__file__).parents[3]

PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from engines.runtimes.opening import open_engine

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

with open_engine(Path(sys.argv[1]), "openvino", "cpu", precision=sys.argv[2]) as engine:
    sizes = [(1, 3, 16 + 4 * (number % 15), 16 + 4 * (number // 15)) for number in range(200)]
    engine(np.zeros((1, 3, 76, 72), np.float32))  # the largest: what it needs at once is no growth
    for number, size in enumerate(sizes):
        engine(np.zeros(size, np.float32))
        if number == 49:
            before = resident()
    print((resident() - before) / 150)
"""


@pytest.mark.parametrize("precision", ["fp32", "auto"])
@pytest.mark.slow
def test_memory_does_not_grow_with_every_new_size(tiny: Tiny, precision: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tiny.onnx), precision], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 300_000, "bytes for each new size; it was 3 MiB"


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(
    "error", [RuntimeError("a\nb"), TypeError("odd"), ValueError("x" * 9000), KeyError("k"), MemoryError()]
)
def test_whatever_a_runtime_raises_is_our_error_and_short(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, runtime: str, error: Exception
) -> None:
    def fails(*_: object) -> None:
        raise error

    images = np.zeros((1, 3, 16, 16), np.float32)
    with open_engine(tiny.onnx, runtime, "cpu") as engine:  # type: ignore[arg-type]
        launch = engine.launcher(images)
        monkeypatch.setattr(engine, "_infer", fails)
        for call in (
            lambda: engine(images),
            engine.launcher(images),
            launch if runtime == "onnxruntime" else engine.launcher(images),
        ):
            with pytest.raises(EngineError, match="failed at 1x16x16") as failure:
                call()
            assert len(str(failure.value)) < 600
            assert "\n" not in str(failure.value)
        monkeypatch.undo()
        assert isinstance(engine, Engine)
        assert np.isfinite(engine(images)).all(), "it can be used again"


def test_memory_that_runs_out_is_called_that(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("[ONNXRuntimeError] : 6 : bad_alloc")

    with open_engine(tiny.onnx, "onnxruntime", "cpu") as engine:
        monkeypatch.setattr(engine, "_infer", fails)
        with pytest.raises(EngineError, match=r"memory ran out .* smaller tiles"):
            engine(np.zeros((1, 3, 16, 16), np.float32))


def test_a_graph_that_it_cannot_load_is_refused_in_one_line(tiny: Tiny, tmp_path: Path) -> None:
    from dataclasses import replace

    from engines.runtimes.onnxruntime import OnnxRuntimeEngine
    from engines.runtimes.openvino import OpenVinoEngine
    from mimo.artifact import open_artifact

    broken = tmp_path / "broken.onnx"
    broken.write_bytes(tiny.onnx.read_bytes()[:-5000])
    artifact = replace(open_artifact(tiny.onnx), path=broken)
    for kind in (OpenVinoEngine, OnnxRuntimeEngine):
        with pytest.raises(EngineError, match=r"cannot load broken\.onnx") as failure:
            kind(artifact)
        assert len(str(failure.value)) < 600


def test_openvinos_messages_are_quoted_from_their_end() -> None:
    assert brief(RuntimeError("Exception from src/core.cpp:1:\nCheck 'x' failed\nwhat happened\n")) == "what happened"
    assert brief(RuntimeError("what happened\nstack")) == "what happened"
    assert brief(RuntimeError("")) == "RuntimeError"
    assert brief(RuntimeError("a\x1b[31m")) == "a?[31m"


def test_what_a_failed_request_held_is_given_back(tiny: Tiny) -> None:
    """OpenVINO keeps what it got before memory ran out, so that the next, smaller picture would fail too."""
    engine = OpenVinoEngine(open_artifact(tiny.onnx), "fp32", threads=1)
    small = np.zeros((1, 3, 16, 16), np.float32)
    before = engine(small)
    released: list[str] = []

    class Failing:
        def __getattr__(self, name: str) -> Any:
            return lambda *arguments: None

        def infer(self) -> None:
            raise RuntimeError("Failed to allocate 20160000 bytes of memory")

    class Compiled:
        def release_memory(self) -> None:
            released.append("all")
            compiled.release_memory()

        def create_infer_request(self) -> Any:
            return compiled.create_infer_request()

    compiled, engine._compiled, engine._request = engine._compiled, Compiled(), Failing()
    with pytest.raises(OutOfMemory, match="memory ran out"):
        engine(small)
    assert released == ["all"]
    np.testing.assert_array_equal(engine(small), before)
