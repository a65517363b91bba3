"""Reading a report, and its JSON schema; what a report is stands in ``benchmarks.reports``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from benchmarks.reports import KINDS, SCHEMA, Report
from mimo.errors import ArtifactError


def read_report(path: Path) -> Report:
    """Read and check a report. Raises :class:`~mimo.errors.ArtifactError` when it is missing, damaged or of another schema."""
    try:
        content = json.loads(path.read_bytes(), parse_constant=_refuse)
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
        raise ValueError(f"expected an object, got {_shown(content)}")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {_shown(kind)}")
    if content.get("schema") != SCHEMA or isinstance(content["schema"], bool):
        raise ValueError(f"schema: expected {SCHEMA}, got {_shown(content.get('schema'))}")
    try:
        # Through JSON, where a tuple is a list: in strict mode nothing else is taken for anything else.
        return KINDS[kind].model_validate_json(json.dumps(content, allow_nan=True))
    except ValidationError as error:
        raise ValueError(_said(error.errors(include_url=False)[0])) from None
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


def _said(error: ErrorDetails) -> str:
    """One sentence with the path of the error and what was expected there."""
    context = error.get("ctx", {})
    path = _path((*error["loc"], *str(context.get("path", "")).split(".")) if "path" in context else error["loc"])
    match error["type"]:
        case "missing":
            return f"{path}: missing"
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"{path}: not known in schema {SCHEMA}"
        case "misfit":
            return f"{path}: {error['msg']}"
        case _:
            words = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ").replace("a valid ", "a ")
            for clumsy, plain in (("a integer", "an integer"), ("a array", "a list"), ("greater than or equal to", "at least")):
                words = words.replace(clumsy, plain)
            expected = words if words.startswith("expected") else f"expected {words}"
            return f"{path or 'the report'}: {expected}, got {_shown(error['input'])}"


def _path(places: tuple[int | str, ...]) -> str:
    return "".join(f"[{place}]" if isinstance(place, int) else f".{place}" for place in places).removeprefix(".")


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")
