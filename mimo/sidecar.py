"""What a sidecar, and the lineage in an ONNX file's metadata, may say: one strict definition with bounds.

Read as JSON by pydantic, which refuses numbers for text and text for numbers, what is nested 200 deep, and halves of
surrogate pairs; a sidecar of more than a megabyte is not read at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from mimo.artifact import SCHEMA, Precision
from mimo.errors import ArtifactError
from mimo.formats import Format

LARGEST = 1 << 20
"""Bytes of JSON; a sidecar of ours has less than two thousand."""


def _plain(name: str) -> str:
    if "/" in name or "\0" in name or name in (".", ".."):
        raise ValueError("must be the name of a file in the same folder, without a path")
    return name


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Word = Annotated[str, Field(min_length=1, max_length=200)]
PlainName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_plain)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Counts = Annotated[dict[Word, Count], Field(max_length=32)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ShapesRecord(_Strict):
    """A profile, each ``BATCHxHEIGHTxWIDTH``."""

    min: Word
    opt: Word
    max: Word


class ReceiptRecord(_Strict):
    """See :class:`mimo.artifact.Receipt`."""

    convolutions: Counts
    resizes: Counts
    inner_casts: Count


class LineageRecord(_Strict):
    """See :meth:`mimo.artifact.Artifact.lineage`. What ``model`` may hold, the registry of networks says."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    format: Format
    precision: Precision
    io: Literal["float32", "float16"]
    model: Annotated[dict[Word, JsonValue], Field(max_length=16)]
    checkpoint_sha256: Sha256
    parent: PlainName | None
    parent_sha256: Sha256 | None
    shapes: ShapesRecord | None
    receipt: ReceiptRecord | None
    compute_capabilities: Annotated[tuple[Word, ...], Field(max_length=64)]
    tools: Annotated[dict[Word, Word], Field(max_length=64)]
    kept_float: Annotated[dict[Word, Word], Field(max_length=10_000)] = {}


class SidecarRecord(LineageRecord):
    """The lineage with what the file itself tells."""

    file: PlainName
    sha256: Sha256


class _Head(BaseModel):
    model_config = ConfigDict(strict=True)
    schema_: Annotated[int, Field(alias="schema")]


_Record = TypeVar("_Record", bound=LineageRecord)
_LINEAGE: TypeAdapter[LineageRecord] = TypeAdapter(LineageRecord)
_SIDECAR: TypeAdapter[SidecarRecord] = TypeAdapter(SidecarRecord)


def read_lineage(text: str | bytes, source: str) -> LineageRecord:
    """The lineage in ``text``; ``source`` names where it stood. Raises :class:`ArtifactError` for what is not as defined."""
    return _read(_LINEAGE, text, source, "make the file again with mimo")


def read_sidecar(sidecar: Path, file: str) -> SidecarRecord:
    """The sidecar of ``file``. Raises :class:`ArtifactError` when it cannot be read, is too large or not as defined."""
    try:
        with sidecar.open("rb") as opened:
            text = opened.read(LARGEST + 1)
    except OSError as error:
        raise ArtifactError(f"{sidecar} cannot be read ({error.strerror}): check its permissions.") from error
    return _read(_SIDECAR, text, sidecar.name, f"make the file again with mimo, that is, make {file} again")


def _read(kind: TypeAdapter[_Record], text: str | bytes, source: str, cure: str) -> _Record:
    if len(text) > LARGEST:
        raise ArtifactError(f"{source} is damaged (more than {LARGEST} bytes): {cure}.")
    try:
        if (found := _Head.model_validate_json(text).schema_) != SCHEMA:
            raise ArtifactError(
                f"{source} has schema {found}, this version of mimo reads {SCHEMA}: make the file again with it."
            )
        return kind.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part)[:60] for part in first["loc"][:4])
        raise ArtifactError(f"{source} is damaged ({place or 'JSON'}: {first['msg'][:160]}): {cure}.") from error
