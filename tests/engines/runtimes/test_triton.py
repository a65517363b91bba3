"""The server as a runtime: a real Triton with its Python backend, started here on loopback."""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import cli
from engines.runtimes.base import Images
from engines.runtimes.onnxruntime import OnnxRuntimeEngine
from engines.runtimes.opening import open_engine
from engines.runtimes.triton import TritonEngine, describe
from export.triton import Backend, export_triton
from mimo.artifact import open_artifact
from mimo.bundled import PHOTOGRAPHS
from mimo.errors import ArtifactError, EngineError, EngineUnavailable, MimoError, ShapeError
from mimo.served import ServedModel, model_path
from mimo.spec import Shape
from tests.tiny import Tiny
from tests.triton_server import Server, running, site_packages

PROTOCOLS = ("grpc", "http")


@pytest.fixture(scope="module")
def server(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """``net`` and ``openvino`` are right; ``wrong`` runs other bytes than it says, ``damaged`` none at all; ``foreign`` and
    ``other-types`` have a changed configuration.
    """
    folder = tmp_path_factory.mktemp("triton")
    repository = folder / "models"
    source = open_artifact(tiny.onnx)

    def add(name: str, backend: Backend = "python-onnxruntime") -> Path:
        packages = site_packages()
        export_triton(source, repository, name=name, backend=backend, warm_up=Shape(1, 32, 32), site_packages=packages)
        return repository / name

    add("net")
    add("openvino", "python-openvino")
    shutil.copy(tiny.fp16, add("wrong") / "1" / "model.onnx")
    (add("damaged") / "1" / "model.onnx").write_bytes(b"no graph")
    for name, old, new in (("foreign", "mimo.lineage", "other.lineage"), ("other-types", "TYPE_FP32", "TYPE_FP16")):
        path = add(name) / "config.pbtxt"
        text = path.read_text().split("model_warmup")[0] + "parameters" + path.read_text().split("} ]\nparameters", 1)[1]
        assert old in text
        path.write_text(text.replace(old, new))
    with running(repository, ["net", "openvino", "wrong", "foreign", "other-types"], folder) as started:
        yield started


def model(url: str) -> ServedModel:
    path = model_path(url)
    assert isinstance(path, ServedModel)
    return path


def pictures(*shape: int) -> Images:
    return np.random.default_rng(shape[2]).random(shape, dtype=np.float32)


def run(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    return done.exit_code, done.output if isinstance(done.exception, SystemExit | None) else str(done.exception)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    with Image.open(sorted((PHOTOGRAPHS / "blur").glob("*.png"))[0]) as photograph:
        photograph.crop((200, 100, 270, 150)).save(folder / "a.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("shared", [True, False])
def test_the_server_gives_the_runtime_s_own_pictures(tiny: Tiny, server: Server, protocol: str, shared: bool) -> None:
    local = OnnxRuntimeEngine(open_artifact(tiny.onnx), threads=1)
    with local, TritonEngine(model(server.url("net", protocol)), shared_memory=shared) as engine:
        assert engine.name == f"triton {protocol}{' shm' if shared else ''} cpu fp32"
        # Larger, then smaller: the shared memory grows, and what was there before is not seen.
        for shape in ((1, 3, 32, 48), (2, 3, 64, 48), (1, 3, 16, 16)):
            images = pictures(*shape)
            np.testing.assert_allclose(engine(images), local(images), atol=1e-6)
        with pytest.raises(ShapeError):
            engine(pictures(1, 3, 30, 32))
        assert engine.counters()["server_requests"] > 0


@pytest.mark.slow
def test_no_shared_memory_is_left(server: Server) -> None:
    before = set(os.listdir("/dev/shm"))  # noqa: PTH208
    with TritonEngine(model(server.url("net")), shared_memory=True) as engine:
        engine(pictures(1, 3, 32, 48))
        assert len({name for name in set(os.listdir("/dev/shm")) - before if name.startswith("psm_")}) >= 2  # noqa: PTH208
        mine = [region._memory.name for region in engine._regions.values()]
    assert not set(mine) & set(os.listdir("/dev/shm"))  # noqa: PTH208


@pytest.mark.slow
def test_openvino_serves_the_same_file(tiny: Tiny, server: Server) -> None:
    images = pictures(2, 3, 32, 48)
    with OnnxRuntimeEngine(open_artifact(tiny.onnx), threads=1) as local, TritonEngine(model(server.url("openvino"))) as engine:
        np.testing.assert_allclose(engine(images), local(images), atol=1e-5)


@pytest.mark.slow
def test_the_lineage_is_that_of_the_file(tiny: Tiny, server: Server) -> None:
    found, source = describe(model(server.url("net"))), open_artifact(tiny.onnx)
    assert (found.device, found.compute) == ("cpu", "fp32")
    assert found.artifact.sha256 == source.sha256
    assert found.artifact.lineage() == source.lineage()
    code, said = run("inspect", server.url("net"))
    assert code == 0
    assert source.checkpoint_sha256 in said


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_verify_then_bench_then_deblur(
    tiny: Tiny, server: Server, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.chdir(tmp_path)
    url = server.url("net", protocol)
    code, said = run("verify", url, "--against", tiny.checkpoint, "--images", photographs, "--size", "48x64")
    assert code == 0, said
    (entry,) = json.loads((tmp_path / "net.verification.json").read_text())
    assert (entry["status"], entry["reference"], entry["sha256"]) == ("passed", "PyTorch FP32", open_artifact(tiny.onnx).sha256)

    arguments = ("--size", "32x48", "--max-seconds", "0.2", "--throughput", "2", "--json", "b.json", "--csv", "b.csv")
    code, said = run("bench", url, "--sync", *arguments, "--html", "b.html", "--images", photographs)
    assert code == 0, said
    assert "server server" in " ".join(said.split()), "two columns, each heading on two lines"
    assert "queue compute checked" in " ".join(said.split())
    assert "on the server, mean of a request: queue" in said
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    for row, ours in zip(rows, (1, 2), strict=True):
        assert row["reason"] is None
        assert row["verified"] == "verified"
        assert row["limits"] is row["memory"] is None, "this machine's are not the server's"
        assert abs(row["server"]["requests"] - ours * row["summary"]["n"]) <= ours
        spent = sum(row["server"][part] for part in ("queue", "input", "inference", "output"))
        assert 0 < spent < ours * row["summary"]["mean"]
        assert not [key for state in row["states"] for key in state if key.startswith("server_")]
    (line, _) = csv.DictReader((tmp_path / "b.csv").read_text().splitlines())
    assert float(line["server_inference_s"]) == rows[0]["server"]["inference"]
    assert "server: queue" in (tmp_path / "b.html").read_text()

    for name, source in (("far", url), ("near", str(tiny.onnx))):
        engine = () if source == url else ("--engine", "onnxruntime")
        code, said = run("deblur", photographs, "--out", tmp_path / name, "--model", source, *engine)
        assert code == 0, said
    with Image.open(tmp_path / "far" / "a.png") as far, Image.open(tmp_path / "near" / "a.png") as near:
        np.testing.assert_array_equal(np.asarray(far), np.asarray(near))


@pytest.mark.slow
def test_a_server_that_runs_something_else_fails_the_verification(
    tiny: Tiny, server: Server, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = server.url("wrong")
    code, said = run("verify", url, "--against", tiny.checkpoint, "--images", photographs, "--size", "48x64")
    assert code == 1, said
    assert json.loads((tmp_path / "wrong.verification.json").read_text())[0]["status"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("name", "kind", "cause"),
    [
        ("nothing", EngineUnavailable, "is not there, but .*net"),
        ("net/7", EngineUnavailable, "is not there, but .*net"),
        ("damaged", EngineUnavailable, "is not (there|ready)"),
        ("foreign", ArtifactError, "does not say where it comes from"),
        ("other-types", ArtifactError, "has the inputs blur FP16 of 4 dimensions instead of blur FP32"),
    ],
)
def test_what_cannot_be_used_is_said(server: Server, protocol: str, name: str, kind: type[MimoError], cause: str) -> None:
    with pytest.raises(kind, match=cause):
        open_engine(model(server.url(name, protocol)))


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_batch_that_takes_too_long_is_an_error_and_the_engine_goes_on(server: Server, protocol: str) -> None:
    with TritonEngine(model(server.url("net", protocol)), seconds=0.02, shared_memory=False) as engine:
        with pytest.raises(EngineError, match=r"did not answer within 0\.02 s"):
            engine(pictures(2, 3, 256, 384))
        engine._server._seconds = 100.0
        if protocol == "grpc":
            assert np.isfinite(engine(pictures(1, 3, 16, 16))).all()


@pytest.mark.slow
def test_the_wrong_port_is_named(server: Server) -> None:
    with pytest.raises(EngineUnavailable, match="does not speak Triton's http"):
        describe(model(f"triton+http://127.0.0.1:{server.grpc}/net"))
    with pytest.raises(EngineUnavailable, match="no Triton server answers"):
        describe(model(f"triton://127.0.0.1:{server.http}/net"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (("--device", "cuda"), "computes on cpu, as its server was told to"),
        (("--precision", "bf16"), "computed in fp32"),
        (("--threads", "1"), "--threads is for what runs here"),
        (("--engine", "openvino"), "is a model on a Triton server"),
    ],
)
def test_options_that_the_server_decides_are_refused(
    server: Server, photographs: Path, tmp_path: Path, arguments: tuple[str, ...], cause: str
) -> None:
    code, said = run("deblur", photographs, "--out", tmp_path / "out", "--model", server.url("net"), *arguments)
    assert code != 0
    assert cause in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("scheme", ["triton", "triton+http"])
def test_no_server_is_one_sentence(scheme: str, photographs: Path, tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # nobody listens
        url = f"{scheme}://127.0.0.1:{held.getsockname()[1]}/net"
        for arguments in (
            ("deblur", photographs, "--out", tmp_path / "out", "--model", url),
            ("bench", url),
            ("verify", url),
            ("eval", url),
        ):
            code, said = run(*arguments)
            assert code != 0
            assert f"no Triton server answers {url}" in said
            assert "start it" in said
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_model_of_a_server(tiny: Tiny) -> None:
    with pytest.raises(EngineUnavailable, match="takes a model on a Triton server only: add it to"):
        open_engine(tiny.onnx, "triton")
