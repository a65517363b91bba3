"""Text as JSON can hold it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator


def _printable(text: Any) -> Any:
    """A file name that is not UTF-8 with its bytes written out: JSON, and every reader of it, holds text only."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") if isinstance(text, str) else text


Name = Annotated[str, BeforeValidator(_printable)]
"""A name of a file, or words that hold one."""
