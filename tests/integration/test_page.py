"""The page of `mien page` in a browser: it plays, another face can be chosen, curves can be bent, and nothing else is
asked."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factories import EXAMPLES
from factories.clips import make_clip, pictures
from mien.apps.page.build import PageOptions, build_page, read_entry
from mien.format.stream import Stream
from mien.media.images import psnr_from_mse
from mien.media.sound import extract_audio
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


class Server(ThreadingHTTPServer):
    request_queue_size = 64  # a page asks for two dozen files at once


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The example's page behind a plain static server, with a second stream that has sound."""
    folder = tmp_path_factory.mktemp("page")
    make_clip(folder / "tone.mp4", pictures(60), sound="aac")
    sound = extract_audio(folder / "tone.mp4")
    replace(Stream.load(EXAMPLES / "clip.mien"), audio=sound).save(folder / "heard.mien")
    entries = [read_entry(file, None) for file in (EXAMPLES / "clip.mien", folder / "heard.mien")]
    build_page(entries, folder / "site", PageOptions(people=2, title="A clip"))
    folder /= "site"
    server = Server(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
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


def wait_for(page: Any, condition: str, seconds: int = 60) -> None:
    """Wait until a JavaScript expression is true. (The page's policy forbids `eval`, which `wait_for_function`
    needs.)"""
    done = page.evaluate(
        f"(async () => {{ const end = Date.now() + {1000 * seconds}; while (!({condition}) && Date.now() < end) "
        f"await new Promise((next) => setTimeout(next, 50)); return Boolean({condition}); }})()"
    )
    assert done, f"after {seconds} s not true: {condition}"


def opened(browser: Any, address: str, width: int, height: int, asked: list[str], faults: list[str]) -> Any:
    """The page at that size, its first frame drawn. `asked`, `faults`: where its requests and errors are noted."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(address)
    page.evaluate("void mien.ready.then(() => { document.body.dataset.ready = true; })")
    wait_for(page, "document.body.dataset.ready", 120)
    return page


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(psnr_from_mse(np.square(a.astype(np.float64) - b).mean()))


def is_marked(frame: np.ndarray) -> bool:
    detector = WatermarkDetector()
    detector.add(np.ascontiguousarray(frame))
    return detector.result().found


@pytest.mark.timeout(280)
def test_the_page_plays(site: str, browser: Any) -> None:
    asked: list[str] = []
    faults: list[str] = []
    page = opened(browser, site + "?threads=1", 390, 844, asked, faults)
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
    slider.evaluate("(s) => { s.value = 2; s.dispatchEvent(new Event('input')); }")
    bent = picture(page, 3)
    assert psnr(bent, own) < LEAST_PSNR and is_marked(bent)
    page.click("#straighten")
    assert np.array_equal(picture(page, 3), own)

    page.locator("#faces button").nth(3).click()
    wait_for(page, "document.getElementById('notice').hidden")
    other = picture(page, 3)
    assert psnr(other, own) < 25 and is_marked(other)
    assert page.locator(".mark").is_visible() and page.inner_text("#sentence").startswith("Synthetic: ")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not faults and not [url for url in asked if not url.startswith((site, "blob:", "data:"))]
    page.close()


@pytest.mark.timeout(280)
def test_the_sound_is_played_and_leads(site: str, browser: Any) -> None:
    page = opened(browser, site, 1366, 768, [], [])
    assert page.locator("#mute").is_hidden()
    page.select_option("#streams", "1")
    wait_for(page, "document.getElementById('notice').hidden")
    assert page.inner_text("#mute") == "Sound on"
    page.click("#play")
    wait_for(page, "document.getElementById('sound').currentTime > 0.4")
    decoded, clock, sound = page.evaluate(
        "(() => { const s = document.getElementById('sound');"
        "return [s.webkitAudioDecodedByteCount, parseFloat(document.getElementById('clock').textContent), s.currentTime]; })()"
    )
    assert decoded > 0 and abs(clock - sound) < 0.3
    page.click("#mute")
    wait_for(page, "document.getElementById('mute').textContent === 'Sound off'")
    page.click("#play")
    assert page.evaluate("document.getElementById('sound').paused")
    page.evaluate(
        "document.getElementById('scrub').value = 50; document.getElementById('scrub').dispatchEvent(new Event('input'))"
    )
    assert page.evaluate("document.getElementById('sound').currentTime") == pytest.approx(2.0, abs=0.05)
    page.close()


@pytest.mark.timeout(280)
def test_the_keyboard_does_all(site: str, browser: Any) -> None:
    page = opened(browser, site, 1366, 768, [], [])
    page.keyboard.press("Space")
    wait_for(page, "document.getElementById('play').ariaLabel === 'Play'")
    page.focus("#scrub")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    wait_for(page, "document.getElementById('motion-bytes').textContent === '140'")
    page.focus("[data-bend=mouth]")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.querySelector('[data-bend=mouth]').value") == "0.1"
    page.focus("#faces button[aria-checked=true]")
    page.keyboard.press("ArrowRight")
    wait_for(page, "document.querySelectorAll('#faces button')[1].ariaChecked === 'true'")
    page.close()
