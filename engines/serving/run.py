"""From options to a running service: the token, the socket, what the model's file says of itself, and uvicorn."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engines.serving.settings import Limits, Opened
from mimo.artifact import open_artifact, verification_of
from mimo.errors import EngineUnavailable, MimoError
from mimo.files import cause_of, sha256_of
from mimo.installing import install
from mimo.kinds import kind_of

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
SHORTEST_TOKEN = 16
"""Characters."""


def check_installed() -> None:
    """Raise :class:`EngineUnavailable` when the extra ``serve`` is not there."""
    missing = [
        name
        for name in ("fastapi", "uvicorn", "prometheus_client", "python_multipart", "fastapi_offline")
        if not find_spec(name)
    ]
    if missing:
        raise EngineUnavailable(f"the service needs {missing[0]}: {install('serve')}.")


def read_token(path: Path | None) -> str | None:
    """The token in the file's only line. Raises :class:`MimoError`."""
    if path is None:
        return None
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise MimoError(f"the token file {path} cannot be read: {cause_of(error)}") from error
    except UnicodeDecodeError as error:
        raise MimoError(f"the token file {path} is not ASCII text: write a token of letters and digits into it.") from error
    if len(token) < SHORTEST_TOKEN or len(token.split()) != 1:
        raise MimoError(
            f"the token file {path} must hold one word of at least {SHORTEST_TOKEN} characters: make one with "
            f"openssl rand -hex 32 > {path.name}."
        )
    return token


def check_binding(host: str, token: str | None, no_auth: bool) -> None:
    """Raise :class:`MimoError` when others could ask without a token and nobody said that this is meant."""
    if host not in LOOPBACK and token is None and not no_auth:
        raise MimoError(
            f"--host {host} lets others than this machine in, and there is no token: give --token-file, or write --no-auth if "
            "everybody who reaches it may use it."
        )


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises :class:`MimoError` when the address is taken or is not of this machine."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        found = socket.socket(family, kind, protocol)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(128)
        except OSError:
            found.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        said = cause_of(error) if isinstance(error, OSError) and error.strerror else str(error)
        raise MimoError(f"{host} port {port} cannot be listened on ({said}): give another --port or --host.") from error
    return found


def address_of(listener: socket.socket) -> str:
    """``http://...`` as a browser on this machine reaches it."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def model_facts(path: Path) -> dict[str, Any]:
    """What ``GET /v1/model`` says of the file: names and hashes, no folder. Raises :class:`~mimo.errors.ArtifactError`."""
    if kind_of(path) == "checkpoint":
        facts: dict[str, Any] = {"file": path.name, "format": "checkpoint", "precision": "fp32", "lineage": None}
        return {**facts, "sha256": sha256_of(path) if path.is_file() else None, "verification": None}
    artifact = open_artifact(path)
    return {
        "file": path.name,
        "format": artifact.format,
        "precision": artifact.precision,
        "sha256": artifact.sha256,
        "lineage": artifact.lineage(),
        "verification": _verification(path, artifact.sha256),
    }


def _verification(path: Path, sha256: str) -> list[Any] | None:
    """The entries of the report beside the file that are of this very file; None where there is no report that can be read."""
    try:
        entries = json.loads(verification_of(path).read_text(encoding="utf-8"))
        return [entry for entry in entries if entry["sha256"] == sha256] or None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def serve(
    listener: socket.socket,
    opened: Opened,
    workers: int,
    limits: Limits,
    *,
    token: str | None = None,
    any_host: bool = False,
    ready: Callable[[], None] = lambda: None,
    started: Callable[[], None] = lambda: None,
    verbose: bool = False,
) -> None:
    """Answer on ``listener`` until SIGTERM or Ctrl-C, then finish what was taken on.

    ``any_host``: whatever name the service is called by; else only this machine's, unless there is a token. ``ready`` is
    called when the first worker is warm. Raises what opening the model raises in a worker, as :class:`MimoError`.
    """
    import uvicorn

    from engines.serving.app import build_app
    from engines.serving.connections import server_options
    from engines.serving.pool import Pool

    reasons: list[str] = []

    def fatal(reason: str) -> None:
        reasons.append(reason)
        server.should_exit = True

    pool = Pool(opened, workers, limits.queue, fatal=fatal, ready=ready)
    hosts = None if token or any_host else _NAMES
    app = build_app(pool, limits, model_facts(opened.model), token=token, hosts=hosts, started=started)
    # Its warnings are of what clients send, who could fill the log with them.
    level = "info" if verbose else "error"
    server = uvicorn.Server(uvicorn.Config(app, log_level=level, access_log=verbose, lifespan="on", **server_options(limits)))
    server.run(sockets=[listener])
    if reasons:
        raise MimoError(reasons[0])
