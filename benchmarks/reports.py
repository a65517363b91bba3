"""The reports of bench, compare, sweep and table: one definition from the measurement to the page. Schema 2.

    BenchReport, TableReport    rows, one for each file on each runtime in each mode; a table's rows are networks
    SweepReport                 a grid of sizes and batches of one artifact
    CompareReport               two sides and what their interleaved rounds say

All values are frozen. Objects are closed, but for what the machine says of itself (``context`` and ``states``): a field that
is missing and one that is not known are both errors, and so are NaN and infinity. A field that was added later has a
default, so that the files written before it are still read. To add a statistic, give the value it belongs to one field, and
the table that shows it one column (``benchmarks.csv_report`` and ``benchmarks.pages.tables`` list theirs).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from benchmarks.compare import Comparison, RoundsRule
from benchmarks.measurement import Mode, StoppingRule
from benchmarks.memory import Memory
from benchmarks.roofline import Ceiling, Limits
from benchmarks.timing_statistics import Summary
from benchmarks.units import Count, Seconds
from mimo.errors import ShapeError
from mimo.json_text import Name
from mimo.spec import Shape

SCHEMA: Literal[2] = 2

Verified = Literal["verified", "as adopted", "FAILED", "UNVERIFIED", "reference", "-"]
"""What ``mimo verify`` said of the artifact; ``reference``: FP32 in PyTorch; ``-``: it did not run."""


def _shape(text: str) -> str:
    try:
        fits = str(Shape.parse(text)) == text
    except ShapeError:
        fits = False
    if not fits:
        raise PydanticCustomError("shape", "expected a shape such as 1x720x1280")
    return text


ShapeText = Annotated[str, AfterValidator(_shape), WithJsonSchema({"type": "string", "pattern": r"^\d+x\d+x\d+$"})]
"""Batch, height and width as ``1x720x1280``."""


def _misfit(path: str, expected: str) -> PydanticCustomError:
    """That the value at ``path``, below the object being checked, is not what the others ask for."""
    return PydanticCustomError("misfit", "expected {expected}", {"path": path, "expected": expected})


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Open(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, JsonValue]


class Machine(_Open):
    """Where it was measured (``benchmarks.machine.describe_machine``); what else the machine says is kept as it is."""

    cpu: str = "an unknown processor"
    cpu_flags: list[str] = []
    cores: Count | None = None
    gpu: str | None = None


class State(_Open):
    """What the machine did after so many samples; the gauges' other readings are kept as they are."""

    after_samples: Count


class Psnr(_Value):
    """PSNR in dB against the truth, and who found it."""

    decibel: float
    source: str


class Samples(_Value):
    """All samples, in the order they were taken; nothing is left out."""

    warm_up: tuple[Seconds, ...]
    synchronised: tuple[Seconds, ...]
    """The latencies; divided by the restorations in flight for ``throughput``."""
    enqueued_not_latency: tuple[Seconds, ...]
    events: tuple[Seconds, ...]
    """Between two device events, from runs of their own."""


class Side(_Value):
    """What ran: a file on a runtime and device, and what a sample of it is."""

    file: Name
    sha256: str | None
    checkpoint_sha256: str | None
    engine: Name
    runtime: str
    device: str
    compute: str | None
    """The precision that the arithmetic ran in."""
    threads: Count | None = None
    """On the CPU, as the runtime says; None on a GPU, for what did not run, and in older reports."""
    mode: Mode
    in_flight: Count
    shape: ShapeText
    verified: Verified
    # Older comparisons carry these four, always empty.
    reason: Name | None = None
    psnr: Psnr | None = None
    memory: Memory | None = None
    limits: Limits | None = None

    def __str__(self) -> str:
        return f"{self.file} on {self.engine}" + ("" if self.mode == "sync" else f", {self.mode}")


class ServerTimes(_Value):
    """What a server says of the requests it answered while the samples were taken: means for each of them, in seconds."""

    requests: Count
    """Of every client; more than there are samples when others asked too."""
    queue: Seconds
    input: Seconds
    inference: Seconds
    output: Seconds

    @property
    def compute(self) -> float:
        """All but the queue."""
        return self.input + self.inference + self.output


class Row(Side):
    """One measured row; or, with a ``reason``, why it could not be measured."""

    reason: Name | None
    psnr: Psnr | None
    memory: Memory | None
    limits: Limits | None
    converged: bool | None
    """Whether the median is as well known as was asked for."""
    settled: bool | None
    """Whether the warm-up had come to rest."""
    drift: float | None
    first_call_seconds: Seconds | None
    first_after_shape_change_seconds: Seconds | None
    summary: Summary | None
    enqueued_not_latency: Summary | None
    events: Summary | None
    samples_seconds: Samples | None
    states: tuple[State, ...] | None
    server: ServerTimes | None = None
    """For a model on a server; None in older reports."""

    @property
    def latency(self) -> Summary:
        """The summary of a row that was measured. Raises ``ValueError`` for one that was not."""
        if self.summary is None:
            raise ValueError(f"{self} was not measured")
        return self.summary

    @property
    def taken(self) -> Samples:
        """The samples of a row that was measured. Raises ``ValueError`` for one that was not."""
        if self.samples_seconds is None:
            raise ValueError(f"{self} was not measured")
        return self.samples_seconds

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.reason is not None:
            if self.summary is not None:
                raise _misfit("summary", "null beside a reason")
            return self
        for name in ("converged", "settled", "drift", "first_call_seconds", "summary", "samples_seconds"):
            if getattr(self, name) is None:
                raise _misfit(name, "a value, as there is no reason")
        if (count := len(self.taken.synchronised)) != self.latency.n:
            raise _misfit("summary.n", f"{count}, the number of samples")
        return self


class Published(_Value):
    """What the literature reports; seconds for 1280x720 on ``gpu``."""

    psnr: float
    async_seconds: Seconds | None
    sync_seconds: Seconds | None
    gpu: str | None


class ExportCheck(_Value):
    """How far a network came on each road: ``ok``, or the first thing that went wrong."""

    onnx: Name
    fp16: Name
    tensorrt_rtx: Name


class NetworkRow(Row):
    """One network of the comparison table."""

    network: Name
    way: Name | None
    """How an ensemble is run."""
    parameters: Count
    macs: Count | None
    published: Published | None
    export: ExportCheck


class Cell(_Value):
    """One size and batch of a sweep."""

    shape: ShapeText
    median_seconds: Seconds | None
    median_low: Seconds | None
    median_high: Seconds | None
    n: Count | None
    converged: bool | None
    first_call_seconds: Seconds | None
    memory_peak_bytes: Count | None
    reason: Name | None
    samples_seconds: tuple[Seconds, ...] | None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name in ("median_seconds", "n", "converged", "first_call_seconds"):
            if (getattr(self, name) is None) != (self.reason is not None):
                raise _misfit(name, "null beside a reason, and a value without one")
        if self.samples_seconds is not None and len(self.samples_seconds) != self.n:
            raise _misfit("n", f"{len(self.samples_seconds)}, the number of samples")
        return self

    @property
    def median(self) -> float:
        """The median of a cell that was measured. Raises ``ValueError`` for one that was not."""
        if self.median_seconds is None:
            raise ValueError(f"{self.shape} was not measured")
        return self.median_seconds


class _Head(_Value):
    schema_: Literal[2] = Field(default=SCHEMA, alias="schema")
    made: str
    """Date and time, UTC, ISO 8601."""
    shape: ShapeText
    context: Machine

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` writes it."""
        return self.model_dump(mode="json", by_alias=True)


class BenchReport(_Head):
    """``mimo bench``."""

    kind: Literal["bench"] = "bench"
    rule: StoppingRule
    ceilings: tuple[Ceiling, ...] = ()
    rows: tuple[Row, ...] = ()


class TableReport(_Head):
    """``mimo table``."""

    kind: Literal["table"] = "table"
    rule: StoppingRule
    ceilings: tuple[Ceiling, ...] = ()
    rows: tuple[NetworkRow, ...] = ()


class SweepReport(_Head):
    """``mimo sweep``."""

    kind: Literal["sweep"] = "sweep"
    rule: StoppingRule
    file: Name
    engine: Name
    sha256: str | None
    compute: str | None
    verified: Verified
    grid: tuple[Cell, ...] = ()
    advice: tuple[Name, ...] = ()


class CompareReport(_Head):
    """``mimo compare``. Ratios are A's time over B's: above 1, B is faster."""

    kind: Literal["compare"] = "compare"
    rule: RoundsRule
    a: Side
    b: Side
    comparison: Comparison


Report = BenchReport | TableReport | SweepReport | CompareReport
KINDS: Mapping[str, type[Report]] = {"bench": BenchReport, "table": TableReport, "sweep": SweepReport, "compare": CompareReport}


def states_of(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """What the gauges read during all ``rows``, in order."""
    return [state.model_dump() for row in rows for state in row.states or ()]
