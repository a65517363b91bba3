"""``mimo table``: the comparison that this project grew from, measured again, asynchronous and synchronised.

Each network is one row on one runtime. It also goes through export, FP16 and engine building, and the row says how far it
came. Published numbers stand in columns of their own and never enter ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from benchmarks.bench import Ceilings, Job, head, measure_engine, not_run
from benchmarks.cost import Work, work_of_module
from benchmarks.fp16_range import psnr_in_fp16
from benchmarks.measurement import StoppingRule
from benchmarks.networks import Network
from benchmarks.reports import ExportCheck, NetworkRow, Psnr, Published, Row, TableReport, Verified
from engines.runtimes.base import Device, Engine, Images, Runtime
from engines.runtimes.opening import open_engine
from engines.sample_images import photograph_batch
from engines.verification import TOLERANCES, compare_images, tolerance_of
from mimo.artifact import Artifact
from mimo.errors import EngineUnavailable, MimoError
from mimo.files import write_json
from mimo.spec import ModelSpec, Shape, ShapeRange

if TYPE_CHECKING:
    from torch import nn

CHECKED_SIDE = 128
"""Numerics are checked on the middle of a photograph of so many pixels a side; the whole size would double the time."""


def table(
    networks: Sequence[Network],
    shape: Shape,
    photographs: Sequence[Path],
    rule: StoppingRule,
    folder: Path,
    *,
    runtime: Runtime = "pytorch",
    device: Device = "cpu",
    check_export: bool = True,
    json_out: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
    finished: Callable[[NetworkRow], None] = lambda _: None,
) -> TableReport:
    """Measure ``networks`` at ``shape`` on ``runtime``, one after the other; returns the report.

    ``folder`` is for ONNX files and engines. Without ``check_export`` nothing is exported but what the runtime needs. With
    ``json_out`` the report is rewritten after each row, before ``finished`` is told of it. A network that cannot be measured
    is a row with its reason.
    """
    images = photograph_batch(photographs, shape)
    checked = photograph_batch(photographs, Shape(1, CHECKED_SIDE, CHECKED_SIDE))
    report = TableReport(**head(shape), rule=rule)
    ceilings = Ceilings(progress)
    known: dict[str, ExportCheck] = {}
    works: list[Work | None] = []
    for network in networks:
        job = Job(Path(network.file), runtime, device)
        progress(f"{network.title} on {runtime} {device}")
        subject = _Subject(network, network.build(), folder, checked)
        if check_export and network.name not in known:
            progress(f"{network.title}: export, FP16, engine")
            known[network.name] = subject.check_export(shape)
        if reason := network.takes(shape.height, shape.width):
            row = not_run(job, shape, reason)
        else:
            row = measure_engine(partial(subject.open, job, shape), subject.standing, job, images, rule)
        row = row.model_copy(update={"sha256": subject.sha256, "checkpoint_sha256": subject.sha256})
        work = work_of_module(subject.module, _fitting(network, shape))
        works.append(work)
        full = _with_network(ceilings.limited(row, work), subject, work, known.get(network.name))
        report = report.model_copy(update={"ceilings": ceilings.known, "rows": (*report.rows, full)})
        if json_out is not None:
            write_json(json_out, report.to_json())
        finished(full)
    report = report.model_copy(update={"rows": ceilings.settle(report.rows, works), "ceilings": ceilings.known})
    if json_out is not None:
        write_json(json_out, report.to_json())
    return report


@dataclass
class _Subject:
    """One network with what was made from it."""

    network: Network
    module: nn.Module
    folder: Path
    checked: Images
    sha256: str = ""
    _artifact: Artifact | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.sha256 = self.network.weights_sha256(self.module)

    @property
    def spec(self) -> ModelSpec:
        return self.network.spec

    def build(self) -> nn.Module:
        return self.module

    def artifact(self) -> Artifact:
        """The network in FP32 ONNX, exported once."""
        if self._artifact is None:
            from export.to_onnx import export_onnx

            self._artifact = export_onnx(self, self.folder / f"{self.network.file}.onnx")
        return self._artifact

    def converted(self) -> Artifact:
        from export.to_fp16 import convert_to_fp16

        return convert_to_fp16(self.artifact(), self.folder / f"{self.network.file}.fp16.onnx")

    def open(self, job: Job, shape: Shape) -> Engine:
        if job.runtime == "pytorch":
            from engines.runtimes.pytorch import PyTorchEngine

            return PyTorchEngine(self, job.device)
        if job.runtime in ("tensorrt", "tensorrt-rtx"):
            return open_engine(self.engine(job.runtime, shape).path, job.runtime, "cuda", eager=True)
        return open_engine(self.artifact().path, job.runtime, job.device)

    def engine(self, runtime: Literal["tensorrt", "tensorrt-rtx"], shape: Shape) -> Artifact:
        """An FP16 engine tuned for ``shape``, which also takes what is checked."""
        from engines.build import build_engine

        multiple = self.network.size_multiple
        least = Shape(1, *(min(64, side) for side in (shape.height, shape.width))).padded(multiple)
        most = Shape(shape.batch, *(max(CHECKED_SIDE, side) for side in (shape.height, shape.width))).padded(multiple)
        shapes = ShapeRange(least, shape.padded(multiple), most, multiple)
        return build_engine(self.converted(), self.folder / f"{self.network.file}.engine", runtime=runtime, shapes=shapes)

    def standing(self, engine: Engine) -> tuple[Verified, Psnr | None]:
        """Against the module itself, on a real photograph."""
        import torch

        if engine.runtime == "pytorch":
            return "reference", None
        with torch.inference_mode():
            expected = self.module(torch.from_numpy(self.checked)).numpy()
        tolerance = tolerance_of(self.artifact(), engine.compute)
        return "verified" if compare_images(expected, engine(self.checked), tolerance) else "FAILED", None

    def check_export(self, shape: Shape) -> ExportCheck:
        trained = "" if self.network.weights else ", untrained weights"
        decibel = psnr_in_fp16(self.module, self.checked)
        if decibel is None:
            fp16 = f"not finite{trained}"
        else:
            verdict = "survives" if decibel >= TOLERANCES["fp16"].min_psnr else "too coarse"
            fp16 = f"{verdict} ({decibel:.0f} dB{trained})"
        onnx, engine = "ok", "no ONNX file"
        try:
            self.artifact()
        except MimoError as error:
            onnx = str(error)
        else:
            try:
                engine = f"ok ({self.engine('tensorrt-rtx', shape).receipt})"
            except EngineUnavailable:
                engine = "not installed"
            except MimoError as error:
                engine = str(error)
        return ExportCheck(onnx=onnx, fp16=fp16, tensorrt_rtx=engine)


def _with_network(row: Row, subject: _Subject, work: Work, checked: ExportCheck | None) -> NetworkRow:
    network = subject.network
    not_tried = ExportCheck(onnx="not tried", fp16="not tried", tensorrt_rtx="not tried")
    return NetworkRow(
        **dict(row),
        network=network.title,
        way=network.way,
        parameters=sum(value.numel() for value in subject.module.parameters()),
        macs=work.macs,
        published=Published(**asdict(network.published)) if network.published else None,
        export=checked or not_tried,
    )


def _fitting(network: Network, shape: Shape) -> Shape:
    """``shape``, or for a network that does not take it the square of about as many pixels, with about as much work."""
    if network.takes(shape.height, shape.width) is None:
        return shape
    side = int(np.sqrt(shape.height * shape.width))
    return Shape(shape.batch, side, side).padded(network.size_multiple)
