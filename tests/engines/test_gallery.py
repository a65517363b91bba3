from __future__ import annotations

import base64
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.evaluation import Evaluation, PictureScore, Step
from engines.gallery import Gallery
from mimo.errors import OutputError
from mimo.metrics import DESCRIPTIONS, Whole

BEFORE = {"psnr": 24.5, "ssim_rgb": 0.71, "ssim_matlab3d": 0.8}
AFTER = {"psnr": 25.25, "ssim_rgb": 0.75, "ssim_matlab3d": 0.79}


class Page(HTMLParser):
    """Every start tag with its attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def steps(count: int, height: int = 24, width: int = 32, name: str = "scene_{}.png") -> list[Step]:
    before, after, truth = (Whole(np.full((3, height, width), level, np.float32)) for level in (0.25, 0.75, 0.85))
    scores = [PictureScore(name.format(place), f"scene{place % 2}", AFTER, BEFORE) for place in range(count)]
    return [Step(place, count, score, before, after, truth) for place, score in enumerate(scores, 1)]


def write(folder: Path, all_steps: list[Step], title: str = "title", limit: int = 60) -> str:
    gallery = Gallery(limit)
    for step in all_steps:
        gallery.add(step)
    evaluation = Evaluation("mimo", tuple(step.score for step in all_steps), {"engine": "<fake> & co"}, {"numpy": "2.0"})
    gallery.write(folder / "page.html", evaluation, title)
    return (folder / "page.html").read_text(encoding="utf-8")


def test_the_page_is_whole_and_every_picture_can_be_chosen_and_enlarged_without_a_script(tmp_path: Path) -> None:
    page = Page(write(tmp_path, steps(3)))
    assert page.open == []
    assert page.all("script") == []
    chosen = [box["name"] for box in page.all("input") if box["type"] == "radio"]
    assert {name: chosen.count(name) for name in chosen} == {"view1": 4, "view2": 4, "view3": 4}, "side by side and each alone"
    assert sum(box["type"] == "checkbox" for box in page.all("input")) == 3
    assert [image["alt"] for image in page.all("img")[:3]] == [
        f"scene_0.png, {kind}" for kind in ("blurry", "restored", "sharp")
    ]
    assert len(page.all("img")) == 9
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")


def test_photographs_of_ones_own_have_no_truth_and_no_numbers(tmp_path: Path) -> None:
    gallery = Gallery()
    step = steps(1)[0]
    assert step.before is not None
    gallery.add_photograph(Path("folder/mine.jpg"), 1, 1, step.before, step.after)
    gallery.write_photographs(tmp_path / "page.html", 1, "Deblurred by x", {"engine": "fake"})
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert [image["alt"] for image in page.all("img")] == ["mine.jpg, blurry", "mine.jpg, restored"]
    assert "1 photograph, before and after." in page.text
    assert page.all("table") == []


def test_nothing_comes_from_outside(tmp_path: Path) -> None:
    html = write(tmp_path, steps(2))
    page = Page(html)
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not re.search(r"https?:|//|url\(|@import", re.sub(r'src="data:[^"]*"', "", html))
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy is not None
    assert "default-src 'none'" in policy


def test_the_pictures_are_embedded_before_first(tmp_path: Path) -> None:
    levels = []
    for image in Page(write(tmp_path, steps(1))).all("img"):
        kind, _, data = (image["src"] or "").partition(",")
        assert kind == "data:image/webp;base64"
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert picture.size == (32, 24)
        levels.append(float(np.asarray(picture).mean()) / 255)
    assert levels == pytest.approx([0.25, 0.75, 0.85], abs=0.02)


def test_large_pictures_are_embedded_smaller_and_the_page_says_so(tmp_path: Path) -> None:
    page = Page(write(tmp_path, steps(1, height=100, width=3200)))
    data = (page.all("img")[0]["src"] or "").partition(",")[2]
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (1600, 50)
    assert "3200 × 100, shown at 50%" in page.text  # noqa: RUF001


def test_the_numbers_stand_under_the_pictures_with_how_they_were_obtained(tmp_path: Path) -> None:
    page = Page(write(tmp_path, steps(2)))
    assert page.text.count("24.50 dB") == 3  # overall and each picture
    assert page.text.count("25.25 dB") == 3
    assert page.text.count("+0.75 dB") == 3
    assert page.text.count("-0.0100") == 3
    assert DESCRIPTIONS["mimo"] in page.text
    assert "<fake> & co" in page.text
    assert "numpy 2.0" in page.text


def test_scenes_have_a_table_when_they_hold_more_than_one_picture(tmp_path: Path) -> None:
    assert "By scene" in Page(write(tmp_path, steps(4))).text
    assert "By scene" not in Page(write(tmp_path, steps(2))).text


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    hostile = '"><script>alert(1)</script>{}.png'
    page = Page(write(tmp_path, steps(1, name=hostile), title="<b>{0} & {title}</b>"))
    assert page.all("script") == []
    assert len(page.all("b")) == 3  # the labels of the pictures
    assert hostile.format(0) in page.text
    assert "<b>{0} & {title}</b>" in page.text


def test_many_pictures_are_thinned_out_evenly_and_the_page_says_so(tmp_path: Path) -> None:
    page = Page(write(tmp_path, steps(10), limit=4))
    shown = [int(found) for found in re.findall(r"scene_(\d)\.png \d", page.text)]
    assert len(shown) == 4
    assert max(np.diff(shown)) <= 3
    assert "10 pictures" in page.text
    assert "shows 4 of them" in page.text


def test_what_has_no_number_is_said_not_left_out(tmp_path: Path) -> None:
    step = steps(1)[0]
    none = {"psnr": math.nan, "ssim_rgb": math.nan, "ssim_matlab3d": math.nan}
    score = PictureScore("a.png", "a", none, {**BEFORE, "psnr": math.inf})
    text = Page(write(tmp_path, [Step(1, 1, score, step.before, step.after)])).text
    assert "no number" in text
    assert "nan" not in text.lower()


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    with pytest.raises(OutputError):
        write(tmp_path, steps(1))
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
