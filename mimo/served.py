"""A model on a Triton server, named by its URL. Light: nothing is asked of the server here."""

from __future__ import annotations

import re
from pathlib import Path, PosixPath
from typing import Literal

from mimo.errors import MimoError

Protocol = Literal["grpc", "http"]

SCHEMES: dict[str, Protocol] = {"triton": "grpc", "triton+http": "http"}
"""Of URLs, with the protocol each stands for."""
PORTS: dict[Protocol, int] = {"grpc": 8001, "http": 8000}
"""Triton's own."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_PLACE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9_.-]*)(?::([0-9]{1,5}))?")


class ServedModel(PosixPath):
    """What stands where a model's path may stand and is no file: ``triton://host:port/model[/version]``.

    Made by :func:`model_path`. It prints as its URL, which a path would shorten by a slash; nothing of that name exists as a
    file. What would lie beside a file (a report, a checkpoint) belongs in the current directory.
    """

    def __str__(self) -> str:
        scheme, *rest = self.parts
        return f"{scheme}//{'/'.join(rest)}"

    def __repr__(self) -> str:
        return f"ServedModel({str(self)!r})"

    @property
    def protocol(self) -> Protocol:
        """How the server is spoken to."""
        return SCHEMES[self.parts[0].removesuffix(":")]

    @property
    def address(self) -> str:
        """``host:port``."""
        return self.parts[1]

    @property
    def name(self) -> str:
        """The model's name on the server."""
        return self.parts[2]

    @property
    def version(self) -> str:
        """The number asked for; empty for the server's choice."""
        return self.parts[3] if len(self.parts) > 3 else ""

    @property
    def is_local(self) -> bool:
        """Whether the address is this machine's own loopback, where memory may be shared."""
        host = self.address.rpartition(":")[0].strip("[]")
        return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None

    @property
    def parent(self) -> Path:  # type: ignore[override]
        """The current directory."""
        return Path()

    def with_name(self, name: str) -> Path:  # type: ignore[override]
        """A file of that name in the current directory."""
        return Path(name)


def is_url(text: str) -> bool:
    """Whether ``text`` begins as a URL does."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def model_path(text: str) -> Path:
    """A path, or for a URL the model it names on a Triton server, with the protocol's port where it has none.

    Raises :class:`MimoError` for any other URL.
    """
    if not is_url(text):
        return Path(text)
    scheme, _, rest = text.partition("://")
    protocol = SCHEMES.get(scheme.lower())
    place, *names = rest.removesuffix("/").split("/")
    found = _PLACE.fullmatch(place)
    named = len(names) in (1, 2) and _NAME.fullmatch(names[0]) is not None and all(map(str.isdecimal, names[1:]))
    port = 0 if protocol is None or found is None else int(found[2] or PORTS[protocol])
    if found is None or not named or not 0 < port < 1 << 16:
        raise MimoError(
            f"{text[:200]} names no model on a server: write triton://HOST:PORT/MODEL for gRPC or "
            "triton+http://HOST:PORT/MODEL, either with /VERSION behind it or without."
        )
    return ServedModel(f"{scheme.lower()}:", f"{found[1]}:{port}", *names)
