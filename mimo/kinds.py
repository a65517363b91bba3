"""What a file is, told by its content: people name checkpoints as they like. No torch here."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Literal

Kind = Literal["checkpoint", "onnx", "other"]

_PICKLE = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
_ZIP = b"PK\x03\x04"
_IR_VERSION = 0x08
"""The first byte of an ONNX file that was written field by field: field 1, a number."""


def kind_of(path: Path) -> Kind:
    """Of a file; a folder is a checkpoint, in several files; what is not there or cannot be read is ``other``."""
    if path.is_dir():
        return "checkpoint"
    try:
        with path.open("rb") as file:
            start = file.read(16)
            size = path.stat().st_size
    except OSError:
        return "other"
    if start.startswith((_ZIP, *_PICKLE)) or is_safetensors(start, size):
        return "checkpoint"
    # A version from 1 to 127, then another field: a length-delimited one or a number.
    if len(start) > 2 and start[0] == _IR_VERSION and 0 < start[1] < 0x80 and start[2] & 7 in (0, 2):
        return "onnx"
    return "other"


def is_safetensors(start: bytes, size: int) -> bool:
    """By the first bytes of a file of ``size`` bytes: the length of a JSON header, then the header."""
    return len(start) >= 9 and start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] <= size
