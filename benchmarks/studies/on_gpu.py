"""What only a GPU can show, in commands of ten minutes at most: ``python -m benchmarks.studies.on_gpu STEP --out DIR``.

    step         minutes   what it leaves in DIR
    check           4      versions.txt, cuda.txt (allocation, copies, events through cuda-bindings), tests.txt (tests/gpu)
    speed           9      speed-SHAPE.json: MIMO-UNet at 1280x720, batch 1 and then 8, in every way; profile.txt: by layer
    photographs     4      photographs.json: 24 megapixels through each engine, the tiles and the seconds
    train         1-9      run/: as long as --minutes says; given again with the same --out it continues
    table           8      table.json: mimo table on CUDA, 5 seconds a row

In this order: each needs the one before to be right. Everything is written as it comes, so that a machine taken away leaves
what was finished. ``--device cpu --size 32x48`` is the dry run, which is a test here. No GPU has run it yet.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

from benchmarks.bench import FP32_AND_DEFAULT, Ceilings, Job, head, jobs_for, measure_engine, measure_row, standing, work_of
from benchmarks.cost import Work, work_of_module
from benchmarks.measurement import StoppingRule
from benchmarks.reports import BenchReport, Row
from engines.runtimes.cuda import open_cuda
from engines.runtimes.opening import open_engine
from engines.sample_images import list_photographs, photograph_batch
from engines.tiles import restore_tiled, tiling_for
from mimo.artifact import open_artifact
from mimo.bundled import PHOTOGRAPHS, WEIGHTS
from mimo.errors import MimoError
from mimo.files import write_json, write_text
from mimo.spec import Shape

if TYPE_CHECKING:
    from engines.runtimes.base import Device, Images
    from engines.runtimes.pytorch import Compiling

Step = Literal["check", "speed", "photographs", "train", "table"]
BATCHES = (1, 8)
LARGE = (4000, 6000)
MOST_SECONDS = 560.0
"""After so long a command that a step runs is stopped: a lease's limit would take the machine with it."""
GRACE_SECONDS = 15.0
"""For it to save what it has and end by itself."""
RULE = StoppingRule(max_seconds=15, warm_up_most=5)


@dataclass(frozen=True)
class Way:
    """One way in which PyTorch runs a checkpoint; the first is how the authors ran it."""

    compute: Literal["fp32", "fp16"] = "fp32"
    tf32: bool = False
    lean: bool = False
    channels_last: bool = False
    compiled: Compiling | None = None
    autotuned: bool = False
    cuda_graph: bool = False


_FAST = Way("fp16", lean=True, channels_last=True)

WAYS = (
    Way(),
    Way(tf32=True),
    Way("fp16"),
    Way("fp16", channels_last=True),
    _FAST,
    replace(_FAST, cuda_graph=True),
    replace(_FAST, autotuned=True, cuda_graph=True),
    replace(_FAST, compiled="default", cuda_graph=True),
    replace(_FAST, compiled="max-autotune-no-cudagraphs", cuda_graph=True),
)

ONNX_WAYS: Mapping[str, Mapping[str, str]] = {
    "": {},
    "NHWC": {"prefer_nhwc": "1"},
    "NHWC, fused bias": {"prefer_nhwc": "1", "fuse_conv_bias": "1"},
    "NHWC, fused bias, exhaustive search, CUDA graph": {
        "prefer_nhwc": "1",
        "fuse_conv_bias": "1",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "enable_cuda_graph": "1",
    },
}
"""Options of ONNX Runtime's CUDA provider, by their name in a row."""


def speed(
    weights: Path, artifacts: list[Path], shape: Shape, out: Path, *, device: Device = "cuda", ways: tuple[Way, ...] = WAYS
) -> BenchReport:
    """Measure every way at ``shape`` and write the bench report to ``out`` after each; what fails is a row that says why."""
    from engines.runtimes.pytorch import PyTorchEngine
    from mimo.networks.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(weights)
    images = photograph_batch(list_photographs(PHOTOGRAPHS), shape)
    work = work_of_module(checkpoint.build(), shape)
    report = BenchReport(**head(shape), rule=RULE)
    ceilings = Ceilings()

    def rows() -> Iterator[tuple[Row, Work | None]]:
        for way in ways:
            job = Job(weights, "pytorch", device, "cuda-graph" if way.cuda_graph else "sync")
            opening = partial(PyTorchEngine, checkpoint, device, **asdict(way))
            row = measure_engine(opening, partial(standing, job, checkpoint.sha256), job, images, RULE)
            yield row.model_copy(update={"sha256": checkpoint.sha256, "checkpoint_sha256": checkpoint.sha256}), work
        for path in artifacts:
            for job in jobs_for(path):
                if job.device != device:
                    continue
                on_cuda = (job.runtime, device) == ("onnxruntime", "cuda")
                of_graph = work_of(job, shape)
                for row in onnx_rows(job, images) if on_cuda else [measure_row(job, images, RULE)]:
                    yield row, of_graph

    for row, done in rows():
        rows_so_far = (*report.rows, ceilings.limited(row, done))
        report = report.model_copy(update={"ceilings": ceilings.known, "rows": rows_so_far})
        write_json(out, report.to_json())
        median = f"{row.summary.median * 1e3:.2f} ms" if row.summary else row.reason
        typer.echo(f"{shape} {row.engine}: {median}")
    return report


def onnx_rows(job: Job, images: Images) -> Iterator[Row]:
    """The ONNX file of ``job`` with each of :data:`ONNX_WAYS`."""
    from engines.runtimes.onnxruntime import OnnxRuntimeEngine

    artifact = open_artifact(job.path)
    for way, options in ONNX_WAYS.items():
        opening = partial(OnnxRuntimeEngine, artifact, "cuda", cuda_options=options, way=way)
        row = measure_engine(opening, partial(standing, job, artifact.sha256), job, images, RULE)
        yield row.model_copy(update={"sha256": artifact.sha256, "checkpoint_sha256": artifact.checkpoint_sha256})


def profile(weights: Path, shape: Shape, out: Path, device: Device) -> None:
    """Time by operator and shape of one forward pass in the way that runs by default on CUDA, without its graph, to ``out``."""
    import torch

    from engines.runtimes.pytorch import PyTorchEngine
    from mimo.networks.checkpoint import load_checkpoint

    way = _FAST if device == "cuda" else Way(lean=True)
    images = photograph_batch(list_photographs(PHOTOGRAPHS), shape)
    with PyTorchEngine(load_checkpoint(weights), device, **asdict(way)) as engine:
        launch = engine.launcher(images)
        launch()
        engine.synchronize()
        with torch.profiler.profile(record_shapes=True) as taken:
            launch()
            engine.synchronize()
        order = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
        text = taken.key_averages(group_by_input_shape=True).table(sort_by=order, row_limit=60)
    write_text(out, f"{engine.name} at {shape}\n{text}\n")


def photographs(weights: Path, artifacts: list[Path], size: tuple[int, int], out: Path, device: Device) -> list[dict[str, Any]]:
    """One photograph of ``size`` through each engine, twice, in the tiles that it would be given; written after each."""
    height, width = size
    image = photograph_batch(list_photographs(PHOTOGRAPHS), Shape(1, height, width))[0]
    results: list[dict[str, Any]] = []
    openings = [(weights, precision) for precision in FP32_AND_DEFAULT] + [(path, "auto") for path in artifacts]
    for path, precision in openings:
        found: dict[str, Any] = {"file": path.name, "size": f"{height}x{width}"}
        try:
            with open_engine(path, device=device, precision=precision) as engine:
                tiling = tiling_for(engine, height, width)
                found |= {"engine": engine.name, "tiles": len(tiling.tiles), "recomputation": tiling.recomputation}
                found["seconds"] = [_seconds(partial(restore_tiled, engine, image)) for _ in range(2)]
        except MimoError as error:
            found["reason"] = str(error)
        results.append(found)
        write_json(out, {"photographs": results})
        typer.echo(str(found))
    return results


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def smoke(out: Path) -> str:
    """Allocate, fill, copy and time through CUDA's own bindings, one line each, to ``out`` as they come; returns them."""
    device_lines = []
    with out.open("w", encoding="utf-8") as file:

        def say(line: str) -> None:
            device_lines.append(line)
            file.write(line + "\n")
            file.flush()

        try:
            cuda = open_cuda()
            say(f"opened: {type(cuda).__name__}, {cuda.free_bytes() / 1e9:.1f} GB free")
            sent = np.arange(1 << 20, dtype=np.uint8)
            back = np.zeros_like(sent)
            stream, pointer = cuda.create_stream(), cuda.allocate(sent.nbytes)
            cuda.upload(pointer, sent, stream)
            cuda.download(back, pointer, stream)
            cuda.synchronize(stream)
            say(f"copied there and back: {'equal' if np.array_equal(sent, back) else 'DIFFERENT'}")
            seconds = cuda.time(stream, lambda: cuda.fill(pointer, 0xFF, sent.nbytes, stream))
            cuda.download(back, pointer, stream)
            cuda.synchronize(stream)
            say(f"filled in {seconds * 1e6:.1f} us by events: {'right' if (back == 0xFF).all() else 'WRONG'}")
            cuda.free(pointer)
            cuda.destroy_stream(stream)
            say("given back")
        except MimoError as error:
            say(str(error))
    return "\n".join(device_lines)


def run_streaming(command: list[str], out: Path, most_seconds: float = MOST_SECONDS) -> int:
    """Run ``command``, its output on the screen and, line by line as it comes, in ``out``; the exit code.

    After ``most_seconds`` it is asked to stop, and :data:`GRACE_SECONDS` later it is ended.
    """
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with (
        out.open("w", encoding="utf-8") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as process,
    ):
        # Not SIGINT, which what is started in the background ignores.
        stops = [Timer(most_seconds, process.terminate), Timer(most_seconds + GRACE_SECONDS, process.kill)]
        for stop in stops:
            stop.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                file.write(line)
                file.flush()
                typer.echo(line, nl=False)
            return process.wait()
        finally:
            for stop in stops:
                stop.cancel()


def check_commands(out: Path) -> list[tuple[list[str], Path]]:
    """What ``check`` runs: versions first, then the tests, which other versions' warnings must not fail."""
    tests = [sys.executable, "-m", "pytest", "-q", "-rs", "-x", "-o", "filterwarnings=default", "-p", "no:cacheprovider"]
    return [
        ([sys.executable, "-m", "pip", "list", "--format=freeze"], out / "versions.txt"),
        ([sys.executable, "-m", "mimo", "doctor"], out / "doctor.txt"),
        ([*tests, "tests/gpu"], out / "tests.txt"),
    ]


def train_command(out: Path, pictures: Path, minutes: float, device: Device, more: list[str]) -> list[str]:
    """Begin the run in ``out``/run, or go on with the one that is there."""
    run = out / "run"
    command = [sys.executable, "-m", "mimo", "train", "--device", device, "--max-minutes", str(minutes)]
    if (run / "last.pt").is_file():
        return [*command, "--resume", str(run)]
    recipe = ["--model", "mimo-unet", "--synthesize-from", str(pictures), "--batch-size", "16", "--amp", "bf16"]
    return [*command, "--out", str(run), *recipe, *more]


def table_command(out: Path, device: Device, more: list[str]) -> list[str]:
    """The table of networks, five seconds a row, without the exports, which need no GPU."""
    command = [sys.executable, "-m", "mimo", "table", "--device", device, "--no-check-export", "--max-seconds", "5"]
    return [*command, *more, "--json", str(out / "table.json")]


def main(
    step: Annotated[Step, typer.Argument()],
    *,
    out: Annotated[Path, typer.Option(help="The folder for the results.")],
    artifacts: Annotated[list[Path] | None, typer.Option(help="ONNX files and engines to measure too.")] = None,
    weights: Annotated[Path, typer.Option(help="The checkpoint.")] = WEIGHTS,
    device: Annotated[Literal["cuda", "cpu"], typer.Option(help="cpu is the dry run.")] = "cuda",
    size: Annotated[str, typer.Option(help="Height x width of speed.")] = "720x1280",
    pictures: Annotated[Path, typer.Option(help="Sharp photographs, for train.")] = PHOTOGRAPHS / "sharp",
    minutes: Annotated[float, typer.Option(help="Of training.")] = 8.0,
    more: Annotated[list[str] | None, typer.Option(help="Further arguments of mimo train or mimo table.")] = None,
) -> None:
    """Run one step."""
    out.mkdir(parents=True, exist_ok=True)
    height, width = (int(side) for side in size.split("x"))
    match step:
        case "check":
            typer.echo(smoke(out / "cuda.txt"))
            codes = [run_streaming(command, path) for command, path in check_commands(out)]
            raise typer.Exit(max(codes))
        case "speed":
            for batch in BATCHES:
                shape = Shape(batch, height, width)
                speed(weights, artifacts or [], shape, out / f"speed-{shape}.json", device=device, ways=WAYS)
            profile(weights, Shape(1, height, width), out / "profile.txt", device)
        case "photographs":
            large = LARGE if device == "cuda" else (2 * height, 2 * width)
            photographs(weights, artifacts or [], large, out / "photographs.json", device)
        case "train":
            command = train_command(out, pictures, minutes, device, more or [])
            raise typer.Exit(run_streaming(command, out / "train.txt"))
        case "table":
            raise typer.Exit(run_streaming(table_command(out, device, more or []), out / "table.txt"))


if __name__ == "__main__":
    typer.run(main)
