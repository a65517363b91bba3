"""Is this artifact the network it came from? Every artifact against PyTorch FP32, on real photographs.

Runs through Polygraphy's Comparator, with a runner over the :class:`~engines.runtimes.base.Engine` protocol. What cannot be
run here is said to be not run; it never counts as passed.
"""

from __future__ import annotations

import math
import random
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from polygraphy.backend.base import BaseRunner
from polygraphy.common import TensorMetadata
from polygraphy.comparator import Comparator, IterationResult
from polygraphy.logger import G_LOGGER

from engines.build import precision_of, read_network
from engines.runtimes.base import Engine, Images, restore
from engines.runtimes.table import TensorRT
from engines.sample_images import photograph_batch
from engines.verification_report import entry_of
from mimo.artifact import INPUT, OUTPUT, Artifact, open_artifact, verification_of
from mimo.errors import ArtifactError, BuildError, EngineUnavailable
from mimo.files import sha256_of, write_json
from mimo.formats import format_info
from mimo.images import read_rgb
from mimo.metrics import psnr
from mimo.spec import SMALLEST_SIDE, Shape, ShapeRange

Status = Literal["passed", "failed", "not run"]

PYTORCH = "PyTorch FP32"
"""The reference of everything that was made from a checkpoint."""


@dataclass(frozen=True)
class Tolerance:
    """How far from PyTorch FP32 an engine may be. Images are in [0,1]; PSNR in dB with data range 1."""

    max_error: float
    min_psnr: float
    max_psnr_loss: float
    """Against the truth, where there is one: dB that the mean PSNR may fall below PyTorch's."""


TOLERANCES: Mapping[str, Tolerance] = {
    # Both sides compute in float32 and sum in another order: measured at worst 1.4e-5 and 114.9 dB for the bundled
    # network (engines/README.md); a 16-bit picture's step is 1.5e-5. 105 dB leaves three times that noise for deeper
    # networks, and one convolution of a hundred scaled by 1.02 (102.1 dB) does not pass.
    "fp32": Tolerance(max_error=1e-4, min_psnr=105.0, max_psnr_loss=0.001),
    # 11 bits of mantissa: measured 1e-3 and 75 dB with float16 input and output. 60 dB is below the noise of rounding to
    # 8 bits (58.9 dB), so no saved picture tells the difference; single pixels stay within 3 steps.
    "fp16": Tolerance(max_error=1e-2, min_psnr=60.0, max_psnr_loss=0.01),
    # 11 bits of mantissa in the products, sums in float32: no further off than float16.
    "tf32": Tolerance(max_error=1e-2, min_psnr=60.0, max_psnr_loss=0.01),
    # 8 bits of mantissa: measured 8e-3 and 57 dB in PyTorch. At 50 dB the error takes 0.05 dB off a picture of 31 dB.
    "bf16": Tolerance(max_error=5e-2, min_psnr=50.0, max_psnr_loss=0.06),
    # 8 bits without an exponent. The gate of the export demands 55 dB on the photographs it judges; others, smaller and flatter
    # ones, may cost 5 dB more, and single pixels lie where a range was cut off: 25 of 255 grey levels.
    "int8": Tolerance(max_error=1e-1, min_psnr=50.0, max_psnr_loss=0.06),
}
"""By the coarsest precision on the way: that of the graph or that the runtime computes in."""


@dataclass(frozen=True)
class Case:
    """One shape, candidate against reference."""

    shape: str
    max_error: float
    mean_error: float
    psnr: float
    passed: bool

    def __bool__(self) -> bool:
        return self.passed


@dataclass(frozen=True)
class Quality:
    """Against the truth: mean PSNR in dB over ``pictures``, whole and unresized."""

    pictures: int
    blurry: float
    reference: float
    candidate: float
    passed: bool


@dataclass(frozen=True)
class Verification:
    """What was found out about one artifact on one engine."""

    artifact: Artifact
    against_sha256: str
    engine: str
    """Name of the engine that ran, or of the runtime that could not."""
    tolerance: Tolerance
    cases: tuple[Case, ...]
    quality: Quality | None = None
    structure: str | None = None
    """For an engine that could not run here: what was checked instead; for one that ran, what could not be."""
    not_run: str | None = None
    """Why the numerics were not run."""
    failure: str | None = None
    """Why it failed, when that is not in the cases."""
    reference: str = PYTORCH
    """What it was compared with."""
    photographs: Mapping[str, str] = field(default_factory=dict)
    """Name and SHA-256 of each picture that was restored."""
    seed: int | None = None
    """Of the shapes that were drawn; None where no numerics ran."""

    @property
    def status(self) -> Status:
        """``passed`` only when numerics ran and all of them passed."""
        if self.failure or not all(self.cases) or (self.quality and not self.quality.passed):
            return "failed"
        if self.not_run or not self.cases:
            return "not run"
        return "passed"

    def to_json(self) -> dict[str, Any]:
        """An entry of the report, see :mod:`engines.verification_report`."""
        return entry_of({
            "file": self.artifact.path.name,
            "sha256": self.artifact.sha256,
            "against_sha256": self.against_sha256,
            "reference": self.reference,
            "engine": self.engine,
            "status": self.status,
            "numerics": f"not run ({self.not_run})" if self.not_run else "run",
            "structure": self.structure,
            "failure": self.failure,
            "tolerance": asdict(self.tolerance),
            "cases": tuple(asdict(case) for case in self.cases),
            "quality": asdict(self.quality) if self.quality else None,
            "lineage_sha256": self.artifact.lineage_sha256,
            "photographs": dict(self.photographs),
            "seed": self.seed,
        })  # fmt: skip


def tolerance_of(artifact: Artifact, compute: str) -> Tolerance:
    """The tolerance for ``artifact`` computed in ``compute``: that of the coarser of the two.

    The precision of a graph is read from its bytes when it is opened. That of an engine is its graph's, where that lies beside
    it unchanged, else what its receipt counted; one without a receipt is held to float32.
    """
    precision = artifact.precision
    if not format_info(artifact.format).is_graph:
        source = _graph_of(artifact)
        precision = source.precision if source else precision_of(artifact.receipt) if artifact.receipt else "fp32"
    precision = "fp16" if precision == "mixed" else precision
    return max(TOLERANCES[precision], TOLERANCES["fp16" if compute == "mixed" else compute], key=lambda t: t.max_error)


def _graph_of(engine: Artifact) -> Artifact | None:
    """The graph that ``engine`` was built from, where it lies beside it unchanged."""
    graph = None if engine.parent is None else engine.path.with_name(engine.parent)
    source = open_artifact(graph) if graph is not None and graph.is_file() else None
    return source if source is not None and source.sha256 == engine.parent_sha256 else None


DRAWN = 12
"""Shapes drawn anew for each verification, small ones."""


def cases_for(artifact: Artifact, optimum: Shape, seed: int) -> list[Shape]:
    """The shapes to verify at: the smallest, the optimum, an odd multiple of 4 in each direction, and a batch of 2.

    An engine gives the first two from its profile; those of the others that it excludes are left out. Then :data:`DRAWN`
    shapes that ``seed`` decides, half of them low and half narrow, no width and no height twice: a graph that is wrong at
    one size alone cannot know which are tried.
    """
    multiple, shapes = artifact.spec.size_multiple, artifact.shapes
    smallest = shapes.min if shapes else Shape(1, SMALLEST_SIDE, SMALLEST_SIDE).padded(multiple)
    wanted = [
        smallest,
        shapes.opt if shapes else optimum.padded(multiple),
        Shape(1, 45 * multiple, 81 * multiple),
        Shape(2, 128, 192).padded(multiple),
    ]
    wanted += _drawn(multiple, shapes, seed)
    return [shape for shape in dict.fromkeys(wanted) if shapes is None or shape in shapes]


def _drawn(multiple: int, shapes: ShapeRange | None, seed: int) -> list[Shape]:
    generator = random.Random(seed)
    least = Shape(1, SMALLEST_SIDE, SMALLEST_SIDE) if shapes is None else shapes.min
    most = Shape(3, 512, 512) if shapes is None else shapes.max
    batches = range(least.batch, min(most.batch, least.batch + 2) + 1)

    def sides(low: int, high: int, reach: int) -> range:
        first = -(-low // multiple) * multiple
        return range(first, max(first, min(high, first + reach)) + 1, multiple)

    drawn = []
    for low_and_wide in (True, False):
        heights = sides(least.height, most.height, 48 if low_and_wide else 496)
        widths = sides(least.width, most.width, 496 if low_and_wide else 48)
        long = widths if low_and_wide else heights
        for side in generator.sample(long, min(DRAWN // 2, len(long))):
            other = generator.choice(heights if low_and_wide else widths)
            height, width = (other, side) if low_and_wide else (side, other)
            drawn.append(Shape(generator.choice(batches), height, width))
    return drawn


class Reference:
    """PyTorch FP32, or an adopted graph itself: run once per input however many artifacts are compared with it."""

    def __init__(self, engine: Engine, name: str = PYTORCH) -> None:
        self._engine = engine
        self._known: dict[bytes, Images] = {}
        self.name = name
        """What a report says it was compared with."""

    def __call__(self, images: Images) -> Images:
        key = repr(images.shape).encode() + images.tobytes()
        if key not in self._known:
            self._known[key] = restore(self._engine, images)
        return self._known[key]


def verify_numerics(
    artifact: Artifact,
    engine: Engine,
    reference: Reference,
    against_sha256: str,
    photographs: Sequence[Path],
    *,
    optimum: Shape,
    pairs: Sequence[tuple[Path, Path]] = (),
    seed: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Compare ``engine``, which runs ``artifact``, with ``reference`` at :func:`cases_for`'s shapes on ``photographs``.

    ``pairs`` of a blurry and a sharp picture: the change of PSNR against the truth as well. ``seed`` repeats the shapes of an
    earlier verification; without it they are drawn anew. The engine fills its output
    with NaN before each run, and NaN never passes.
    """
    tolerance = tolerance_of(artifact, engine.compute)
    cases: list[Case] = []
    seed = secrets.randbelow(2**32) if seed is None else seed
    shapes = cases_for(artifact, optimum, seed)

    def candidate(images: Images) -> Images:
        progress(f"{artifact.path.name} on {engine.name}: {'x'.join(map(str, images.shape))}")
        return engine(images)

    def compare(expected: IterationResult, found: IterationResult) -> OrderedDict[str, Case]:
        case = compare_images(expected[OUTPUT], found[OUTPUT], tolerance)
        cases.append(case)
        return OrderedDict({OUTPUT: case})

    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        inputs = [{INPUT: photograph_batch(photographs, shape, first=number)} for number, shape in enumerate(shapes)]
        results = Comparator.run([_Runner(reference, "reference"), _Runner(candidate, "candidate")], data_loader=inputs)
        Comparator.compare_accuracy(results, compare_func=compare)
    failure = None if len(cases) == len(shapes) else f"Polygraphy compared {len(cases)} of {len(shapes)} shapes"
    if pairs:
        progress(f"{artifact.path.name} on {engine.name}: {len(pairs)} pairs")
    quality = _quality(engine, reference, pairs, tolerance) if pairs else None
    used = dict.fromkeys([*photographs, *(path for pair in pairs for path in pair)])
    hashes = {path.name if path.parent.name != "sharp" else f"sharp/{path.name}": sha256_of(path) for path in used}
    return Verification(
        artifact,
        against_sha256,
        engine.name,
        tolerance,
        tuple(cases),
        quality,
        structure=None
        if format_info(artifact.format).is_graph or _graph_of(artifact)
        else "its graph is not beside it: the tolerance is that of its receipt",
        failure=failure,
        photographs=hashes,
        seed=seed,
    )


def compare_images(expected: Images, found: Images, tolerance: Tolerance) -> Case:
    """Judge ``found`` by ``expected``, both (N,3,H,W). What is not finite, or of another shape, never passes."""
    shape = "x".join(str(found.shape[axis]) for axis in (0, 2, 3))
    if expected.shape != found.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return Case(shape, math.nan, math.nan, math.nan, passed=False)
    difference = np.abs(found.astype(np.float64) - expected)
    quality = -10 * math.log10(error) if (error := float(np.mean(difference**2))) > 0 else math.inf
    worst = float(difference.max())
    passed = worst <= tolerance.max_error and quality >= tolerance.min_psnr
    return Case(shape, worst, float(difference.mean()), quality, passed)


def verify_structure(artifact: Artifact, against_sha256: str, reason: str) -> Verification:
    """What can be verified of a TensorRT engine without a GPU; ``reason`` says why its numerics are not run.

    The plan's bytes are those of its sidecar (``artifact`` was opened), the typed graph it came from is unchanged, and
    TensorRT reads the same precisions out of that graph again as the receipt records.
    """
    assumed = tolerance_of(artifact, artifact.precision)

    def result(structure: str | None, failure: str | None) -> Verification:
        return Verification(
            artifact,
            against_sha256,
            f"{artifact.format} cuda",
            assumed,
            (),
            structure=structure,
            not_run=reason,
            failure=failure,
        )

    if artifact.parent is None or artifact.receipt is None or format_info(artifact.format).is_graph:
        return result(None, "its sidecar names neither the graph it came from nor a receipt")
    try:
        parent = open_artifact(artifact.path.with_name(artifact.parent))
        if parent.sha256 != artifact.parent_sha256:
            return result(None, f"{artifact.parent} is not the graph it was built from: it has changed since")
        receipt = read_network(parent, cast("TensorRT", artifact.format))
    except (ArtifactError, BuildError) as error:
        return result(None, str(error))
    except EngineUnavailable as error:
        return result(f"plan and {artifact.parent} are unchanged; the receipt was not checked: {error}", None)
    if receipt != artifact.receipt or precision_of(receipt) != artifact.precision:
        return result(None, f"the receipt says {artifact.receipt}, the graph gives {receipt}")
    return result(f"plan and {artifact.parent} are unchanged; {receipt}", None)


def write_verifications(verifications: Sequence[Verification]) -> list[Path]:
    """Write ``<file>.verification.json`` beside each artifact, with all of its verifications; return the paths."""
    paths = []
    for path in dict.fromkeys(verification.artifact.path for verification in verifications):
        report = verification_of(path)
        write_json(report, [one.to_json() for one in verifications if one.artifact.path == path])
        paths.append(report)
    return paths


class _Runner(BaseRunner):  # type: ignore[misc]
    """Polygraphy's view of an engine. Its only input is ``blur``, its only output ``sharp``."""

    def __init__(self, run: Callable[[Images], Images], name: str) -> None:
        super().__init__(name=name)
        self._run = run

    def get_input_metadata_impl(self) -> Any:
        return TensorMetadata().add(INPUT, dtype=np.float32, shape=(-1, 3, -1, -1))

    def infer_impl(self, feed_dict: Mapping[str, Images]) -> OrderedDict[str, Images]:
        self.inference_time = 0.0  # Polygraphy wants one; timing is the business of mimo bench
        return OrderedDict({OUTPUT: self._run(feed_dict[INPUT])})


def _quality(engine: Engine, reference: Reference, pairs: Sequence[tuple[Path, Path]], tolerance: Tolerance) -> Quality:
    scores = []
    for path, truth in pairs:
        blurry, sharp = read_rgb(path)[None], read_rgb(truth)[None]
        scores.append([psnr(picture, sharp) for picture in (blurry, reference(blurry), restore(engine, blurry))])
    blurred, expected, found = (float(value) for value in np.mean(scores, axis=0))
    return Quality(len(scores), blurred, expected, found, passed=found >= expected - tolerance.max_psnr_loss)
