"""The page: nothing from outside, nothing hidden, nothing taken at its word. How it looks was looked at in a browser."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks.pages.labels import Mark, place
from benchmarks.pages.page import report_page, write_page
from benchmarks.pages.quantities import digits, duration, html, size, unit_for
from mimo.errors import OutputError
from tests.benchmarks.reports import (
    HOSTILE,
    bench_report,
    compare_report,
    every_kind,
    row,
    states,
    sweep_report,
    table_report,
    typed,
    unmeasured,
)

KINDS = every_kind()
VOID = {"meta", "br"}


class Page(HTMLParser):
    """Tags with their attributes, and the text of the page; asserts that every tag is closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"line {self.getpos()[0]}"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data + " "


def page_of(report: dict[str, Any]) -> str:
    return report_page(typed(report))


def read(report: dict[str, Any]) -> str:
    """The text of the page in one line."""
    return " ".join(Page(page_of(report)).text.split())


def pictures(page: str) -> list[ET.Element]:
    """The outermost SVG elements, as XML."""
    found, depth, start = [], 0, 0
    for tag in re.finditer(r"<svg\b[^>]*>|</svg>", page):
        if tag[0] != "</svg>":
            start = tag.start() if depth == 0 else start
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                found.append(ET.fromstring(page[start : tag.end()]))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_comes_from_outside(kind: str) -> None:
    page = page_of(KINDS[kind])
    assert not re.search(r"https?:|url\(|@import|<script|<link|<iframe|javascript:", page)
    for tag, attributes in Page(page).tags:
        assert not {"src", "href", "xlink:href", "srcset", "data"} & attributes.keys(), tag
        assert not [name for name in attributes if name.startswith("on")]
    assert "default-src 'none'" in page


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_xml_with_a_title_and_a_description(kind: str) -> None:
    found = pictures(page_of(KINDS[kind]))
    assert found or kind == "sweep", "whose maps are tables"
    for picture in found:
        if picture.get("aria-hidden") == "true":
            continue
        assert picture.get("role") == "img"
        assert [child.tag for child in picture][:2] == ["title", "desc"]
        assert all(child.text for child in list(picture)[:2])
        assert not re.search(r"nan|inf\b", ET.tostring(picture, encoding="unicode"), re.IGNORECASE)


@pytest.mark.parametrize("kind", KINDS)
def test_tables_have_headers_and_scroll_in_their_box(kind: str) -> None:
    page = page_of(KINDS[kind])
    for table in re.findall(r"<table.*?</table>", page, re.DOTALL):
        assert "<caption>" in table
        heads, body = table.split("</thead>")
        columns = len(re.findall(r"<t[hd]\b", heads))
        for line in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL):
            assert line.startswith('<th scope="row">')
            assert len(re.findall(r"<t[hd]\b", line)) == columns
    assert page.count('<div class="scroll"') == page.count("<table")


def test_every_row_is_there_with_its_numbers() -> None:
    report = bench_report()
    text = read(report)
    for one in report["rows"]:
        assert one["file"] in text
        assert one["engine"] in text
        if one["summary"]:
            assert unit_for([one["summary"]["minimum"]]).number(one["summary"]["median"]) in text
            assert one["sha256"][:8] in text
        else:
            assert one["reason"] in text
    assert "7 of 8 rows measured" in text
    assert "2 cores of Intel(R) Xeon(R)" in text
    assert "avx512_vnni" in text
    assert "OMP_NUM_THREADS 2, torch 2" in text
    assert "openvino 2026.4.1" in text
    assert "22 November 2026, 19:00 UTC" in text


def warnings(report: dict[str, Any]) -> list[str]:
    box = re.search(r'<ul class="warnings".*?</ul>', page_of(report), re.DOTALL)
    return [Page(one).text for one in re.findall(r"<li>.*?</li>", box[0], re.DOTALL)] if box else []


def test_a_report_without_doubts_has_no_warnings() -> None:
    assert warnings(bench_report([row(), row(engine="pytorch cpu fp32", verified="reference")])) == []


@pytest.mark.parametrize(
    ("doubtful", "words"),
    [
        (row(verified="UNVERIFIED"), "UNVERIFIED"),
        (row(verified="FAILED"), "FAILED"),
        (row(converged=False), "Not converged"),
        (row(settled=False), "Not settled"),
        (row(0.01, engine="tensorrt cuda fp16", throttle=True), "sw_power_cap"),
        (unmeasured(), "Could not be measured"),
    ],
)
def test_what_is_doubtful_is_said_first_and_at_the_row(doubtful: dict[str, Any], words: str) -> None:
    report = bench_report([row(file="good.onnx"), {**doubtful, "file": "bad.onnx"}])
    said = warnings(report)
    assert any(words in one and "bad.onnx" in one for one in said)
    assert not any("good.onnx" in one for one in said)
    page = page_of(report)
    assert page.index('class="warnings"') < page.index("<table")
    (head,) = re.findall(r'<th scope="row"><b>bad.onnx</b>.*?</th>', page)
    marks = {"UNVERIFIED": ">UNVERIFIED</em>", "FAILED": ">FAILED</em>", "Not converged": ">not converged</em>"}
    assert marks.get(words, "") in head, "the column of the row's name stays in sight when the table scrolls"


def test_the_same_trouble_of_many_rows_is_one_warning() -> None:
    rows = [row(file=f"{number}.onnx") for number in range(4)]
    for number, one in enumerate(rows):
        one["states"] = [{**state, "load_average": 5.1 + number} for state in states(40, gpu=False)]
    (said,) = warnings(bench_report(rows))
    assert "load average was 5.1 on 2 cores" in said
    assert all(f"{number}.onnx" in said for number in range(4))


def test_small_n_is_said_instead_of_a_percentile() -> None:
    # Of 5 samples there is not even an interval, of 40 a p90, of 400 all.
    counts = {n: read(bench_report([row(n=n)])).count("n too small") for n in (5, 40, 400)}
    assert counts == {5: 4, 40: 2, 400: 0}


def test_the_time_until_the_call_returned_is_not_latency() -> None:
    gpu = read(bench_report([row(0.010, engine="tensorrt cuda fp16", n=200, enqueued=0.0001)]))
    assert re.search(r"100\.\d µs until the call returned: not latency", gpu)
    assert re.search(r"(99|100|101)x apart", gpu)
    assert "On a CPU both are equal" not in gpu
    cpu = read(bench_report([row()]))
    assert "not latency" in cpu
    assert "(the same)" in cpu
    assert "On a CPU both are equal, because there the call itself does the work" in cpu
    assert "until the call returned" not in read(bench_report([row(mode="e2e")])), "nothing is enqueued there"


def test_measured_and_published_psnr_are_marked_differently() -> None:
    page = page_of(bench_report([row(psnr=30.0), row(2.0, file="b.onnx", psnr=31.0, source="published")]))
    (picture,) = (one for one in pictures(page) if one[0].text == "Latency against PSNR")
    marks = {mark.get("class"): mark.findtext("title") for mark in picture.iter("svg") if mark.findtext("title")}
    marks.pop(None)
    assert marks.keys() == {"mark measured", "mark published"}
    assert "b.onnx" in str(marks["mark published"])
    assert "PSNR published, not measured here" in page
    assert "Latency against PSNR" not in page_of(bench_report([row(psnr=None), row(mode="throughput")]))


def test_every_sample_is_drawn_and_outliers_are_seen() -> None:
    report = bench_report([row(n=60, outliers=2)])
    found = {str(one[0].text): one for one in pictures(page_of(report))}
    assert report["rows"][0]["summary"]["outliers"] == 2

    def dots(title: str, name: str) -> int:
        picture = next(one for key, one in found.items() if title in key)
        return sum(path.get("d", "").count("M") for path in picture.iter("path") if path.get("class") == name)

    assert dots("Distribution", "dot") == 58
    assert dots("Distribution", "dot far") == 2
    assert dots("in order of time", "dot") == 58 + len(report["rows"][0]["samples_seconds"]["warm_up"])
    assert dots("in order of time", "dot far") == 2


def test_what_the_machine_did_is_drawn_under_the_samples() -> None:
    page = page_of(bench_report([row(0.01, engine="tensorrt cuda fp16", n=90, throttle=True)]))
    (picture,) = (one for one in pictures(page) if "in order of time" in str(one[0].text))
    lanes = [line.get("points", "") for line in picture.iter("polyline")]
    words = [str(text.text) for text in picture.iter("text")]
    assert "GPU clock, MHz: 1635 to 1980" in words
    assert len(lanes) == 4, "load, clock, power and temperature changed"
    first = next(index for index, one in enumerate(words) if one.startswith("load average"))
    points = lanes[words.index("GPU clock, MHz: 1635 to 1980") - first].split()
    # 9 warm-up calls come before 90 samples, and the third of four looks, after 60, found a slow clock.
    assert points == ["91,2.0", "394,2.0", "697,20.0", "1000,2.0"]
    assert "GPU slowed down by: nothing, sw power cap" in " ".join(Page(page).text.split())


def test_totals_since_the_machine_started_begin_at_the_measurement() -> None:
    one = row()
    one["states"] = [{**state, "stolen_seconds": 812.25 + number} for number, state in enumerate(states(40, gpu=False))]
    text = read(bench_report([one]))
    assert "cores given to others, s: 0 to 3" in text
    assert "815" not in text


@pytest.mark.parametrize("kind", ["bench", "table", "sweep", "compare"])
def test_hostile_names_are_shown_and_do_nothing(kind: str, tmp_path: Path) -> None:
    report = {"bench": bench_report, "table": table_report, "sweep": sweep_report, "compare": compare_report}[kind]()
    for one in [*report.get("rows", ()), report.get("a", report), report]:
        for name in ("file", "engine", "reason", "network", "way"):
            if one.get(name) is not None:
                one[name] = HOSTILE
    report["context"]["cpu"] = report["context"]["tools"]["torch"] = HOSTILE
    for cell in report.get("grid", ()):
        cell["reason"] = cell["reason"] and HOSTILE
    if kind == "sweep":
        report["advice"] = [HOSTILE]
    write_page(tmp_path / "page.html", typed(report))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not set(page) & {"\x1b", "\u202e", "\udcff"}
    Page(page)
    pictures(page)


def test_a_table_keeps_published_times_apart_from_ours() -> None:
    page = page_of(table_report())
    text = read(table_report())
    for heading in ("RTX 3090 synchronised, s", "RTX 3090 not synchronised, s", "published; not latency", "latency here, s"):
        assert heading in text
    (line,) = re.findall(r'<tr><th scope="row"><b>MIMO-UNet\+</b>.*?</tr>', page.split("</table>")[0])
    cells = [" ".join(Page(f"<p>{cell}</p>").text.split()) for cell in re.findall(r"<td>(.*?)</td>", line)]
    assert cells[0].startswith("18.")
    assert cells[1] == "32.45"
    assert cells[3:5] == ["0.282", "0.025"]
    assert cells[-3:] == ["ok", "survives", "no NVIDIA GPU here"]
    assert "NaN in the output" in text
    assert "it needs 14 GB of memory" in text
    assert scatter(page) == [("mark measured",) * 7, ("mark published", "mark not-latency") * 6]


def scatter(page: str) -> list[tuple[str, ...]]:
    """The marks of each picture of latency against PSNR."""
    found = [one for one in pictures(page) if one[0].text == "Latency against PSNR"]
    marks = [[mark for mark in one.iter("svg") if mark.findtext("title") and mark.get("class")] for one in found]
    return [tuple(str(mark.get("class")) for mark in one) for one in marks]


def test_a_scatter_mixes_neither_devices_nor_shapes_nor_what_was_published() -> None:
    report = table_report()
    report["rows"][0]["shape"] = "1x960x960"
    report["rows"][1]["device"] = "cuda"
    page = page_of(report)
    assert [len(one) for one in scatter(page)] == [1, 1, 5, 12]
    for title in ("cpu, 1x960x960", "cuda, 1x720x1280", "cpu, 1x720x1280", "As published, on RTX 3090"):
        assert title in page


def test_bench_opens_with_all_rows_on_one_axis() -> None:
    reference = row(2.0, engine="pytorch cpu fp32", verified="reference", n=60)
    page = page_of(bench_report([reference, row(1.0, n=60), row(3.0, file="loose.onnx", n=5, converged=False)]))
    first = pictures(page)[0]
    assert first[0].text == "Latency of every row"
    assert page.index("At a glance") < page.index("<table")
    bars = [rect for rect in first.iter("rect") if rect.get("class") == "bar latency"]
    widths = [float(str(bar.get("width")).removesuffix("%")) for bar in bars]
    assert widths[0] / widths[1] == pytest.approx(2.0, rel=0.02)
    words = " ".join("".join(text.itertext()) for text in first.iter("text"))
    assert "the baseline" in words
    assert re.search(r"(1\.9\d|2\.0\d)x the speed of PyTorch", words)
    assert "not converged" in words
    whiskers = [line for line in first.iter("line") if line.get("class") == "whisker"]
    assert len(whiskers) == 2 * 3, "five samples have no interval"


def test_a_network_measured_at_another_shape_says_so() -> None:
    report = table_report()
    assert 'scope="col">shape<' not in page_of(report)
    report["rows"][0] |= {"shape": "1x960x960", "macs": None}
    report["rows"][0]["export"] |= {"fp16": "survives (61 dB)", "onnx": "too <large>"}
    page = page_of(report)
    assert page.count('scope="col">shape<') == 2, "in the table of networks and in that of all numbers"
    assert "<td>1x960x960</td>" in page
    assert "<td>survives (61 dB)</td>" in page
    assert '<span class="export-check">too &lt;large&gt;</span>' in page


def test_a_sweep_shows_numbers_in_its_cells() -> None:
    report = sweep_report()
    text, page = read(report), page_of(report)
    for cell in report["grid"]:
        if cell["reason"] is None:
            batch = int(cell["shape"].split("x")[0])
            assert duration(cell["median_seconds"] / batch) in text
            assert size(cell["memory_peak_bytes"]) in text
            assert duration(cell["first_call_seconds"] - cell["median_seconds"]) in text
    assert all(advice in text for advice in report["advice"])
    assert "out of memory" in text
    maps = re.findall(r'<table class="heat">.*?</table>', page, re.DOTALL)
    assert len(maps) == 4
    heats = [float(heat) for heat in re.findall(r"--heat:(\d+)%", maps[0])]
    assert (min(heats), max(heats), len(heats)) == (0, 100, 12)
    assert maps[0].count('class="none"') == 3


@pytest.mark.parametrize(
    ("ratio", "words"),
    [(1.2, "B is faster: A takes 1."), (1 / 1.2, "B is slower: it takes 1."), (1.0, "A and B are the same")],
)
def test_a_comparison_says_its_verdict_in_words(ratio: float, words: str) -> None:
    text = read(compare_report(ratio))
    assert words in text
    assert "noise floor" in text
    assert "95 % interval" in text


def test_an_undecided_comparison_says_what_to_do() -> None:
    report = compare_report()
    report["comparison"] |= {"verdict": "undecided", "converged": False}
    text = read(report)
    assert "Undecided" in text
    assert "Measure more rounds" in text
    assert "Not converged" in text


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [unmeasured()],
        [row(n=1)],
        [row(median, n=2) for median in (1e-9, 1e-5, 3.0, 4000.0)],
        [row(0.0, n=3)],
        [row(n=3000)],
        [{**row(), "memory": None, "limits": None, "states": [], "psnr": None, "enqueued_not_latency": None, "sha256": None}],
        [row(file=f"{number:02}-" + "long-name" * 20) for number in range(12)],
    ],
    ids=["none", "unmeasured", "one sample", "all magnitudes", "no time at all", "many samples", "bare", "long names"],
)
def test_extremes_make_a_page(rows: list[dict[str, Any]]) -> None:
    page = page_of(bench_report(rows))
    Page(page)
    for picture in pictures(page):
        assert not re.search(r"\bnan\b|\binf\b", ET.tostring(picture, encoding="unicode"))


def test_a_page_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OutputError):
        write_page(tmp_path / "file" / "page.html", typed(bench_report([])))
    assert (tmp_path / "file").read_text() == "kept"


def test_labels_cover_neither_each_other_nor_marks() -> None:
    marks = [
        Mark(x, y, ("mimo-unet.onnx", "openvino cpu fp32"))
        for x, y in ((0.1, 200), (0.13, 200), (0.5, 195), (0.95, 200), (0.97, 60))
    ]
    labels = place(marks, 0, 380)
    for width in (285, 620, 1150):
        boxes = []
        for mark, label in zip(marks, labels, strict=True):
            assert label is not None
            long = 17 * 6.9
            left = mark.x * width + label.dx - {"start": 0, "middle": long / 2, "end": long}[label.anchor]
            boxes.append((left, label.y - 11, left + long, label.y + 18))
            assert boxes[-1][0] >= 0
            assert boxes[-1][2] <= width + 12
            for other in marks:
                x, y = other.x * width, other.y
                assert not (boxes[-1][0] < x < boxes[-1][2] and boxes[-1][1] < y < boxes[-1][3])
        for number, one in enumerate(boxes):
            for two in boxes[:number]:
                assert one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]


def test_a_mark_without_lines_has_no_label() -> None:
    assert place([Mark(0.5, 100, ())], 0, 380) == [None]


def test_quantities_read_well() -> None:
    assert [digits(value) for value in (0, 0.0012345, 1.0, 32072.3, 999.96)] == ["0", "0.001234", "1.000", "32072", "1000.0"]
    assert [duration(value) for value in (31.52, 0.0123, 45e-6, 0)] == ["31.52 s", "12.30 ms", "45.00 µs", "0 s"]
    assert [size(value) for value in (512, 27_300_000, 1_843_200_000)] == ["512 bytes", "26.0 MiB", "1.72 GiB"]
    assert [unit_for(values).name for values in ([0.1, 9], [0.05, 9], [5e-5], [])] == ["s", "ms", "µs", "s"]
    assert html("a\x00<b>\ud800\u2066") == "a\ufffd&lt;b&gt;\ufffd\ufffd"
