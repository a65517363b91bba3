"""What ``mimo verify --json`` writes and ``<file>.verification.json`` holds: a list of entries, one an engine."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge
from pydantic import BaseModel, ConfigDict, TypeAdapter

Number = float | Literal["nan", "inf", "-inf"]
"""JSON has no text for these three; equal images have a PSNR of ``"inf"``."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Case(_Value):
    """One shape: candidate against reference; PSNR in dB."""

    shape: str
    max_error: Number
    mean_error: Number
    psnr: Number
    passed: bool


class TruthQuality(_Value):
    """Mean PSNR in dB over so many pairs: blurry, PyTorch's and this engine's pictures against the sharp ones."""

    pictures: Annotated[int, Ge(1)]
    blurry: Number
    reference: Number
    candidate: Number
    passed: bool


class Allowed(_Value):
    """How far from PyTorch FP32 the engine may be."""

    max_error: float
    min_psnr: float
    max_psnr_loss: float


class Entry(_Value):
    """One artifact on one engine. Later versions may say more; what stands here keeps its meaning."""

    model_config = ConfigDict(extra="allow")

    file: str
    sha256: str
    against_sha256: str
    engine: str
    status: Literal["passed", "failed", "not run"]
    numerics: str
    structure: str | None
    failure: str | None
    tolerance: Allowed
    cases: tuple[Case, ...]
    quality: TruthQuality | None
    lineage_sha256: str | None = None
    """Of what the sidecar said; None in reports of older versions, which make nothing verified."""
    photographs: dict[str, str] | None = None
    """Name and SHA-256 of each picture that was restored."""
    seed: int | None = None
    """Of the shapes that were drawn."""


ENTRIES = TypeAdapter(list[Entry])


def verification_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a verification report."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ENTRIES.json_schema(), "title": "mimo verify"}
