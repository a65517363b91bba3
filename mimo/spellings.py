"""Spellings that are understood: our own earlier ones, and the options of neighbouring tools, which get their right name."""

from __future__ import annotations

from collections.abc import Sequence

from mimo.errors import MimoError

_FOREIGN = {
    "--minShapes": "--min 1x64x64",
    "--optShapes": "--opt 1x720x1280",
    "--maxShapes": "--max 4x2160x3840",
    "--min-shapes": "--min 1x64x64",
    "--opt-shapes": "--opt 1x720x1280",
    "--max-shapes": "--max 4x2160x3840",
    "--minShape": "--min 1x64x64",
    "--optShape": "--opt 1x720x1280",
    "--maxShape": "--max 4x2160x3840",
    "--saveEngine": "--out FILE",
    "--save-engine": "--out FILE",
    "--onnx": "the file without an option before it",
    "--half": "--fp16",
    "--imgsz": "--size HEIGHTxWIDTH",
    "--format": "--to onnx",
    "--output": "--out",
    "--warmUp": "nothing: warm-up lasts until it has settled",
}
"""Options of trtexec, Polygraphy and Ultralytics -> what to write here."""

_TAKES = {"deblur": {"--format"}}
"""Commands that have an option of that name themselves."""

_TABLE = {"--fates": "--check-export", "--no-fates": "--no-check-export"}
"""Options of ``mimo table``: the earlier name and today's."""


def modern(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """The command line in today's words, and what to tell the user of it (None: it was already).

    ``bench A B --compare`` is ``compare A B``, ``bench FILE --atlas`` is ``sweep FILE``, ``bench table`` is ``table``,
    and its ``--fates`` is ``--check-export``.
    """
    words = list(arguments)
    if words[:1] == ["table"] or words[:2] == ["bench", "table"]:
        today = [_TABLE.get(word, word) for word in words[words.index("table") :]]
        said = [f"mimo table {word} is now {_TABLE[word]}." for word in words if word in _TABLE]
        said = ["mimo bench table is now mimo table."] * (words[0] == "bench") + said
        return today, " ".join(said) or None
    if words[:1] != ["bench"]:
        return words, None
    for option, command in (("--compare", "compare"), ("--atlas", "sweep")):
        if option in words:
            words.remove(option)
            return [command, *words[1:]], f"mimo bench {option} is now mimo {command}."
    return words, None


def refuse_foreign(arguments: Sequence[str]) -> None:
    """Raise :class:`MimoError` with the right name for an option of a neighbouring tool."""
    for argument in arguments:
        if argument == "--":
            return
        name = argument.partition("=")[0]
        if name in _FOREIGN and name not in _TAKES.get(arguments[0], ()):
            raise MimoError(f"there is no option {name}: write {_FOREIGN[name]}.")
