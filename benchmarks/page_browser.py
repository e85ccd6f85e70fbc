"""The web page in headless Chromium: frames a second, first frame, and screenshots to look at.

python benchmarks/page_browser.py PAGE_FOLDER OUT_FOLDER [--seconds 8] [--no-pictures]
"""

from __future__ import annotations

import argparse
import functools
import json
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

SCREENS = {"laptop": (1366, 768), "phone": (390, 844)}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def speed(browser: Browser, address: str, threads: int, seconds: float) -> dict[str, float]:
    """Frames a second while all of them are drawn anew, and milliseconds to the first one in a new browser profile."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{address}?threads={threads}")
    page.evaluate("mien.ready")
    first = page.evaluate("mien.firstFrame")
    page.evaluate(
        "(seconds) => new Promise((done) => { const slider = document.querySelector('[data-bend]');"
        "const again = setInterval(() => { slider.value = 0.1 + (Number(slider.value) + 0.1) % 1;"
        "slider.dispatchEvent(new Event('input')); }, 2000);"
        "setTimeout(() => { clearInterval(again); done(); }, seconds * 1000); })",
        seconds,
    )
    figures = {
        "threads": threads,
        "first_frame_ms": round(first),
        "frames_a_second": round(page.evaluate("mien.fps()"), 1),
    }
    context.close()
    return figures


def pictures(browser: Browser, address: str, name: str, size: tuple[int, int], out: Path) -> None:
    """Screenshots: playing, scrubbed, mouth bent, another face."""
    phone = name == "phone"
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, device_scale_factor=2 if phone else 1, has_touch=phone,
        is_mobile=phone,
    )  # fmt: skip
    page = context.new_page()
    page.goto(address)
    page.evaluate("mien.ready")
    wait = "async (ms) => { await new Promise((done) => setTimeout(done, ms)); }"

    def shot(what: str) -> None:
        page.evaluate(wait, 700)
        page.screenshot(path=out / f"{name}-{what}.png", full_page=True)

    page.evaluate(wait, 20000)  # the small pictures of the faces
    shot("playing")
    page.click("#play")
    page.evaluate(
        "(s) => { const e = document.getElementById('scrub'); e.value = 41; e.dispatchEvent(new Event('input')); }"
    )
    page.evaluate("mien.frame(41)")
    shot("scrubbed")
    page.evaluate(
        "() => { for (const [n, v] of [['mouth', 1.5], ['brows', -2]]) { const e = document.querySelector(`[data-bend=${n}]`);"
        "e.value = v; e.dispatchEvent(new Event('input')); } }"
    )
    page.evaluate("mien.frame(41)")
    shot("bent")
    page.locator("#faces button").nth(4).click()
    page.evaluate(
        "async () => { while (!document.getElementById('notice').hidden) await new Promise((d) => setTimeout(d, 50)); }"
    )
    page.evaluate("mien.frame(41)")
    shot("another")
    context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--no-pictures", action="store_true")
    parser.add_argument("--no-speed", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(given.folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        began = time.monotonic()
        for threads in () if given.no_speed else (1, 2, 1, 2):
            print(json.dumps(speed(browser, address, threads, given.seconds)), flush=True)
        if not given.no_pictures:
            for name, size in SCREENS.items():
                pictures(browser, address, name, size, given.out)
        print(f"{time.monotonic() - began:.0f} s; version {browser.version}")
        browser.close()
    server.shutdown()


if __name__ == "__main__":
    main()
