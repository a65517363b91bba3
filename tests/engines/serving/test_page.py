"""The page in a real browser: headless Chromium."""

from __future__ import annotations

import io
import os
import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engines.serving.settings import Limits
from tests.engines.serving.running import Running, running, until
from tests.engines.serving.test_app import photograph
from tests.tiny import Tiny

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")), reason="needs Chromium: apt install chromium-driver"
    ),
]
PICTURES = os.environ.get("MIMO_PAGE_PICTURES")
"""A folder for screenshots, to be looked at."""


@pytest.fixture(scope="module")
def service(tiny: Tiny) -> Iterator[Running]:
    with running(tiny.onnx, Limits(pixels=2_000_000), hosts=frozenset({"127.0.0.1"})) as found:
        yield found


@pytest.fixture
def browser(tmp_path: Path, service: Running) -> Iterator[Any]:
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--window-size=1100,900",
        f"--user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = Chrome(options, ChromeService(shutil.which("chromedriver")))
    try:
        downloads = tmp_path / "downloads"
        found.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
        found.get(f"http://127.0.0.1:{service.port}/")
        yield found
        errors = [entry["message"] for entry in found.get_log("browser") if entry["level"] == "SEVERE"]
        assert not [text for text in errors if "422" not in text and "404" not in text], "the page's own console"
    finally:
        found.quit()


def element(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def texts(browser: Any, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)"
    found: list[str] = browser.execute_script(script, selector)
    return found


def choose(browser: Any, *files: Path) -> None:
    element(browser, "#files").send_keys("\n".join(map(str, files)))


def picture(browser: Any, name: str) -> None:
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(Path(PICTURES) / f"{name}.png"))


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def scene(size: tuple[int, int], seed: int) -> bytes:
    """Something to look at: slopes and a few bars."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    samples = np.stack([y * 255 // size[0], x * 255 // size[1], (x // 40 + y // 40 + seed) % 2 * 200], axis=2).astype(np.uint8)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(samples).save(file, "jpeg", quality=95, exif=exif)
    return file.getvalue()


def done(browser: Any, count: int) -> None:
    until(lambda: len(texts(browser, "li.done")) == count)


def test_photographs_go_in_and_come_back(browser: Any, service: Running, tmp_path: Path) -> None:
    until(lambda: "onnxruntime" in element(browser, "#model").text)
    picture(browser, "empty")
    files = [written(tmp_path / f"picture {number}.jpg", scene((600, 800), number)) for number in range(3)]
    broken = written(tmp_path / "broken.png", b"no picture")
    choose(browser, *files, broken)
    seen: set[str] = set()
    parts: set[float] = set()
    end = time.monotonic() + 60
    while len(texts(browser, "li.done")) < 3 and time.monotonic() < end:
        seen.update(texts(browser, "li .state"))
        parts.add(float(browser.execute_script("return document.getElementById('progress').value")))
        picture(browser, "working")
    done(browser, 3)
    assert any(text.startswith(("restoring", "waiting", "sending", "in the queue")) for text in seen)
    assert len(parts) > 1, "the bar moves"
    until(lambda: texts(browser, "li.failed .state"))
    assert "no PNG, JPEG, TIFF or WebP" in texts(browser, "li.failed .state")[0]
    assert texts(browser, "#status") == ["3 of 4 done, 1 not done"]
    picture(browser, "done")

    element(browser, "li.done .download").click()
    saved = tmp_path / "downloads" / "picture 0.jpg"
    until(saved.exists)
    reply = service.deblur(files[0].read_bytes())
    assert saved.read_bytes() == reply.body
    element(browser, "#all").click()
    archive = tmp_path / "downloads" / "photographs.zip"
    until(archive.exists)
    with zipfile.ZipFile(archive) as zipped:
        assert zipped.testzip() is None
        assert zipped.namelist() == [file.name for file in files]
        assert zipped.read("picture 0.jpg") == reply.body


def test_before_and_after_are_compared_upright(browser: Any, tmp_path: Path) -> None:
    choose(browser, written(tmp_path / "one.jpg", scene((600, 800), 0)))
    done(browser, 1)
    element(browser, ".compare-button").click()
    until(lambda: browser.execute_script("return document.getElementById('canvas').offsetWidth") > 100)
    until(lambda: browser.execute_script("return document.getElementById('after').naturalWidth") > 0)
    sides = "const at = document.getElementById(arguments[0]); return [at.naturalWidth, at.naturalHeight]"
    assert browser.execute_script(sides, "before") == browser.execute_script(sides, "after") == [600, 800], (
        "it was stored lying"
    )

    def cut() -> float:
        text = browser.execute_script("return document.getElementById('after').style.clipPath")
        return float(text.rpartition(" ")[2].removesuffix("px)"))

    middle = cut()
    width = browser.execute_script("return document.getElementById('canvas').offsetWidth")
    assert middle == pytest.approx(width / 2, abs=2)
    picture(browser, "compare")
    browser.execute_script("const at = document.getElementById('slider'); at.value = 90; at.dispatchEvent(new Event('input'))")
    assert cut() == pytest.approx(0.9 * width, abs=2)
    element(browser, "[data-zoom='4']").click()
    assert browser.execute_script("return document.getElementById('canvas').offsetWidth") == pytest.approx(2400, abs=2)
    assert browser.execute_script("const at = document.getElementById('stage'); return at.scrollWidth > at.clientWidth")
    picture(browser, "zoomed")
    element(browser, "#close").click()
    assert not element(browser, "#viewer").is_displayed()


def test_strength_is_the_services(browser: Any, service: Running, tmp_path: Path) -> None:
    source = written(tmp_path / "one.png", photograph("png", size=(64, 64)))
    browser.execute_script(
        "const at = document.getElementById('strength'); at.value = 40; at.dispatchEvent(new Event('input'))"
    )
    choose(browser, source)
    done(browser, 1)
    assert "done, 40 %" in texts(browser, "li.done .state")
    element(browser, ".download").click()
    saved = tmp_path / "downloads" / "one.png"
    until(saved.exists)
    assert saved.read_bytes() == service.deblur(source.read_bytes(), "?strength=0.4").body
    browser.execute_script(
        "const at = document.getElementById('strength'); at.value = 100; at.dispatchEvent(new Event('input'))"
    )
    assert element(browser, "#again").text == "Do one again at 100 %"
    element(browser, "#again").click()
    until(lambda: "done, 100 %" in texts(browser, "li.done .state"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone(browser: Any, tmp_path: Path, scheme: str) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    name = "a name that is long enough to need more than one line on a telephone " * 2
    choose(browser, written(tmp_path / f"{name.strip().replace(' ', '_')}.jpg", scene((600, 800), 1)))
    done(browser, 1)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground.removeprefix("rgb(").removesuffix(")").split(","))) < 384) == (scheme == "dark")
    picture(browser, f"telephone-{scheme}")
    element(browser, ".compare-button").click()
    until(lambda: browser.execute_script("return document.getElementById('canvas').offsetWidth") > 100)
    assert browser.execute_script("return document.getElementById('viewer').scrollWidth") <= 390
    picture(browser, f"telephone-compare-{scheme}")


def test_the_documentation_is_drawn_without_the_network(browser: Any, service: Running) -> None:
    browser.get(f"http://127.0.0.1:{service.port}/docs")
    until(lambda: any("/v1/deblur" in text for text in texts(browser, ".opblock-summary-path")))
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert fetched
    assert all(name.startswith((f"http://127.0.0.1:{service.port}/", "data:")) for name in fetched)
    picture(browser, "docs")
