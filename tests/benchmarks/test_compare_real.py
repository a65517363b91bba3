"""``--compare`` on two real runtimes, beside a loop that uses nothing of ours."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import numpy as np

from benchmarks.bench import Job, compare_jobs
from benchmarks.compare import ComparePlan
from engines.inputs import list_photographs
from mimo.shipped import PHOTOGRAPHS
from mimo.spec import Shape
from tests.tiny import Tiny

CLEAR = 1.3
"""A ratio beyond this is the same in every loop, however busy the machine."""


def independent_ratio(tiny: Tiny) -> float:
    """ONNX Runtime's median over OpenVINO's, called in turn through their own interfaces."""
    import onnxruntime
    import openvino

    images = np.random.default_rng(0).random((1, 3, 128, 192), dtype=np.float32)
    session = onnxruntime.InferenceSession(str(tiny.onnx), providers=["CPUExecutionProvider"])
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(str(tiny.onnx), "CPU", hints).create_infer_request()
    calls: tuple[Callable[[], object], ...] = (
        lambda: session.run(None, {"blur": images}),
        lambda: request.infer({0: images}),
    )
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(25):
        for call, taken in zip(calls, seconds, strict=True):
            call()
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return statistics.median(seconds[0][5:]) / statistics.median(seconds[1][5:])


def test_it_finds_what_an_independent_loop_finds(tiny: Tiny) -> None:
    before = independent_ratio(tiny)
    report = compare_jobs(
        Job(tiny.onnx, "onnxruntime", "cpu"),
        Job(tiny.onnx, "openvino", "cpu"),
        Shape(1, 128, 192),
        list_photographs(PHOTOGRAPHS),
        ComparePlan(rounds_min=6, rounds_max=12, samples_per_block=3, max_seconds=20),
    )
    after = independent_ratio(tiny)
    found = report["comparison"]
    if min(before, after) > CLEAR or max(before, after) < 1 / CLEAR:
        assert math.log(found["ratio"]) * math.log(before) > 0
        assert found["verdict"] != ("slower" if before > 1 else "faster")
    # Where the two are close, or the loops disagree, the interval must at least reach one of them.
    low, high = sorted((before, after))
    assert found["low"] <= CLEAR * high
    assert found["high"] >= low / CLEAR
