"""What ``mimo eval --json`` and ``mimo score --json`` write. Schema 1."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mimo.json_text import Name
from mimo.metrics import Protocol
from mimo.misfits import misfit


def _in_words(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


Number = Annotated[float | Literal["inf", "-inf"] | None, BeforeValidator(_in_words)]
"""dB or similarity; ``null`` is no number, ``"inf"`` the PSNR of equal pictures."""
Scores = Mapping[str, Number]
"""By the names of the protocol's measures."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Mean(_Value):
    """Over pictures, of each picture's own value; ``blurry``: of the pictures they were made from."""

    pictures: Annotated[int, Ge(1)]
    scores: Scores
    blurry: Scores | None


class Picture(_Value):
    """One picture's numbers."""

    name: Name
    scene: Name
    scores: Scores
    blurry: Scores | None


class EvaluationReport(_Value):
    """Numbers and how they were obtained."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    protocol: Protocol
    method: dict[str, Name]
    """What decided the numbers, in words."""
    tools: dict[str, str]
    """Versions of what computed them, by distribution."""
    overall: Mean
    scenes: dict[Name, Mean]
    pictures: tuple[Picture, ...]

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` writes it."""
        return self.model_dump(mode="json", by_alias=True)


def parse_evaluation(content: Any) -> EvaluationReport:
    """The report that JSON values are. Raises ``ValueError`` naming the path of what does not fit."""
    try:
        return EvaluationReport.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise ValueError(misfit(error, "schema 1")) from None


def evaluation_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of an evaluation."""
    schema = EvaluationReport.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "mimo eval, schema 1"}
