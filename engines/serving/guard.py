"""Around every request: who may ask, from which page, under which name; and the headers that every answer carries."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import cast

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engines.serving.answers import Refusal, refused

OPEN = frozenset({
    "/", "/page.css", "/page.js", "/icon.svg", "/healthz", "/readyz",
    "/docs", "/docs/swagger-ui.js", "/docs/swagger-ui.css", "/openapi.json",
})  # fmt: skip
"""What needs no token: the page itself and its documentation, which say nothing of anybody's photographs, and whether the
service is alive."""

_POLICY = "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """``hosts``: the only names the service answers to, None for any; ``token``: what a request must carry, None for none."""

    def __init__(
        self, app: ASGIApp, *, token: str | None, hosts: frozenset[str] | None, count: Callable[[str, int, str | None], None]
    ) -> None:
        """``count`` is told the path and status of each answer, and the reason where the guard itself refused."""
        self._app, self._token, self._hosts, self._count = app, token, hosts, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = cast(str, scope["path"])
        reason: str | None = None

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(path, message["status"], reason)
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                inline = "; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'" if path == "/docs" else ""
                headers.setdefault("content-security-policy", _POLICY + inline)
                headers.setdefault("cache-control", "no-cache" if path in OPEN else "no-store")
            await send(message)

        refusal = self._refusal(path, Headers(scope=scope))
        if refusal is not None:
            reason = refusal.reason
            await refused(refusal)(scope, receive, answer)
        else:
            await self._app(scope, receive, answer)

    def _refusal(self, path: str, headers: Headers) -> Refusal | None:
        # A page elsewhere that calls its own name 127.0.0.1 (DNS rebinding) would otherwise read what is asked here.
        if self._hosts is not None and _name(headers.get("host", "")) not in self._hosts:
            return Refusal(
                421, "host", f"this service answers to {', '.join(sorted(self._hosts))} only: use one of these names."
            )
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return Refusal(403, "cross-site", "another site's page asked: open the page of this service itself.")
        if self._token is not None and path not in OPEN:
            given = headers.get("authorization", "")
            scheme, _, token = given.partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self._token.encode()):
                return Refusal(401, "token", "a token is needed: send it as Authorization: Bearer TOKEN.")
        return None


def _name(host: str) -> str:
    """Without the port: ``[::1]:8000`` -> ``[::1]``."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower()
