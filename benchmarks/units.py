"""What the numbers of a report are, so that one definition says it to a reader, to mypy and to the JSON schema."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

Seconds = Annotated[float, Ge(0)]
"""On a clock that may be coarse, so 0 is possible."""
Fraction = Annotated[float, Ge(0)]
"""A part of something, or a ratio; above 1 is possible."""
Count = Annotated[int, Ge(0)]
Bytes = Annotated[int, Ge(0)]
Rate = Annotated[float, Ge(0)]
"""So much a second."""
