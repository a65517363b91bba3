"""Earlier spellings of the command line: what they become today, and what is said of it."""

from __future__ import annotations

import pytest

from mimo.spellings import modern


@pytest.mark.parametrize(
    ("written", "today", "said"),
    [
        (
            "table --no-fates --only nafnet-32",
            "table --no-check-export --only nafnet-32",
            "--no-fates is now --no-check",
        ),
        ("bench table --fates", "table --check-export", "mimo bench table is now mimo table. mimo table --fates is now"),
        ("bench table", "table", "mimo bench table is now mimo table."),
        ("bench a.onnx --atlas", "sweep a.onnx", "mimo bench --atlas is now mimo sweep."),
        ("bench a b --compare", "compare a b", "mimo bench --compare is now mimo compare."),
        ("table --check-export", "table --check-export", None),
        ("bench a.onnx", "bench a.onnx", None),
        ("deblur --fates", "deblur --fates", None),
    ],
)
def test_an_earlier_spelling_becomes_todays(written: str, today: str, said: str | None) -> None:
    words, remark = modern(written.split())
    assert words == today.split()
    assert remark is None if said is None else remark is not None and said in remark
