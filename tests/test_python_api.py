"""The page on the Python API: its program runs as it stands, from another project, and is typed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny import Tiny

ROOT = Path(__file__).parent.parent
(PROGRAM,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python-api.md").read_text(encoding="utf-8"), re.DOTALL)

TOLD = """
print(checkpoint.spec.name, plan.receipt, *(one.status for one in results))
assert latency.median > 0 and len(latency.synchronised) >= 1
"""


@pytest.fixture
def project(tiny: Tiny, tmp_path: Path) -> Path:
    """Somebody else's project: a checkpoint, a photograph and the program."""
    shutil.copy(tiny.checkpoint, tmp_path / "network.safetensors")
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "blurry.png")
    (tmp_path / "program.py").write_text(PROGRAM + TOLD, encoding="utf-8")
    return tmp_path


def test_it_is_about_ten_lines() -> None:
    lines = [line for line in PROGRAM.splitlines() if line.strip() and not line.startswith(("from ", "import "))]
    assert len(lines) <= 12


@pytest.mark.slow
def test_the_straight_line_runs_from_another_project(project: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    outcome = subprocess.run(
        [sys.executable, "program.py"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.strip() == "mimo-unet-w8-b1 convolutions: 40 in fp16; inner casts: 0 passed passed"
    with Image.open(project / "sharp.png") as sharp:
        assert sharp.size == (70, 50)


def test_every_room_is_typed() -> None:
    for room in ("benchmarks", "engines", "export", "mimo"):
        assert (ROOT / room / "py.typed").is_file(), f"{room} has no py.typed"
