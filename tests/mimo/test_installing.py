"""A cure is a command that works where this is installed."""

from __future__ import annotations

import ast
import json
import re
from importlib import metadata
from pathlib import Path

import pytest

from mimo import installing
from mimo.installing import NAME, install

ROOT = Path(__file__).parents[2]


def at(monkeypatch: pytest.MonkeyPatch, origin: dict[str, object]) -> None:
    monkeypatch.setattr(installing, "_origin", lambda: origin)


def test_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = tmp_path / "my clone"
    clone.mkdir()
    at(monkeypatch, {"url": clone.as_uri(), "dir_info": {"editable": True}})
    assert install("cpu", "torch") == f"pip install -e '{clone}[cpu,torch]'"
    at(monkeypatch, {"url": clone.as_uri(), "dir_info": {}})
    assert install("cpu") == f"pip install '{clone}[cpu]'"


def test_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "mimo_deblur-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"x")
    at(monkeypatch, {"url": wheel.as_uri(), "archive_info": {}})
    assert install("cpu") == f"pip install '{NAME}[cpu] @ {wheel.as_uri()}'"


def test_a_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, {"url": "https://example.org/mimo.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}})
    assert install("eval") == f"pip install '{NAME}[eval] @ git+https://example.org/mimo.git@abc'"


def test_not_installed_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, {})
    assert install("cpu") == f"pip install -e '{ROOT}[cpu]'"


def test_a_wheel_that_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Then what the extra needs is named itself: every index has that."""
    at(monkeypatch, {"url": "file:///gone/mimo.whl"})
    monkeypatch.setattr(installing, "__file__", str(tmp_path / "site-packages" / "mimo" / "installing.py"))
    monkeypatch.setattr(
        metadata,
        "requires",
        lambda name: [
            "numpy>=2.0",
            "onnxruntime>=1.22; extra == 'cpu'",
            'openvino>=2025.2 ; extra == "cpu"',
            "mimo-deblur[torch,cpu]; extra == 'train'",
            "torch<=2.13.0,>=2.11; extra == 'torch'",
        ],
    )
    assert install("cpu") == "pip install 'onnxruntime>=1.22' 'openvino>=2025.2'"
    assert install("train") == "pip install 'torch<=2.13.0,>=2.11' 'onnxruntime>=1.22' 'openvino>=2025.2'"


def test_the_record_of_the_installation_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed:
        text: str | None = json.dumps({"url": "file:///x"})

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return self.text

    installed = Installed()
    monkeypatch.setattr(metadata, "distribution", lambda name: installed)
    assert installing._origin() == {"url": "file:///x"}
    for text in (None, "", "[]", "{"):
        installed.text = text
        assert installing._origin() == {}


def test_no_message_names_an_index_that_does_not_have_this_project() -> None:
    for folder in ("mimo", "export", "engines", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and path.name != "installing.py":
                    assert not re.search(r"pip install '?mimo-deblur", node.value), f"{path}: use mimo.installing.install"
