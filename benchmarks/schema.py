"""Reading a report, and its JSON schema; what a report is stands in ``benchmarks.reports``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmarks.reports import KINDS, SCHEMA, Report
from mimo.errors import ArtifactError
from mimo.misfits import misfit, refuse_constant, shown


def read_report(path: Path) -> Report:
    """Read and check a report. Raises :class:`~mimo.errors.ArtifactError` when it is missing, damaged or of another schema."""
    try:
        content = json.loads(path.read_bytes(), parse_constant=refuse_constant)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror or error}): give a file that --json wrote.") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not JSON, or damaged ({error}): measure again with --json.") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if type(schema) is int and schema != SCHEMA:
        cure = "measure again with --json" if schema < SCHEMA else "update mimo"
        raise ArtifactError(f"{path} has schema {schema}, and this version of mimo reads schema {SCHEMA}: {cure}.")
    try:
        return parse_report(content)
    except ValueError as error:
        raise ArtifactError(f"{path} is no report of mimo bench ({error}): measure again with --json.") from error


def parse_report(content: Any) -> Report:
    """The report that JSON values are. Raises ``ValueError`` naming the path of what does not fit: ``rows[0].summary.n``."""
    content = _as_now(content)
    kind = content.get("kind") if isinstance(content, dict) else None
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, got {shown(content)}")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {shown(kind)}")
    if content.get("schema") != SCHEMA or isinstance(content["schema"], bool):
        raise ValueError(f"schema: expected {SCHEMA}, got {shown(content.get('schema'))}")
    try:
        # Through JSON, where a tuple is a list: in strict mode nothing else is taken for anything else.
        return KINDS[kind].model_validate_json(json.dumps(content, allow_nan=True))
    except ValidationError as error:
        raise ValueError(misfit(error, f"schema {SCHEMA}")) from None
    except RecursionError:
        raise ValueError("nested too deep") from None


def report_schema(name: str) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of the reports of the command ``name``, which is their kind.

    A schema says what each object holds. What several values owe each other (``summary.n`` is the number of samples, a row
    with a reason has no summary) is checked only when mimo reads a report.
    """
    model = KINDS[name]
    schema = model.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": f"mimo {name}, schema {SCHEMA}"}


def _as_now(content: Any) -> Any:
    """``content`` by today's names: older files of schema 2 call a sweep an ``atlas``, and the stopping rule a ``plan``."""
    if not isinstance(content, dict):
        return content
    found = dict(content)
    if found.get("kind") == "atlas":
        found["kind"] = "sweep"
    if isinstance(found.get("comparison"), dict):
        found["comparison"] = dict(found["comparison"])
    for place in (found, found.get("comparison")):
        if isinstance(place, dict) and "plan" in place and "rule" not in place:
            place["rule"] = place.pop("plan")
    return found
