"""What does not fit a definition of pydantic's, in one sentence with its path."""

from __future__ import annotations

from typing import Any, NoReturn

from pydantic import ValidationError


def misfit(found: ValidationError, known: str) -> str:
    """The first thing that does not fit: its path (``rows[0].summary.n``) and what was expected there.

    ``known`` names the definition, for a field that it does not have.
    """
    error = found.errors(include_url=False)[0]
    context = error.get("ctx", {})
    path = _path((*error["loc"], *str(context.get("path", "")).split(".")) if "path" in context else error["loc"])
    match error["type"]:
        case "missing":
            return f"{path}: missing"
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"{path}: not known in {known}"
        case "misfit":
            return f"{path}: {error['msg']}"
        case _:
            words = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ").replace("a valid ", "a ")
            for clumsy, plain in (("a integer", "an integer"), ("a array", "a list"), ("greater than or equal to", "at least")):
                words = words.replace(clumsy, plain)
            expected = words if words.startswith("expected") else f"expected {words}"
            return f"{path or 'the report'}: {expected}, got {shown(error['input'])}"


def _path(places: tuple[int | str, ...]) -> str:
    return "".join(f"[{place}]" if isinstance(place, int) else f".{place}" for place in places).removeprefix(".")


def shown(value: Any) -> str:
    """A value in a message, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def refuse_constant(constant: str) -> NoReturn:
    """For ``json.loads(..., parse_constant=)``: NaN and infinity are none of JSON's numbers. Raises ``ValueError``."""
    raise ValueError(f"{constant} is no number of JSON")
