"""Plans for tests of what never opens them: the header of a real one, and any bytes."""

from __future__ import annotations

import struct


def plan_bytes(
    content: bytes = b"a plan", *, tag: bytes = b"vtrt", version: tuple[int, int, int, int] = (1, 7, 1, 116)
) -> bytes:
    """A header as TensorRT-RTX writes it (``tag`` ``ftrt`` for TensorRT's), then ``content``."""
    return struct.pack("<4sIQQ4B", tag, 0, 2, 28 + len(content), *version) + content
