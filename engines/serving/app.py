"""The service as an ASGI application: which address answers what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from engines.serving.answers import Refusal, refused, sentence
from engines.serving.bodies import Held, read_photograph
from engines.serving.guard import OPEN, Guard
from engines.serving.meters import CONTENT_TYPE, Meters
from engines.serving.pool import Answer, BusyError, FailedError, Job, Pool, RefusedError
from engines.serving.settings import Limits
from engines.serving.worker import Order
from mimo.containers.identify import format_of
from mimo.errors import ImageError
from mimo.images import size_of

NAME = "the photograph"
CLIENT_LEFT = 499
"""What is counted, and never sent, when nobody is there to be answered."""

_PHOTOGRAPH = {"type": "string", "format": "binary"}
_MEDIA = ("image/jpeg", "image/png", "image/tiff", "image/webp")
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"photograph": _PHOTOGRAPH}, "required": ["photograph"]}
            },
            **{media: {"schema": _PHOTOGRAPH} for media in (*_MEDIA, "application/octet-stream")},
        },
    }
}
_DETAIL = {
    "application/json": {
        "schema": {"type": "object", "properties": {"detail": {"type": "string"}}, "required": ["detail"]},
    }
}


def _answers(**sentences: str) -> dict[int | str, dict[str, Any]]:
    every = {
        "400": "The request is not valid HTTP.",
        "401": "A token is needed.",
        "403": "Another site's page asked.",
        "421": "The service does not answer to this name.",
    }
    return {int(status): {"description": text, "content": _DETAIL} for status, text in {**every, **sentences}.items()}


_DEBLUR_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The restored photograph, of the same format.",
        "content": {media: {"schema": _PHOTOGRAPH} for media in _MEDIA},
    },
    **_answers(
        **{
            "408": "The body did not arrive in time.",
            "409": "Another photograph has this job's number.",
            "413": "The body, or the photograph, is too large.",
            "422": "The photograph cannot be read, or an option cannot be.",
            "429": "The queue is full; Retry-After says when to come again.",
            "503": "It took too long, or the service failed.",
        }
    ),
}


class Options(BaseModel):
    """The query of ``POST /v1/deblur``."""

    model_config = ConfigDict(extra="forbid")

    strength: Annotated[float, Field(ge=0, le=1, description="0 the photograph as it is, 1 all of the result.")] = 1.0
    tile: Annotated[
        int | None, Field(ge=64, le=65536, description="Longest side of a tile, by default what memory allows.")
    ] = None
    context: Annotated[int | None, Field(ge=0, le=65536, description="Pixels around a tile; fewer are an approximation.")] = (
        None
    )
    job: Annotated[UUID | None, Field(description="A number of the client's choice, for GET /v1/jobs/{job}.")] = None


class Progress(BaseModel):
    """Where a photograph stands."""

    state: str
    before: Annotated[int, Field(description="Photographs before it in the queue.")]
    tile: Annotated[int, Field(description="Tiles done.")]
    tiles: int | None
    seconds_left: float | None


class Service:
    """What the addresses share."""

    def __init__(self, pool: Pool, limits: Limits, model: dict[str, Any]) -> None:
        self.pool, self.limits, self.model = pool, limits, model
        self.held = Held(limits)
        self.meters = Meters(pool)
        self.jobs: dict[UUID, Job | None] = {}

    def count(self, path: str, status: int, reason: str | None) -> None:
        """Note an answer. Paths that do not exist are one, whatever a client makes up."""
        known = path if path in OPEN or path in ("/v1/deblur", "/v1/model", "/metrics") else "other"
        self.meters.requests.labels("/v1/jobs" if path.startswith("/v1/jobs/") else known, str(status)).inc()
        if reason is not None:
            self.meters.rejections.labels(reason).inc()

    async def deblur(self, request: Request, options: Options) -> Response:
        """One photograph. Raises :class:`Refusal`."""
        if options.job is not None:
            if options.job in self.jobs:
                raise Refusal(409, "job", "another photograph has this job's number: choose a random one.")
            self.jobs[options.job] = None
        try:
            self.pool.check_room()
            with self.held.reserved() as share:
                return await self._answered(request, options, await read_photograph(request, share, self.limits))
        except BusyError as error:
            raise Refusal(429, "queue", str(error), retry_after=error.retry_after) from error
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)
        finally:
            if options.job is not None:
                del self.jobs[options.job]

    async def _answered(self, request: Request, options: Options, data: bytes) -> Response:
        try:
            height, width = await run_in_threadpool(size_of, data, NAME)
        except ImageError as error:
            raise Refusal(422, "photograph", str(error)) from error
        if height * width > self.limits.pixels:
            raise Refusal(
                413,
                "pixels",
                f"{NAME} has {width} x {height} pixels, over the limit of {self.limits.pixels / 1e6:g} megapixels: send it "
                "smaller, or in parts.",
            )
        order = Order(height, width, options.strength, options.tile, options.context)
        job = self.pool.submit(data, order)
        if options.job is not None:
            self.jobs[options.job] = job
        try:
            answer = await self._result(request, job)
        except RefusedError as error:
            raise Refusal(422, "photograph", str(error)) from error
        except FailedError as error:
            raise Refusal(503, "failed", str(error), retry_after=1) from error
        if answer is None:
            return Response(status_code=CLIENT_LEFT)
        self.meters.stages(answer.seconds)
        self.meters.pixels.inc(height * width)
        headers = {"server-timing": ", ".join(f"{stage};dur={1000 * spent:.1f}" for stage, spent in answer.seconds.items())}
        if answer.notes:
            headers["x-mimo-not-kept"] = sentence("; ".join(answer.notes)).encode("ascii", "backslashreplace").decode()
        return Response(answer.data, media_type=f"image/{format_of(answer.data[:64])}", headers=headers)

    async def _result(self, request: Request, job: Job) -> Answer | None:
        """None when the client left first. Raises :class:`Refusal` when time ran out, and what the job's result raises."""
        result = asyncio.wrap_future(job.result)
        left = asyncio.ensure_future(_until_gone(request))
        either: list[asyncio.Future[Any]] = [result, left]
        try:
            with self.meters.whole.time():
                await asyncio.wait(either, timeout=self.limits.seconds, return_when=asyncio.FIRST_COMPLETED)
            if result.done():
                return result.result()
            if left.done():
                self.meters.rejections.labels("left").inc()
                return None
            raise Refusal(
                503,
                "time",
                f"the photograph was not done within {self.limits.seconds:g} seconds: send it smaller, or again when less is "
                "in the queue.",
                retry_after=5,
            )
        finally:
            left.cancel()
            if not result.done():
                self.pool.give_up(job)
                result.cancel()

    def progress(self, number: UUID) -> Progress:
        """Of the photograph with that number. Raises :class:`Refusal`."""
        if number not in self.jobs:
            raise Refusal(404, "job", "no photograph with this job's number is being worked on.")
        job = self.jobs[number]
        if job is None:
            return Progress(state="arriving", before=self.pool.waiting, tile=0, tiles=None, seconds_left=None)
        return Progress(
            state=job.state,
            before=self.pool.place_of(job),
            tile=job.tile,
            tiles=job.tiles,
            seconds_left=self.pool.seconds_left(job),
        )


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def build_app(
    pool: Pool,
    limits: Limits,
    model: dict[str, Any],
    *,
    token: str | None = None,
    hosts: frozenset[str] | None = None,
    started: Callable[[], None] = lambda: None,
) -> FastAPI:
    """The application around ``pool``, which it starts and closes; ``model`` is what ``GET /v1/model`` says of the file."""
    service = Service(pool, limits, model)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        pool.start()
        started()
        yield
        await run_in_threadpool(pool.close)

    app = FastAPI(
        title="mimo serve",
        summary="Photographs in, sharper photographs out.",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Guard, token=token, hosts=hosts, count=service.count)
    _add_service(app, service)
    _add_pages(app)
    _add_errors(app, service)
    return app


def _add_service(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/deblur", response_class=Response, responses=_DEBLUR_ANSWERS, openapi_extra=_BODY, summary="Restore one photograph"
    )
    async def deblur(request: Request, options: Annotated[Options, Query()]) -> Response:
        """The photograph is the body, or the only file of a form. What the file carries besides its pixels is kept; what
        cannot be is said in the header `x-mimo-not-kept`."""
        return await service.deblur(request, options)

    @app.get("/v1/jobs/{job}", responses=_answers(**{"404": "There is none.", "422": "That is no number of a job."}))
    async def progress(job: UUID) -> Progress:
        """Where the photograph stands that was sent with this number."""
        return service.progress(job)

    @app.get("/v1/model", responses=_answers())
    async def model() -> dict[str, Any]:
        """What answers: the file, its lineage and verification, the engine, and the limits."""
        limits = service.limits
        bounds = {
            "megapixels": limits.pixels / 1e6,
            "body_bytes": limits.body,
            "queue": limits.queue,
            "seconds": limits.seconds,
            "workers": service.pool.count,
        }
        return {**service.model, "engine": service.pool.engine, "limits": bounds}

    @app.get("/metrics", response_class=Response, responses=_answers())
    async def metrics() -> Response:
        """In Prometheus' text format."""
        return Response(service.meters.text(), media_type=CONTENT_TYPE)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", responses=_answers(**{"503": "No worker is warm."}))
    async def readyz() -> dict[str, int]:
        """At least one worker is warm."""
        ready = service.pool.workers_ready
        if not ready:
            raise Refusal(503, "warming", "no worker is ready yet: ask again in a moment.", retry_after=1)
        return {"workers": ready}


def _add_pages(app: FastAPI) -> None:
    ours, theirs = files("engines.serving") / "page", files("fastapi_offline") / "static"
    for path, media, source in (
        ("/", "text/html; charset=utf-8", ours / "index.html"),
        ("/page.css", "text/css; charset=utf-8", ours / "page.css"),
        ("/page.js", "text/javascript; charset=utf-8", ours / "page.js"),
        ("/icon.svg", "image/svg+xml", ours / "icon.svg"),
        ("/docs/swagger-ui.js", "text/javascript; charset=utf-8", theirs / "swagger-ui-bundle.js"),
        ("/docs/swagger-ui.css", "text/css; charset=utf-8", theirs / "swagger-ui.css"),
    ):
        # Read now: no path ever comes from a request.
        app.add_api_route(path, _fixed(source.read_bytes(), media), include_in_schema=False)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=app.title,
            swagger_js_url="docs/swagger-ui.js",
            swagger_css_url="docs/swagger-ui.css",
            swagger_favicon_url="icon.svg",
        )


def _fixed(content: bytes, media: str) -> Callable[[], Any]:
    async def answer() -> Response:
        return Response(content, media_type=media)

    return answer


def _add_errors(app: FastAPI, service: Service) -> None:
    def told(refusal: Refusal) -> JSONResponse:
        service.meters.rejections.labels(refusal.reason).inc()
        return refused(refusal)

    @app.exception_handler(Refusal)
    async def of_ours(request: Request, error: Refusal) -> JSONResponse:
        return told(error)

    @app.exception_handler(RequestValidationError)
    async def of_options(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        said = "there is no such option" if first["type"] == "extra_forbidden" else first["msg"][:1].lower() + first["msg"][1:]
        return told(Refusal(422, "option", f"{first['loc'][-1]}: {said}: correct it, or leave it out."))

    @app.exception_handler(HTTPException)
    async def of_addresses(request: Request, error: HTTPException) -> JSONResponse:
        text = {404: "there is nothing at this address: see /docs.", 405: "this address takes another method: see /docs."}
        answer = told(Refusal(error.status_code, "address", text.get(error.status_code, str(error.detail))))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def of_defects(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(
            {"detail": "a defect of the service, not of what you sent: whoever runs it finds it in its log."}, 500
        )
