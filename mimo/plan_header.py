"""The first bytes of a TensorRT plan, which say what wrote it; the rest only TensorRT reads.

TensorRT's plans: the tag ``ftrt``, a serialisation version and, from byte 24, four bytes of version, as trtexec's
``--getPlanVersionOnly`` reads them (NVIDIA/TensorRT, samples/common). TensorRT-RTX's have the tag ``vtrt``, the same version
bytes, and from byte 16 the length of the whole plan: seen in plans of TensorRT-RTX 1.7.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from mimo.errors import ArtifactError
from mimo.formats import Format

HEADER_BYTES = 28
TAGS: Mapping[Format, bytes] = {"tensorrt": b"ftrt", "tensorrt-rtx": b"vtrt"}


def check_plan(path: Path, kind: Format, recorded: str | None) -> str:
    """The version of ``kind`` that wrote the plan at ``path``, such as ``1.7.1.116``.

    ``recorded`` is the version that its sidecar names. Raises :class:`ArtifactError` when the file is no plan of ``kind``,
    is cut short, or was written by another version than recorded.
    """
    cure = "build it again with mimo build-engine"
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
        size = path.stat().st_size
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}): check its permissions.") from error
    if len(head) < HEADER_BYTES or head[:4] != TAGS[kind]:
        raise ArtifactError(f"{path} does not begin as a plan of {kind} does: {cure}.")
    if kind == "tensorrt-rtx" and struct.unpack("<Q", head[16:24])[0] != size:
        raise ArtifactError(f"{path} is a plan of another length than it says: {cure}.")
    version = tuple(head[24:28])
    text = ".".join(map(str, version))
    numbers = [int(part) for part in (recorded or "").split(".") if part.isascii() and part.isdecimal() and len(part) < 6]
    if any(mine != told for mine, told in zip(version, numbers, strict=False)):
        raise ArtifactError(f"{path} was written by {kind} {text}, its sidecar says {str(recorded)[:20]}: {cure}.")
    return text
