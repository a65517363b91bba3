"""What the documents for contributors name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("", "mimo", "export", "engines", "benchmarks")


def named(page: str) -> set[str]:
    """Files and folders between backticks, such as ``spec.py``, ``runtimes/table.py`` or ``containers/``."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return {name for name in re.findall(r"`([\w./-]+(?:\.py|\.md|/))`", text) if "<" not in name}


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/runtimes.md", "docs/add-a-network.md"])
def test_every_file_named_exists(page: str) -> None:
    names = named(page) - {"mimo/networks/toy.py"}
    assert len(names) >= 3
    missing = {name for name in names if not any((ROOT / room / name).exists() for room in ROOMS)}
    assert not missing - {"commands.py"}


def test_every_room_of_the_top_level_is_described() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for room in ("mimo", "export", "engines", "benchmarks", "tests"):
        assert f"**`{room}/`**" in text


def test_the_five_recipes_stand_in_the_guide() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert re.findall(r"^## Add an? ([\w ]+)$", text, re.MULTILINE) == [
        "network",
        "runtime",
        "export target",
        "command",
        "statistic",
    ]
