"""Reports of every kind, made up but like real ones, for tests of what reads them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from benchmarks.compare import RoundsRule, compare
from benchmarks.reports import Report
from benchmarks.schema import parse_report
from benchmarks.timing_statistics import summarise

HOSTILE = "<script>alert(1)</script>\"'&\x1b\u202e.onnx"
"""A file name that a page, an SVG and a terminal must not take at its word."""


def typed(report: dict[str, Any]) -> Report:
    """The report that these JSON values are."""
    return parse_report(json.loads(json.dumps(report)))


def samples(median: float, n: int, *, spread: float = 0.004, outliers: int = 0, seed: int = 0) -> list[float]:
    """``n`` positive samples around ``median``, some of them far out."""
    source = random.Random(seed)
    drawn = [median * math.exp(source.gauss(0, spread)) for _ in range(n)]
    for index in range(outliers):
        drawn[(index + 1) * n // (outliers + 2)] *= 1.25
    return drawn


def states(n: int, *, gpu: bool, throttle: bool = False) -> list[dict[str, Any]]:
    """What Gauges read at four moments between blocks of samples."""
    read = []
    for block in range(4):
        slow = throttle and block == 2
        state: dict[str, Any] = {
            "after_samples": block * n // 3,
            "load_average": round(1.1 + 0.15 * block, 2),
            "cores": 2,
            "cpu_mhz": 2500.0,
            "throttled_seconds": None,
            "stolen_seconds": 812.25,
            "gpu": None,
        }
        if gpu:
            state["gpu"] = {
                "sm_mhz": 1635 if slow else 1980,
                "memory_mhz": 9751,
                "power_watt": 312.5 + 11 * block,
                "temperature_celsius": 51 + 4 * block,
                "temperature_limit_celsius": 93,
                "throttle_reasons": ["sw_power_cap"] if slow else [],
                "memory_used_bytes": 1_843_200_000,
            }
        read.append(state)
    return read


def row(
    median: float = 1.2,
    *,
    file: str = "mimo-unet.onnx",
    engine: str = "openvino cpu fp32",
    n: int = 40,
    mode: str = "sync",
    verified: str = "verified",
    converged: bool = True,
    settled: bool = True,
    outliers: int = 0,
    psnr: float | None = 29.56,
    source: str = "3 pairs, mimo verify",
    enqueued: float | None = None,
    throttle: bool = False,
    shape: str = "1x720x1280",
) -> dict[str, Any]:
    """A measured row; ``enqueued`` (seconds until the call returned) is the latency itself unless given, as on a CPU."""
    runtime, device, compute = engine.split()
    seed = sum(map(ord, file + engine + mode))
    taken = samples(median, n, outliers=outliers, spread=0.004 if converged else 0.06, seed=seed)
    enqueues = mode not in ("e2e", "throughput")
    returned = [one * (enqueued / median if enqueued else 0.99999) for one in taken] if enqueues else []
    events = [one * 0.995 for one in taken] if device == "cuda" and enqueues else []
    return {
        "file": file,
        "sha256": f"{seed:08x}" * 8,
        "checkpoint_sha256": "ab" * 32,
        "engine": engine,
        "runtime": runtime,
        "device": device,
        "compute": compute,
        "threads": 2,
        "mode": mode,
        "in_flight": 4 if mode == "throughput" else 1,
        "shape": shape,
        "verified": verified,
        "reason": None,
        "psnr": None if psnr is None else {"decibel": psnr, "source": source},
        "converged": converged,
        "settled": settled,
        "drift": 0.003,
        "first_call_seconds": median * 1.7,
        "first_after_shape_change_seconds": median * 1.3,
        "summary": asdict(summarise(taken)),
        "enqueued_not_latency": asdict(summarise(returned)) if returned else None,
        "events": asdict(summarise(events)) if events else None,
        "memory": {
            "peak_bytes": 1_843_200_000,
            "baseline_bytes": 412_000_000,
            "kind": "device" if device == "cuda" else "resident",
            "engine_bytes": 27_300_000 if device == "cuda" else None,
        },
        "limits": {
            "macs": 617_000_000_000,
            "bytes": 5_400_000_000,
            "compute_fraction": min(0.97, 0.55 / median) if median > 0.1 else 0.43,
            "copy_fraction": 0.08 / median if median > 0.1 else 0.21,
            "floor_seconds": median * 0.45,
            "ceiling": f"{device} {compute}",
        },
        "samples_seconds": {
            "warm_up": samples(median * 1.1, 3, spread=0.03, seed=seed) + samples(median, 6, seed=seed + 1),
            "synchronised": taken,
            "enqueued_not_latency": returned,
            "events": events,
        },
        "states": states(n, gpu=device == "cuda", throttle=throttle),
    }


def unmeasured(
    reason: str = "no NVIDIA GPU can be used on this machine: use a machine with one.", **names: Any
) -> dict[str, Any]:
    """A row that could not be measured."""
    measured = row(**names)
    kept = ("file", "sha256", "checkpoint_sha256", "engine", "runtime", "device", "mode", "in_flight", "shape")
    return {**dict.fromkeys(measured), **{name: measured[name] for name in kept}, "verified": "-", "reason": reason}


def _head(kind: str, *, gpu: bool = False) -> dict[str, Any]:
    return {
        "schema": 2,
        "kind": kind,
        "made": "2026-11-22T19:00:00+00:00",
        "shape": "1x720x1280",
        "rule": {
            "warm_up_least": 0.5,
            "warm_up_most": 10.0,
            "precision": 0.01,
            "min_samples": 20,
            "max_samples": 100_000,
            "max_seconds": 60.0,
        },
        "context": {
            "cpu": "Intel(R) Xeon(R) Processor @ 2.50GHz",
            "cpu_flags": ["avx2", "avx512f", "avx512_vnni"],
            "cores": 2,
            "threads": {"OMP_NUM_THREADS": "2", "torch": 2},
            "governor": None,
            "memory_bytes": 8_201_461_760,
            "load_average": [0.42, 1.07, 1.29],
            "gpu": "NVIDIA GeForce RTX 3090, driver 570.86" if gpu else None,
            "gpu_details": {
                "name": "NVIDIA GeForce RTX 3090",
                "driver": "570.86",
                "cuda": "12.8",
                "sm_mhz_max": 2100,
                "ecc": None,
            }
            if gpu
            else None,
            "system": "Linux-6.18.44-x86_64-with-glibc2.36",
            "python": "3.11.7",
            "tools": {"torch": "2.13.0+cpu", "onnxruntime": "1.32.0", "openvino": "2026.4.1", "numpy": "2.4.6"},
        },
    }


CEILING = {
    "label": "cpu fp32",
    "device": "cpu",
    "compute": "fp32",
    "flop_per_second": 1.18e11,
    "bytes_per_second": 1.23e10,
    "method": "torch 2.13.0, 2 threads: the best of 10 products of 2048 x 2048, the best of 10 copies of 256 MiB",
    "product_size": 2048,
    "product_seconds": [0.1456, 0.1461],
    "copy_bytes": 268_435_456,
    "copy_seconds": [0.0436, 0.0441],
}


def bench_report(rows: list[dict[str, Any]] | None = None, *, gpu: bool = False) -> dict[str, Any]:
    """CPU rows with one of each oddity; with ``gpu`` rows of a GPU, whose calls return early."""
    if rows is None and gpu:
        rows = [
            row(0.0312, engine="pytorch cuda fp32", file="mimo-unet.safetensors", n=400, verified="reference", enqueued=0.0035),
            row(
                0.0098,
                engine="tensorrt cuda fp16",
                file="mimo-unet.fp16.engine",
                n=420,
                enqueued=0.00021,
                psnr=29.55,
                outliers=3,
            ),
            row(
                0.0091,
                engine="tensorrt cuda fp16",
                file="mimo-unet.fp16.engine",
                n=380,
                enqueued=0.00004,
                mode="cuda-graph",
                psnr=29.55,
            ),
            row(0.0154, engine="onnxruntime cuda fp32", n=400, enqueued=0.0021, throttle=True, converged=False),
            row(0.0187, engine="onnxruntime cuda fp32", n=100, mode="e2e"),
        ]
    elif rows is None:
        rows = [
            row(2.91, engine="pytorch cpu fp32", file="mimo-unet.safetensors", verified="reference", n=20),
            row(1.62, engine="onnxruntime cpu fp32", outliers=2),
            row(1.21, n=80),
            row(0.74, engine="openvino cpu int8", file="mimo-unet.int8.onnx", verified="FAILED", psnr=21.3),
            row(1.02, engine="openvino cpu bf16", verified="UNVERIFIED", converged=False, psnr=None, n=5),
            row(3.8, engine="openvino cpu fp32", file="mimo-unet-plus.onnx", psnr=32.45, source="published", settled=False),
            row(1.33, mode="cold-cache"),
            unmeasured(engine="tensorrt cuda fp16", file="mimo-unet.fp16.engine"),
        ]
    return {**_head("bench", gpu=gpu), "ceilings": [CEILING], "rows": rows}


_PUBLISHED = {
    "DMPHN": (21_697_572, 2748, 31.20, 0.308, 0.588, 24.1),
    "MT-RNN": (2_635_547, 2034, 31.15, 0.031, 0.394, 17.2),
    "MPRNet": (20_127_073, 10_679, 32.66, 0.075, 1.474, 96.0),
    "MIMO-UNet": (6_807_000, 965, 31.73, 0.012, 0.130, 8.1),
    "MIMO-UNet+": (16_108_000, 2219, 32.45, 0.025, 0.282, 18.3),
    "MIMO-UNet++": (16_108_000, 8876, 32.68, 0.049, 1.115, 73.9),
    "NAFNet-32": (17_111_907, 225, 32.87, None, None, 6.6),
}


def table_report() -> dict[str, Any]:
    """The comparison table on a CPU: one network measured both ways, one that could not run."""
    rows = []
    for network, (parameters, gmac, psnr, asynchronous, synchronised, seconds) in _PUBLISHED.items():
        ways = ("one pass of four", "two batches of two") if network == "MIMO-UNet++" else (None,)
        for number, way in enumerate(ways):
            names = {"file": f"{network} (weights filled)", "engine": "pytorch cpu fp32"}
            fits = row(seconds * (1 + 0.2 * number), n=6, psnr=psnr, source="published", verified="reference", **names)  # type: ignore[arg-type]
            if network == "MPRNet":
                fits = unmeasured("it needs 14 GB of memory, and there are 7.", **names)
            rows.append(
                {
                    **fits,
                    "network": network,
                    "way": way,
                    "parameters": parameters,
                    "macs": gmac * 10**9,
                    "published": {
                        "psnr": psnr,
                        "async_seconds": asynchronous,
                        "sync_seconds": synchronised,
                        "gpu": "RTX 3090" if synchronised else None,
                    },
                    "export": {
                        "onnx": "ok",
                        "fp16": "NaN in the output" if network.startswith("NAFNet") else "survives",
                        "tensorrt_rtx": "no NVIDIA GPU here",
                    },
                }
            )
    return {**_head("table"), "ceilings": [CEILING], "rows": rows}


def sweep_report() -> dict[str, Any]:
    """Five sizes and three batches; the largest does not fit."""
    grid = []
    for height, width in ((256, 256), (360, 640), (512, 512), (720, 1280), (1080, 1920)):
        for batch in (1, 2, 4):
            shape = f"{batch}x{height}x{width}"
            seconds = batch**0.93 * height * width * 1.3e-6
            if batch * height * width > 3_000_000:
                nothing = dict.fromkeys(("median_seconds", "median_low", "median_high", "n", "converged", "first_call_seconds"))
                grid.append(
                    {"shape": shape, **nothing, "memory_peak_bytes": None, "reason": "out of memory", "samples_seconds": None}
                )
                continue
            taken = samples(seconds, 20, seed=height * batch)
            summary = summarise(taken)
            grid.append(
                {
                    "shape": shape,
                    "median_seconds": summary.median,
                    "median_low": summary.median_low,
                    "median_high": summary.median_high,
                    "n": summary.n,
                    "converged": batch < 4,
                    "first_call_seconds": seconds * 1.4 + 0.6,
                    "memory_peak_bytes": int(3e8 + batch * height * width * 1400),
                    "reason": None,
                    "samples_seconds": taken,
                }
            )
    advice = [
        "Build one profile from 1x256x256 to 2x720x1280: batches save 5 % per image at most.",
        "Tile pictures over 1280x720 into tiles of 512x512: the latency per megapixel is lowest there.",
    ]
    what = {
        "file": "mimo-unet.onnx",
        "engine": "openvino cpu fp32",
        "sha256": "cd" * 32,
        "compute": "fp32",
        "verified": "UNVERIFIED",
    }
    return {**_head("sweep"), **what, "grid": grid, "advice": advice}


def compare_report(ratio: float = 1.12) -> dict[str, Any]:
    """ONNX Runtime (A) against OpenVINO (B), which is ``ratio`` times as fast."""
    source = random.Random(1)

    def sampler(median: float) -> Callable[[], float]:
        return lambda: median * math.exp(source.gauss(0, 0.01))

    comparison = compare(sampler(1.3), sampler(1.3 / ratio), RoundsRule(rounds_max=20))
    sides = {
        side: {
            "file": "mimo-unet.onnx",
            "sha256": "cd" * 32,
            "checkpoint_sha256": None,
            "engine": engine,
            "runtime": engine.split()[0],
            "device": "cpu",
            "compute": "fp32",
            "mode": "sync",
            "in_flight": 1,
            "shape": "1x720x1280",
            "verified": verified,
        }
        for side, engine, verified in (("a", "onnxruntime cpu fp32", "verified"), ("b", "openvino cpu fp32", "UNVERIFIED"))
    }
    return {**_head("compare"), "rule": asdict(comparison.rule), **sides, "comparison": asdict(comparison)}


def every_kind() -> dict[str, dict[str, Any]]:
    """One of each."""
    return {
        "bench": bench_report(),
        "gpu": bench_report(gpu=True),
        "table": table_report(),
        "sweep": sweep_report(),
        "compare": compare_report(),
    }
