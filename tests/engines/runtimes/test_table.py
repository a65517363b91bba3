"""The table of runtimes, and everything that must agree with it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import cli
from benchmarks.bench import Job, jobs_for, measure_row
from benchmarks.machine import PACKAGES
from benchmarks.measurement import StoppingRule
from engines.evaluation import evaluate
from engines.options import DeviceChoice, EngineChoice, PrecisionChoice
from engines.runtimes import table
from engines.runtimes.base import Engine
from engines.runtimes.opening import open_engine
from engines.runtimes.table import RUNTIMES, Device, FileKind, Opening, Precision, Runtime, RuntimeInfo, choose, refusal
from mimo.formats import FORMATS, Format
from tests.tiny import Tiny

ROOT = Path(__file__).parents[3]


def test_the_names_agree() -> None:
    assert tuple(row.name for row in RUNTIMES) == get_args(Runtime)
    assert get_args(EngineChoice) == ("auto", *get_args(Runtime))
    assert get_args(DeviceChoice) == ("auto", *get_args(Device))
    assert get_args(PrecisionChoice) == ("auto", *get_args(Precision))
    assert tuple(row.name for row in FORMATS) == get_args(Format)
    assert {kind for row in RUNTIMES for kind in row.accepts} == {"checkpoint", "served", *get_args(Format)}, (
        "nothing is left unrunnable"
    )


def test_every_distribution_is_brought_by_the_extras_that_the_row_names_and_recorded() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for row in RUNTIMES:
        for extra in row.extras:
            brought = {requirement.split(">")[0].split("[")[0].split("<")[0] for requirement in extras[extra]}
            assert brought & set(row.distributions), f"[{extra}] does not bring {row.name}"
            assert f"[{extra}]" in row.install
        assert set(row.distributions) <= set(PACKAGES), "reports do not record its version"


def output(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def test_doctor_lists_every_runtime() -> None:
    out = output("doctor")
    assert [line.split()[0] for line in out.splitlines() if line.split()[:1] and line.split()[0] in get_args(Runtime)] == list(
        get_args(Runtime)
    )


@pytest.mark.parametrize("command", ["deblur", "eval", "verify", "bench", "table"])
def test_help_offers_every_runtime(command: str) -> None:
    out = output(command, "--help")
    assert not [name for name in get_args(Runtime) if name not in out]


class Toy(Engine):
    """Darkens."""

    name = "toy cpu fp32"
    runtime = cast("Runtime", "toy")
    device: Device = "cpu"
    compute = "fp32"
    size_multiple = 4
    context = 0
    threads = 1

    def _run(self, source: NDArray[Any], result: NDArray[Any]) -> None:
        np.multiply(source, 0.5, out=result)

    def _launcher(self, source: NDArray[Any]) -> Callable[[], None]:
        return lambda: self._run(source, np.empty_like(source))


TOY = RuntimeInfo(
    name=cast("Runtime", "toy"),
    accepts=("onnx",),
    devices=("cpu",),
    module="json",
    distributions=("toy",),
    extras=("toy",),
    instead="make one",
    bytes_per_pixel=100,
    open=lambda opening: Toy(),
)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """One more runtime: its row is all that it takes."""
    monkeypatch.setattr(table, "RUNTIMES", (*RUNTIMES, TOY))
    return TOY.name


@pytest.mark.slow
def test_one_row_adds_a_runtime(tiny: Tiny, toy: Runtime, tmp_path: Path) -> None:
    images = np.full((1, 3, 32, 32), 0.5, np.float32)
    with open_engine(tiny.onnx, toy) as engine:
        np.testing.assert_array_equal(engine(images), images / 2)
        assert evaluate(engine, ROOT / "mimo" / "photographs").method["runtime"] == "toy"
    assert Job(tiny.onnx, toy, "cpu") in jobs_for(tiny.onnx)
    row = measure_row(Job(tiny.onnx, toy, "cpu"), images, StoppingRule(max_seconds=0, warm_up_most=0))
    assert row.engine == "toy cpu fp32"
    assert row.summary is not None
    assert row.threads == 1


def rows_with(cuda: set[str], installed: Callable[[RuntimeInfo], bool] = lambda _: True) -> tuple[RuntimeInfo, ...]:
    return tuple(
        replace(row, has_cuda=lambda name=row.name: name in cuda, module="json" if installed(row) else "not_there")  # type: ignore[misc]
        for row in RUNTIMES
    )


@pytest.mark.parametrize(
    ("kind", "device", "cuda", "missing", "expected"),
    [
        ("checkpoint", "auto", set(), set(), ("pytorch", "cpu")),
        ("checkpoint", "auto", {"pytorch"}, set(), ("pytorch", "cuda")),
        ("checkpoint", "cpu", {"pytorch"}, set(), ("pytorch", "cpu")),
        ("checkpoint", "cuda", set(), set(), ("pytorch", "cuda")),
        ("onnx", "auto", set(), set(), ("openvino", "cpu")),
        ("onnx", "auto", set(), {"openvino"}, ("onnxruntime", "cpu")),
        ("onnx", "auto", {"onnxruntime"}, set(), ("onnxruntime", "cuda")),
        # A GPU that only another runtime can use is none.
        ("onnx", "auto", {"pytorch", "tensorrt-rtx"}, set(), ("openvino", "cpu")),
        ("onnx", "cuda", set(), set(), ("onnxruntime", "cuda")),
        ("openvino", "auto", {"onnxruntime"}, set(), ("openvino", "cpu")),
        ("openvino", "cuda", {"onnxruntime"}, set(), ("openvino", "cuda")),
        ("tensorrt-rtx", "auto", set(), set(), ("tensorrt-rtx", "cuda")),
        ("tensorrt", "auto", {"tensorrt"}, set(), ("tensorrt", "cuda")),
    ],
)
def test_what_auto_means(
    monkeypatch: pytest.MonkeyPatch, kind: FileKind, device: Any, cuda: set[str], missing: set[str], expected: tuple[str, str]
) -> None:
    monkeypatch.setattr(table, "RUNTIMES", rows_with(cuda, lambda row: row.name not in missing))
    row, chosen = choose(kind, "auto", device)
    assert (row.name, chosen) == expected


def test_a_named_runtime_stays_whatever_else_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "RUNTIMES", rows_with({"onnxruntime"}, lambda row: False))
    assert choose("onnx", "openvino")[0].name == "openvino"
    assert choose("onnx", "onnxruntime", "cpu")[1] == "cpu"
    assert choose("onnx", "onnxruntime")[1] == "cuda"


def test_every_refusal_has_a_cure_that_names_what_takes_the_file() -> None:
    for row in RUNTIMES:
        for kind in ("checkpoint", *get_args(Format)):
            for device in get_args(Device):
                said = refusal(kind, "file", row, device)
                assert (said is None) == (kind in row.accepts and device in row.devices)
                if kind not in row.accepts:
                    assert said is not None
                    assert row.instead in said


def test_a_cuda_graph_is_refused_where_there_is_none() -> None:
    said = refusal("onnx", "file", table.runtime_info("onnxruntime"), "cuda", cuda_graph=True)
    assert said is not None
    assert "pytorch" in said


def test_an_opening_refuses_another_precision() -> None:
    Opening(Path("a"), None, "cpu").only("fp32")
    Opening(Path("a"), None, "cpu", precision="fp32").only("fp32")
