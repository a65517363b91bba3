"""Nobody is told: no name is looked up, and nothing is left in the home, by any command that starts a runtime."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import Tiny

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    out = tmp_path_factory.mktemp("preload") / "name_lookups.so"
    source = Path(__file__).with_name("name_lookups.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(out), str(source), "-ldl"], check=True)
    return out


class Watched:
    """Runs Python programs in a fresh home with every look-up noted."""

    def __init__(self, library: Path, folder: Path) -> None:
        self.home, self.lookups, self.work = folder / "home", folder / "lookups", folder / "work"
        self.home.mkdir()
        self.work.mkdir()
        kept = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        self._environment = kept | {
            "HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "LD_PRELOAD": str(library),
            "LOOKUPS": str(self.lookups),
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=self.work, env=self._environment, capture_output=True, text=True, check=False)

    def noted(self) -> str:
        return self.lookups.read_text() if self.lookups.is_file() else ""

    def left(self) -> list[str]:
        return sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*") if path.is_file())


@pytest.fixture
def watched(library: Path, tmp_path: Path) -> Watched:
    return Watched(library, tmp_path)


def test_a_look_up_would_be_seen(watched: Watched) -> None:
    watched.run("-c", "import socket\ntry: socket.getaddrinfo('example.invalid', 80)\nexcept OSError: pass")
    assert watched.noted() == "getaddrinfo example.invalid\n"


@pytest.mark.slow
def test_no_command_looks_anybody_up_or_leaves_anything_in_the_home(tiny: Tiny, watched: Watched) -> None:
    for path in (tiny.checkpoint, tiny.onnx):
        shutil.copy(path, watched.work)
    photograph = next((ROOT / "mimo" / "photographs" / "blur").glob("*.png"))
    (watched.work / "photographs").mkdir()
    crop = "import pyvips, sys\npyvips.Image.new_from_file(sys.argv[1]).crop(0, 0, 64, 48).write_to_file('photographs/a.png')"
    assert watched.run("-c", crop, str(photograph)).returncode == 0
    name = tiny.onnx.name
    for arguments, code in (
        (("export", tiny.checkpoint.name, "--out", "again.onnx"), 0),
        (("verify", name, "--against", tiny.checkpoint.name, "--images", "photographs", "--size", "32x32"), 0),
        (("deblur", "photographs", "--out", "a", "--model", name, "--engine", "openvino"), 0),
        (("deblur", "photographs", "--out", "b", "--model", name, "--engine", "onnxruntime"), 0),
        (("doctor",), 0),
    ):
        done = watched.run("-m", "cli", *arguments)
        assert done.returncode == code, done.stderr
        assert (watched.noted(), watched.left()) == ("", []), arguments


@pytest.mark.slow
def test_the_library_without_the_command_line_tells_nobody_either(tiny: Tiny, watched: Watched) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nimport numpy as np\nfrom engines.runtimes.opening import open_engine\n"
        "for runtime in ('openvino', 'onnxruntime'):\n"
        "    with open_engine(Path(sys.argv[1]), runtime, 'cpu') as engine:\n"
        "        engine(np.zeros((1, 3, 16, 16), np.float32))\n"
        "time.sleep(1)\n"
    )
    done = watched.run("-c", program, str(tiny.onnx))
    assert done.returncode == 0, done.stderr
    assert (watched.noted(), watched.left()) == ("", [])


def test_the_runtimes_are_imported_in_one_place_only() -> None:
    """Any other import of them would come before what switches their reports off."""
    found = []
    for folder in ("mimo", "export", "engines", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name == "triton_model.py":
                continue  # it runs on a server where there is no mimo, see the next test
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                    if isinstance(node, ast.ImportFrom)
                    else []
                )
                found += [str(path) for name in names if name.partition(".")[0] in ("onnxruntime", "openvino")]
    assert not found


def test_what_runs_on_a_triton_server_switches_reports_off_before_it_imports_a_runtime() -> None:
    text = (ROOT / "export" / "triton_model.py").read_text(encoding="utf-8")
    for switch, runtime in (("ORT_DISABLE_TELEMETRY", "onnxruntime"), ("openvino_telemetry", "openvino")):
        assert 0 < text.index(switch) < text.index(f"    import {runtime}")
