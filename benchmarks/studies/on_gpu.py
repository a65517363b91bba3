"""What only a GPU can show, in a few short commands: ``python -m benchmarks.studies.on_gpu STEP --out DIR``.

    tests   tests/gpu, and what TensorRT-RTX says to this GPU
    speed   MIMO-UNet at 1280x720, batch 1 and 8, in every way PyTorch, ONNX Runtime and TensorRT can run it
    table   mimo bench table --device cuda

Every step writes its results as it goes, so that a machine taken away leaves what was finished.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchmarks.bench import Ceilings, Job, head, jobs_for, measure_engine, measure_row, not_run, standing
from benchmarks.cost import work_of_module
from benchmarks.machine import describe_gpu
from benchmarks.measurement import StoppingRule
from benchmarks.reports import BenchReport, Row
from engines.build import build_engine
from engines.sample_images import list_photographs, photograph_batch
from mimo.artifact import open_artifact
from mimo.bundled import PHOTOGRAPHS, WEIGHTS
from mimo.errors import MimoError
from mimo.files import write_json
from mimo.spec import Shape, ShapeRange

if TYPE_CHECKING:
    from engines.runtimes.base import Device

Step = Literal["tests", "speed", "table"]
SHAPES = (Shape(1, 720, 1280), Shape(8, 720, 1280))
RULE = StoppingRule(max_seconds=15, warm_up_most=5)


@dataclass(frozen=True)
class Way:
    """One way in which PyTorch runs a checkpoint; the first is how the authors ran it."""

    compute: Literal["fp32", "fp16"] = "fp32"
    tf32: bool = False
    channels_last: bool = False
    compiled: bool = False
    cuda_graph: bool = False


WAYS = (
    Way(),
    Way(tf32=True),
    Way("fp16"),
    Way("fp16", channels_last=True),
    Way("fp16", channels_last=True, cuda_graph=True),
    Way("fp16", channels_last=True, compiled=True),
    Way("fp16", channels_last=True, compiled=True, cuda_graph=True),
)


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

    def rows() -> Iterator[Row]:
        for way in ways:
            job = Job(weights, "pytorch", device, "cuda-graph" if way.cuda_graph else "sync")
            opening = partial(
                PyTorchEngine,
                checkpoint,
                device,
                way.compute,
                tf32=way.tf32,
                channels_last=way.channels_last,
                compiled=way.compiled,
                cuda_graph=way.cuda_graph,
            )
            try:
                row = measure_engine(opening, partial(standing, job, checkpoint.sha256), job, images, RULE)
            except RuntimeError as error:  # of torch.compile and of a capture: no class of ours
                row = not_run(job, shape, str(error).split("\n", 1)[0])
            yield row.model_copy(update={"sha256": checkpoint.sha256, "checkpoint_sha256": checkpoint.sha256})
        for path in artifacts:
            for job in jobs_for(path):
                if job.device == device:
                    yield measure_row(job, images, RULE)

    for row in rows():
        rows_so_far = (*report.rows, ceilings.limited(row, work))
        report = report.model_copy(update={"ceilings": ceilings.known, "rows": rows_so_far})
        write_json(out, report.to_json())
        median = f"{row.summary.median * 1e3:.2f} ms" if row.summary else row.reason
        typer.echo(f"{shape} {row.engine}: {median}")
    return report


def build_for_this_gpu(fp16: Path, out: Path) -> str:
    """What TensorRT-RTX says when it is to build for and run on this very GPU; written to ``out`` as text too."""
    from engines.runtimes.tensorrt import TensorRTEngine

    said = [describe_gpu() or "no GPU"]
    shapes = ShapeRange(Shape(1, 64, 64), Shape(1, 720, 1280), Shape(8, 720, 1280))
    for targets in ((), ("current",)):
        try:
            artifact = build_engine(
                open_artifact(fp16), out.with_suffix(".engine"), shapes=shapes, compute_capabilities=targets
            )
            with TensorRTEngine(artifact):
                said.append(f"targets {targets or 'by default'}: builds and loads")
        except MimoError as error:
            said.append(f"targets {targets or 'by default'}: {error}")
    text = "\n".join(said)
    out.write_text(text + "\n", encoding="utf-8")
    return text


def main(
    step: Annotated[Step, typer.Argument()],
    out: Annotated[Path, typer.Option(help="The folder for the results.")],
    artifacts: Annotated[list[Path] | None, typer.Option(help="ONNX files and engines to measure too.")] = None,
) -> None:
    """Run one step."""
    out.mkdir(parents=True, exist_ok=True)
    match step:
        case "tests":
            command = [sys.executable, "-m", "pytest", "-q", "-rs", "tests/gpu"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            (out / "tests.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
            typer.echo(done.stdout[-4000:])
            for path in artifacts or []:
                if path.suffix == ".onnx" and open_artifact(path).precision == "fp16":
                    typer.echo(build_for_this_gpu(path, out / "tensorrt-rtx.txt"))
        case "speed":
            for shape in SHAPES:
                speed(WEIGHTS, artifacts or [], shape, out / f"speed-{shape}.json")
        case "table":
            command = [sys.executable, "-m", "mimo", "table", "--device", "cuda", "--json", str(out / "table.json")]
            raise typer.Exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    typer.run(main)
