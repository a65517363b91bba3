"""The formats an artifact can have, apart from what runs them: one row each. Nothing heavy is imported here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mimo.errors import ArtifactError
from mimo.files import sha256_of

Format = Literal["onnx", "openvino", "tensorrt", "tensorrt-rtx"]


@dataclass(frozen=True)
class FormatInfo:
    """One format: how its files are called and what a person calls it."""

    name: Format
    title: str
    """With its article, for messages."""
    suffix: str
    """Of the file that names the artifact."""
    companions: tuple[str, ...] = ()
    """Suffixes of the other files that it consists of, beside the first and of the same stem."""
    is_graph: bool = True
    """A network that runtimes compile for themselves, with dynamic sizes; else an engine for the sizes of its profile."""


FORMATS: tuple[FormatInfo, ...] = (
    FormatInfo("onnx", "an ONNX file", ".onnx"),
    FormatInfo("openvino", "an OpenVINO IR", ".xml", companions=(".bin",)),
    FormatInfo("tensorrt", "a TensorRT engine", ".engine", is_graph=False),
    FormatInfo("tensorrt-rtx", "a TensorRT-RTX engine", ".engine", is_graph=False),
)


def format_info(name: Format) -> FormatInfo:
    """The row of ``name``."""
    return next(row for row in FORMATS if row.name == name)


def files_of(path: Path) -> tuple[Path, ...]:
    """All files of the artifact at ``path``, itself first. An OpenVINO IR is told by its content, not by its name."""
    if is_openvino(path):
        return path, *(path.with_suffix(suffix) for suffix in format_info("openvino").companions)
    return (path,)


def hash_of(path: Path) -> str:
    """The SHA-256 of an artifact: that of its bytes, or, of several files, of their SHA-256s in hexadecimal, one a line.

    Raises :class:`ArtifactError` when one of them is missing or cannot be read.
    """
    hashes = []
    for file in files_of(path):
        try:
            hashes.append(sha256_of(file))
        except FileNotFoundError as error:
            raise ArtifactError(f"{file} is missing, which belongs to {path.name}: keep the two together.") from error
        except OSError as error:
            raise ArtifactError(f"{file} cannot be read ({error.strerror}): check its permissions.") from error
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(f"{one}\n" for one in hashes).encode()).hexdigest()


def is_openvino(path: Path) -> bool:
    """Whether the file begins as an OpenVINO IR does: an XML document whose root is ``<net>``."""
    try:
        with path.open("rb") as file:
            start = file.read(512).lstrip()
    except OSError:
        return False
    if start.startswith(b"<?xml"):
        start = start.partition(b"?>")[2].lstrip()
    return start.startswith((b"<net ", b"<net>"))


def artifacts_in(folder: Path) -> list[Path]:
    """The files in ``folder`` that look like artifacts, sorted; hidden and other XML files are none."""
    suffixes = {row.suffix for row in FORMATS}
    found = (path for path in folder.iterdir() if path.suffix in suffixes and path.is_file() and not path.name.startswith("."))
    return sorted(path for path in found if path.suffix != format_info("openvino").suffix or is_openvino(path))
