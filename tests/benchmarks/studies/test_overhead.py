"""The overhead benchmark measures the real job; its figure is for a quiet machine, not for a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.studies.overhead import Overhead, cut_photographs, measure_overhead
from engines.runtimes.opening import open_engine
from mimo.images import photo_size
from tests.tiny import Tiny


@pytest.mark.slow
def test_it_runs_the_real_job(tiny: Tiny, tmp_path: Path) -> None:
    paths = cut_photographs(tmp_path, 3, 48, 64)
    assert [photo_size(path) for path in paths] == [(48, 64)] * 3
    assert len({path.read_bytes() for path in paths}) == 3
    with open_engine(tiny.onnx, device="cpu") as engine:
        measured = measure_overhead(engine, paths)
    assert measured.photographs == 3
    assert len(measured.whole) == len(measured.inference) == 2
    assert all(seconds > 0 for seconds in (*measured.whole, *measured.inference))


def test_the_ratio() -> None:
    assert Overhead(20, (1.0, 1.0), (1.1, 1.1)).ratio == 1.1
