"""What ``mimo verify --json`` writes and ``<file>.verification.json`` holds: a list of entries, one an engine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge
from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from mimo.errors import ArtifactError
from mimo.json_text import Name
from mimo.misfits import misfit


def _in_words(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | Literal["nan", "inf", "-inf"], BeforeValidator(_in_words)]
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

    file: Name
    sha256: str
    against_sha256: str
    reference: str = "PyTorch FP32"
    """What it was compared with: PyTorch, or an adopted graph itself."""
    engine: Name
    status: Literal["passed", "failed", "not run"]
    numerics: Name
    structure: Name | None
    failure: Name | None
    tolerance: Allowed
    cases: tuple[Case, ...]
    quality: TruthQuality | None
    lineage_sha256: str | None = None
    """Of what the sidecar said; None in reports of older versions, which make nothing verified."""
    photographs: dict[Name, str] | None = None
    """Name and SHA-256 of each picture that was restored."""
    seed: int | None = None
    """Of the shapes that were drawn."""


ENTRIES = TypeAdapter(list[Entry])


def entry_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """An entry as it is written, from its values; those that are not finite become words."""
    # Through JSON's own rules: what is written is what is read.
    return Entry.model_validate(dict(values)).model_dump(mode="json")


def read_verifications(path: Path) -> list[Entry]:
    """The entries of a verification report.

    Raises :class:`~mimo.errors.ArtifactError` when it is missing or damaged, or names the path of what does not fit.
    """
    try:
        return ENTRIES.validate_json(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror or error}): run mimo verify.") from error
    except ValidationError as error:
        raise ArtifactError(
            f"{path} is no report of mimo verify ({misfit(error, 'a verification report')}): run mimo verify again."
        ) from error


def verification_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a verification report."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ENTRIES.json_schema(), "title": "mimo verify"}
