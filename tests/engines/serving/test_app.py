"""The addresses of the service, asked over real connections, with a real engine behind them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image

from engines.photographs import restore_bytes
from engines.runtimes.opening import open_engine
from engines.serving.settings import Limits
from engines.serving.worker import Order
from tests.engines.serving.running import Running, running, until
from tests.engines.serving.workers import DEADLY, PLAIN, SLOW, acting_worker
from tests.mimo.test_images import png
from tests.tiny import Tiny

LIMITS = Limits(pixels=100_000, body=200_000, held=400_000, queue=4)


def photograph(kind: str, seed: int = 0, size: tuple[int, int] = (40, 56)) -> bytes:
    samples = np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(samples).save(file, kind, exif=exif)
    return file.getvalue()


def form(data: bytes, *, name: str = "photograph", before: bytes = b"", filename: str = "x.png") -> tuple[bytes, str]:
    head = f'--B\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'.encode()
    return before + head + data + b"\r\n--B--\r\n", "multipart/form-data; boundary=B"


@pytest.fixture(scope="module")
def service(tiny: Tiny) -> Iterator[Running]:
    with running(tiny.onnx, LIMITS) as found:
        yield found


@pytest.fixture(scope="module")
def acting(tiny: Tiny) -> Iterator[Running]:
    with running(tiny.onnx, replace(LIMITS, queue=1), target=acting_worker) as found:
        yield found


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp"])
@pytest.mark.parametrize("query", ["", "?strength=0.5", "?tile=100&context=8"])
def test_the_answer_is_what_the_command_would_write(service: Running, tiny: Tiny, kind: str, query: str) -> None:
    data = photograph(kind)
    reply = service.deblur(data, query)
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"] == f"image/{kind}"
    options = {"strength": 0.5} if "strength" in query else {"tile": 100, "context": 8} if query else {}
    with open_engine(tiny.onnx, "onnxruntime", threads=1) as engine:
        expected = restore_bytes(engine, data, **options)
    assert reply.body == expected.data
    with Image.open(io.BytesIO(reply.body)) as image:
        assert image.size == (40, 56), "upright"
        assert image.getexif()[0x010F] == "a camera"


def test_a_form_gives_the_same_whatever_its_file_is_called(service: Running) -> None:
    data = photograph("png")
    body, media = form(data, filename="../../etc/passwd")
    reply = service.deblur(body, content_type=media)
    assert reply.status == 200
    assert reply.body == service.deblur(data).body
    assert service.deblur(data, content_type="application/x-www-form-urlencoded").body == reply.body, "as curl sends it"


def test_every_stage_is_told(service: Running) -> None:
    reply = service.deblur(photograph("png"))
    assert [part.split(";")[0] for part in reply.headers["server-timing"].split(", ")] == [
        "queue",
        "decode",
        "inference",
        "encode",
    ]
    assert reply.headers["cache-control"] == "no-store"
    text = service.ask("GET", "/metrics").body.decode()
    for stage in ("queue", "decode", "inference", "encode"):
        assert f'mimo_stage_seconds_count{{stage="{stage}"}}' in text
    assert 'mimo_requests_total{path="/v1/deblur",status="200"}' in text
    assert "mimo_queue_depth 0.0" in text


def test_the_model_is_told_with_its_lineage_and_no_folder(service: Running, tiny: Tiny) -> None:
    body = service.ask("GET", "/v1/model").body
    model = json.loads(body)
    assert model["file"] == tiny.onnx.name
    assert len(model["sha256"]) == 64
    assert model["lineage"]["checkpoint_sha256"]
    assert model["engine"]["compute"] == "fp32"
    assert model["verification"] is None
    assert model["limits"]["megapixels"] == 0.1
    assert str(tiny.folder).encode() not in body


BOMB = png(np.zeros((1, 1, 3), np.uint8), 100_000, 100_000)
LARGE = png(np.zeros((1, 1, 3), np.uint8), 400, 300)


@pytest.mark.parametrize(
    ("data", "query", "status", "says"),
    [
        (b"", "", 422, "no photograph in the request"),
        (b"no picture at all", "", 422, "no PNG, JPEG, TIFF or WebP"),
        (photograph("png")[:200], "", 422, "damaged or cut off"),
        (photograph("jpeg")[:1500], "", 422, "damaged or cut off"),
        (BOMB, "", 422, "over the limit of 200 megapixels"),
        (LARGE, "", 413, "400 x 300 pixels, over the limit of 0.1 megapixels"),
        (bytes(LIMITS.body + 1), "", 413, "larger than"),
        (photograph("png"), "?strength=2", 422, "strength"),
        (photograph("png"), "?strength=nan", 422, "strength"),
        (photograph("png"), "?stregth=1", 422, "stregth: there is no such option"),
        (photograph("png"), "?tile=63", 422, "tile"),
        (photograph("png"), "?tile=65536", 422, "tile must be at most"),
        (photograph("png"), "?context=60000", 422, "context must be at most"),
        (photograph("png"), "?job=../../x", 422, "job"),
    ],
)
def test_each_fault_has_one_answer(service: Running, data: bytes, query: str, status: int, says: str) -> None:
    reply = service.deblur(data, query)
    assert (reply.status, says in reply.detail) == (status, True), reply.body


@pytest.mark.parametrize(
    "body",
    [
        form(b"")[0],
        form(photograph("png"))[0][:-100],
        form(photograph("png"), before=b'--B\r\nContent-Disposition: form-data; name="strength"\r\n\r\n0.5\r\n')[0],
        form(photograph("png"), before=form(photograph("png"))[0].removesuffix(b"--\r\n") + b"\r\n")[0],
        b"--B\r\n\r\n\r\n--B--\r\n",
        b"nothing",
    ],
    ids=["empty", "cut off", "an option", "two files", "no name", "nothing"],
)
def test_a_form_that_is_not_one_file_is_refused(service: Running, body: bytes) -> None:
    reply = service.deblur(body, content_type="multipart/form-data; boundary=B")
    assert reply.status == 422
    assert reply.detail
    assert service.deblur(body, content_type="multipart/form-data").status == 422


def test_other_addresses_and_methods_are_json_too(service: Running) -> None:
    assert service.ask("GET", "/../../etc/passwd").status == 404
    assert service.ask("GET", "/nothing").detail.startswith("there is nothing at this address")
    assert service.ask("GET", "/v1/deblur").status == 405
    assert service.ask("GET", f"/v1/jobs/{uuid4()}").status == 404
    assert service.ask("GET", "/v1/jobs/1").status == 422


def test_it_answers_to_its_own_name_only(service: Running) -> None:
    assert service.ask("GET", "/v1/model", headers={"Host": "elsewhere.example"}).status == 421
    assert service.deblur(photograph("png"), sec_fetch_site="cross-site", sec_fetch_mode="cors").status == 403


def test_the_pages_fetch_nothing_from_elsewhere(service: Running) -> None:
    for path in ("/", "/page.css", "/page.js", "/icon.svg", "/docs", "/docs/swagger-ui.css", "/docs/swagger-ui.js"):
        reply = service.ask("GET", path)
        assert reply.status == 200, path
        assert "default-src 'self'" in reply.headers["content-security-policy"]
        if "swagger-ui" not in path:
            assert b"https://" not in reply.body
            assert b"http://" not in reply.body.replace(b"http://www.w3.org/2000/svg", b"")
    assert "/v1/deblur" in json.loads(service.ask("GET", "/openapi.json").body)["paths"]


def test_a_token_guards_all_but_the_page_and_the_signs_of_life(tiny: Tiny) -> None:
    token = "0123456789abcdef"
    with running(tiny.onnx, LIMITS, target=acting_worker, token=token, hosts=None) as service:
        data = photograph("png")
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": f"Basic {token}"},
            {"authorization": "Bearer"},
        ):
            for method, path in (("POST", "/v1/deblur"), ("GET", "/v1/model"), ("GET", "/metrics"), ("GET", "/v1/unknown")):
                reply = service.ask(method, path, data if method == "POST" else None, headers)
                assert reply.status == 401, path
                assert "Bearer" in reply.headers["www-authenticate"]
                assert token not in reply.detail
        assert service.deblur(data, authorization=f"Bearer {token}").status == 200
        for path in ("/", "/healthz", "/readyz", "/docs"):
            assert service.ask("GET", path).status == 200


def test_a_full_queue_is_429_before_the_body_is_read(acting: Running) -> None:
    jobs = [acting.pool.submit(b"x", Order(16, 16, SLOW)) for _ in range(2)]
    try:
        reply = acting.deblur(photograph("png"))
        assert reply.status == 429
        assert int(reply.headers["retry-after"]) >= 1
        assert "waiting" in reply.detail
    finally:
        for job in jobs:
            acting.pool.give_up(job)
    until(lambda: acting.pool.working == 0)
    assert acting.deblur(photograph("png")).status == 200


def test_time_that_runs_out_is_503_and_the_work_is_given_up(tiny: Tiny) -> None:
    with running(tiny.onnx, replace(LIMITS, seconds=0.3), target=acting_worker) as service:
        reply = service.deblur(photograph("png"), f"?strength={SLOW}")
        assert reply.status == 503
        assert "not done within 0.3 seconds" in reply.detail
        until(lambda: service.pool.working == 0)
        assert service.pool.replaced == 0
        assert service.deblur(photograph("png"), f"?strength={PLAIN}").status == 200


def test_a_photograph_that_ends_its_worker_is_503_and_the_next_is_done(acting: Running) -> None:
    reply = acting.deblur(photograph("png"), f"?strength={DEADLY}")
    assert reply.status == 503
    assert "the worker ended" in reply.detail
    assert acting.deblur(photograph("png")).status == 200


def test_it_is_alive_before_it_is_ready(tiny: Tiny) -> None:
    with running(tiny.onnx, LIMITS, ready=False) as service:
        assert service.ask("GET", "/healthz").status == 200
        first = service.ask("GET", "/readyz")
        assert first.status in (200, 503)
        assert first.status == 200 or first.detail.startswith("no worker is ready")
        until(lambda: service.ask("GET", "/readyz").status == 200)
