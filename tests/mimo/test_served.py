"""URLs of models on a server among the paths."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from mimo.errors import MimoError
from mimo.served import ServedModel, model_path


@pytest.mark.parametrize(
    ("text", "url", "protocol", "address", "name", "version", "local"),
    [
        ("triton://localhost:8001/net", "triton://localhost:8001/net", "grpc", "localhost:8001", "net", "", True),
        ("triton://gpu-7.x/a.b_c/3", "triton://gpu-7.x:8001/a.b_c/3", "grpc", "gpu-7.x:8001", "a.b_c", "3", False),
        ("TRITON+HTTP://127.0.0.1/net/", "triton+http://127.0.0.1:8000/net", "http", "127.0.0.1:8000", "net", "", True),
        ("triton://[::1]:9/net", "triton://[::1]:9/net", "grpc", "[::1]:9", "net", "", True),
        ("triton://127.0.0.1.x/net", "triton://127.0.0.1.x:8001/net", "grpc", "127.0.0.1.x:8001", "net", "", False),
    ],
)  # fmt: skip
def test_a_url_says_the_same_after_it_was_taken_for_a_path(
    text: str, url: str, protocol: str, address: str, name: str, version: str, local: bool
) -> None:
    model = model_path(text)
    assert isinstance(model, ServedModel)
    assert (str(model), model.protocol, model.address, model.name, model.version) == (url, protocol, address, name, version)
    assert model.is_local is local
    assert not model.exists()
    assert model == model_path(url) == pickle.loads(pickle.dumps(model))
    assert model.with_name(f"{name}.json") == model.parent / f"{name}.json" == Path(f"{name}.json")


@pytest.mark.parametrize("text", ["model.onnx", "a/b", "triton:/localhost/net", "C:\\net", ".", "triton"])
def test_everything_else_is_a_path(text: str) -> None:
    assert model_path(text) == Path(text)
    assert not isinstance(model_path(text), ServedModel)


@pytest.mark.parametrize(
    "text",
    [
        "http://localhost:8000/net", "triton://localhost:8001", "triton://localhost:8001/", "triton:///net",
        "triton://localhost:0/net", "triton://localhost:65536/net", "triton://localhost:x/net", "triton://u@h/net",
        "triton://h/../net", "triton://h/net/one", "triton://h/net/1/2", "triton://h/a b", "triton://h/net?x=1",
    ],
)  # fmt: skip
def test_other_urls_are_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(MimoError, match="names no model on a server: write triton://HOST:PORT/MODEL"):
        model_path(text)
