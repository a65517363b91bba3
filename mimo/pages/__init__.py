"""Pages to look at: one HTML file each, on one base, with nothing outside it and no script.

A page is a Jinja2 template of the room that makes it (``<room>/.../templates``) over ``templates/base.html.j2`` here.
Escaping is automatic: only :class:`markupsafe.Markup` enters a page as it is, everything else is text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def render(package: str, template: str, values: Mapping[str, Any]) -> str:
    """``template`` of the folder ``templates`` in ``package`` with ``values``; one that is missing is an error."""
    return _environment(package).get_template(template).render(**values)


@cache
def _environment(package: str) -> Environment:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loader = ChoiceLoader([PackageLoader(package), PackageLoader(__name__)])
    return Environment(loader=loader, autoescape=True, finalize=_shown, undefined=StrictUndefined, trim_blocks=True)


def _shown(value: object) -> object:
    from markupsafe import Markup

    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def printable(text: str) -> str:
    """``text`` with a replacement sign for whatever cannot be shown, encoded or trusted.

    File names may hold control characters, halves of surrogate pairs (bytes that are no UTF-8) and signs that reverse the
    direction of the text after them.
    """
    return "".join("\ufffd" if _unsafe(sign) else sign for sign in text)


def _unsafe(sign: str) -> bool:
    category = unicodedata.category(sign)
    return category in ("Cs", "Cn") or (category == "Cc" and sign not in "\n\t") or unicodedata.bidirectional(sign) in _TURNS


_TURNS = frozenset(("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"))
