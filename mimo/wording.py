"""Text from outside (names of files, keys, options) made fit to be shown: valid Unicode, one line, of bounded length."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

LONGEST_WORD = 240
"""Characters of one word that a message shows; names on most file systems have at most 255 bytes."""

LONGEST_LINE = 1200
"""Characters of a message."""

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of characters that move the cursor, turn the writing direction, break lines or cannot be encoded."""

_JOINERS = frozenset("\u200c\u200d")
"""Invisible, harmless, and part of correct writing in Persian, Hindi and emoji."""


def one_line(text: str) -> str:
    r"""``text`` with every character that is no visible one escaped: a newline as ``\n``, Escape as ``\x1b``.

    Bytes of a file name that are not UTF-8, which Python keeps as lone surrogates, become ``\xe9`` and the like.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escaped(character) if unicodedata.category(character) in _HIDDEN and character not in _JOINERS else character
        for character in text
    )


def without_controls(text: str) -> str:
    """``text`` with control characters escaped as :func:`one_line` does, but for newlines and tabs, and valid Unicode."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escaped(character) if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t" else character
        for character in text
    )


def literal(text: str) -> str:
    """``text`` for rich's markup: one line, in which nothing is markup."""

    # rich's own escape() loses a backslash before a bracket that opens no tag.
    def escaped(found: re.Match[str]) -> str:
        backslashes, tag = found.groups()
        return backslashes * 2 + "\\" + tag if tag else backslashes + "\\["

    text = re.sub(r"(\\*)(?:(\[[a-z#/@][^[]*?])|\[)", escaped, one_line(text))
    trailing = len(text) - len(text.rstrip("\\"))
    return text + "\\" * trailing if trailing % 2 else text  # what follows may be a tag


def shortened(text: str) -> str:
    """``text`` with words past :data:`LONGEST_WORD` and a whole past :data:`LONGEST_LINE` cut out of their middle."""
    text = re.sub(rf"\S{{{LONGEST_WORD + 1},}}", lambda found: _cut(found.group(), LONGEST_WORD), text)
    return _cut(text, LONGEST_LINE)


def valid_unicode(value: Any) -> Any:
    """``value``, in lists and mappings too, with lone surrogates escaped as :func:`one_line` does; all else as it is."""
    if isinstance(value, str):
        if value.isascii():
            return value
        return "".join(_escaped(character) if "\ud800" <= character <= "\udfff" else character for character in value)
    if isinstance(value, Mapping):
        return {valid_unicode(key): valid_unicode(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [valid_unicode(inner) for inner in value]
    return value


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    half = (most - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: the byte itself
        return f"\\x{code - 0xDC00:02x}"
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return named.get(character) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )
