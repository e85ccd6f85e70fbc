"""The page of `mien page` in a browser: it plays, another face can be chosen, curves can be bent, and nothing else is asked."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factories import EXAMPLES
from mien.apps.page.build import PageOptions, build_page, read_entry
from mien.format.stream import Stream
from mien.media.images import psnr_from_mse
from mien.media.watermark_detection import WatermarkDetector
from mien.method.stage6_render.render import FrameRenderer

pytestmark = pytest.mark.slow
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
LEAST_PSNR = 40.0
PIXELS = "async (i) => { const p = await mien.frame(i); return [p.width, Array.from(p.data)]; }"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The example's page behind a plain static server."""
    folder = tmp_path_factory.mktemp("page") / "site"
    build_page([read_entry(EXAMPLES / "clip.mien", None)], folder, PageOptions(people=2, title="A clip"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not here: the page is not tested in a browser (apt-get install chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is not installed")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        chromium.close()


def picture(page: Any, index: int) -> np.ndarray:
    side, data = page.evaluate(PIXELS, index)
    return np.array(data, np.uint8).reshape(side, side, 4)[..., :3]


def wait_for(page: Any, condition: str) -> None:
    """Wait until a JavaScript expression is true. (The page's policy forbids `eval`, which `wait_for_function` needs.)"""
    page.evaluate(f"(async () => {{ while (!({condition})) await new Promise((next) => setTimeout(next, 50)); }})()")


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(psnr_from_mse(np.square(a.astype(np.float64) - b).mean()))


def is_marked(frame: np.ndarray) -> bool:
    detector = WatermarkDetector()
    detector.add(np.ascontiguousarray(frame))
    return detector.result().found


@pytest.mark.timeout(280)
def test_the_page_plays(site: str, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    asked: list[str] = []
    faults: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(site + "?threads=1")
    page.evaluate("mien.ready")
    renderer = FrameRenderer.of(Stream.load(EXAMPLES / "clip.mien"))
    own = picture(page, 3)
    assert page.evaluate("mien.frames") == 60
    assert psnr(own, renderer(3, 4)[0]) >= LEAST_PSNR
    assert page.evaluate("mien.frame(60).then(() => 'drawn', (error) => error.name)") == "RangeError"

    wait_for(page, "document.getElementById('scrub').value > 0")  # it plays by itself
    page.click("#play")
    page.evaluate(
        "document.getElementById('scrub').value = 41; document.getElementById('scrub').dispatchEvent(new Event('input'))"
    )
    wait_for(page, "document.getElementById('motion-bytes').textContent === '2,940'")
    assert page.evaluate("document.getElementById('clip-bytes').textContent") == "84,543"
    assert page.evaluate("mien.fps() >= 0")

    slider = page.locator("[data-bend=mouth]")
    slider.evaluate("(s) => { s.value = 3; s.dispatchEvent(new Event('input')); }")
    bent = picture(page, 3)
    assert psnr(bent, own) < LEAST_PSNR and is_marked(bent)
    page.click("#straighten")
    assert np.array_equal(picture(page, 3), own)

    page.locator("#faces button").nth(2).click()
    wait_for(page, "document.getElementById('notice').hidden")
    other = picture(page, 3)
    assert psnr(other, own) < 25 and is_marked(other)
    assert page.locator(".mark").is_visible() and page.inner_text("#sentence").startswith("Synthetic: ")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not faults and not [url for url in asked if not url.startswith((site, "blob:", "data:"))]
    page.close()
