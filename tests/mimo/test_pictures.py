"""One answer to what is a picture in a folder, and one bad entry that stops nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engines.photograph_files import Failure, find_photographs
from engines.sample_images import list_photographs
from mimo import pictures
from mimo.errors import ImageError
from mimo.learning.datasets import not_regular, pictures_in
from mimo.pictures import is_picture, pictures_below, pictures_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures among everything that is none."""
    place = tmp_path / "in"
    (place / "folder.png").mkdir(parents=True)
    (place / ".hidden").mkdir()
    for name in ("b.png", "a.JPG", "._a.JPG", ".hidden.png", ".hidden/c.png", "notes.txt", "png"):
        (place / name).write_bytes(b"x")
    os.mkfifo(place / "pipe.png")
    (place / "device.png").symlink_to(os.devnull)
    return place


def test_every_command_lists_the_same(folder: Path) -> None:
    expected = [folder / "a.JPG", folder / "b.png"]
    assert pictures_of(folder) == expected
    assert list(pictures_below(folder, lambda below: True)) == expected
    assert list_photographs(folder) == expected
    assert list(pictures_in(folder).values()) == expected
    assert [job.source for job in find_photographs([folder], folder.parent / "out")] == expected
    assert sorted(not_regular(folder)) == ["device.png", "folder.png", "pipe.png"]


def test_a_rule_about_names_holds_everywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one function to change, not one a command."""
    monkeypatch.setattr(pictures, "_has_its_name", lambda path, suffixes: path.name == "notes.txt")
    expected = [folder / "notes.txt"]
    assert pictures_of(folder) == expected == list_photographs(folder) == list(pictures_in(folder).values())
    assert [job.source for job in find_photographs([folder], folder.parent / "out")] == expected


def test_a_link_that_leads_nowhere_is_left_to_the_reader(folder: Path) -> None:
    for name, leads_to in (("loop.png", "loop.png"), ("gone.png", "missing"), ("link.png", "b.png")):
        (folder / name).symlink_to(leads_to)
        assert is_picture(folder / name)
    jobs = find_photographs([folder, folder / "loop.png"], folder.parent / "out")
    assert folder / "loop.png" in [job.source for job in jobs]


def test_a_folder_that_cannot_be_entered_is_told_and_the_rest_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "lost+found").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "lost+found":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    failed: list[Failure] = []
    assert len(find_photographs([folder], folder.parent / "out", failed)) == 2
    assert [(one.source.name, "cannot be listed (Permission denied)" in one.reason) for one in failed] == [("lost+found", True)]
    with pytest.raises(ImageError, match=r"lost\+found cannot be listed"):
        find_photographs([folder], folder.parent / "out")
    with pytest.raises(ImageError, match="cannot be listed"):
        pictures_of(folder / "missing")
