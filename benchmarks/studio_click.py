"""The studio in a real browser, step by step, with a screenshot of each.

    apt-get install chromium && pip install 'mien[studio]' playwright
    python benchmarks/studio_click.py CLIP.mp4 -o shots [--seconds 1] [--tune] [--dark]

Prints one line a step, and at the end whether all held. Exit code 1 when one did not. The studio that it starts runs
under an audit hook that notes every connection and every host look-up beyond this machine.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CHROMIUM = "/usr/bin/chromium"
WATCH = """
import os, sys
_log = os.environ["MIEN_WATCH"]
def _hook(event, args):
    if event == "socket.connect":
        where = str(args[1])
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        where = str(args[0])
    else:
        return
    if not any(own in where for own in ("127.0.0.1", "localhost", "::1", "/tmp", "/var/run")):
        with open(_log, "a") as file:
            file.write(f"{event} {where}\\n")
sys.addaudithook(_hook)
"""


@contextmanager
def studio(folder: Path) -> Iterator[tuple[str, float, Path]]:
    """A studio in a process of its own; its address, seconds until it listened, and what left the machine."""
    (folder / "watch").mkdir()
    (folder / "watch" / "sitecustomize.py").write_text(WATCH)
    left = folder / "left.txt"
    left.touch()
    paths = os.pathsep.join([str(folder / "watch"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "MIEN_WATCH": str(left), "TMPDIR": str(folder)}
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "mien", "studio", "--port", "0"], stdout=subprocess.PIPE,
                               text=True, env=environment)  # fmt: skip
    try:
        assert process.stdout is not None
        found = re.search(r"http://[\d.:]+", process.stdout.readline())
        assert found, "the studio did not start"
        yield found[0], time.monotonic() - start, left
    finally:
        process.terminate()
        process.wait(60)


class Walk:
    """Steps, their outcomes and their pictures."""

    def __init__(self, out: Path, suffix: str) -> None:
        self.out, self.suffix, self.failed, self.count = out, suffix, 0, 0

    def step(self, page: Any, name: str, held: bool, note: str = "") -> None:
        self.count += 1
        self.failed += not held
        print(f"{'ok  ' if held else 'FAIL'}  {name}{': ' + note if note else ''}", flush=True)
        if page is not None:
            page.screenshot(path=self.out / f"{self.count:02d}-{re.sub(r'[^a-z0-9]+', '-', name.lower())[:48]}"
                                            f"{self.suffix}.png", full_page=True)  # fmt: skip


def play(page: Any, where: str) -> tuple[bool, str]:
    """Press play and see to it that all videos of the player run, in step."""
    page.locator(f"{where} .m-play").first.click()
    moving = f"[...document.querySelectorAll('{where} video')].every(v => v.currentTime > 0)"
    with suppress(Exception):  # what it came to is told below
        page.wait_for_function(moving, timeout=15_000)
    times = page.evaluate(
        f"[...document.querySelectorAll('{where} video')].map(v => [v.currentTime, v.readyState, v.videoWidth])"
    )
    page.locator(f"{where} .m-play").first.click()
    ran = all(ready >= 2 and width > 0 for _, ready, width in times) and any(t > 0 for t, _, _ in times)
    ran = ran and max(t for t, _, _ in times) - min(t for t, _, _ in times) < 0.2
    return ran, str([round(t, 2) for t, _, _ in times])


def fetched(page: Any, locator: Any, target: Path) -> int:
    with page.expect_download() as waiting:
        locator.click()
    waiting.value.save_as(target)
    return target.stat().st_size


def pixels(page: Any, selector: str) -> str:
    return page.locator(selector).last.get_attribute("src")


def encode(page: Any, walk: Walk, clip: Path, seconds: float, tune: bool, folder: Path) -> None:
    page.locator("#clip input[type=file]").first.set_input_files(str(clip))
    page.wait_for_selector("text=frames a second", timeout=60_000)
    walk.step(page, "clip uploaded", True, page.locator("#clip").count() and page.locator(".m-note").first.inner_text())
    page.locator("#seconds input[type=number]").fill(str(seconds))
    page.locator("#seconds input[type=number]").press("Enter")
    page.locator("#learn input").nth(2 if tune else 0).check()
    page.locator("#encode").click()
    page.wait_for_selector("#encoded .m-stages", timeout=60_000)
    page.wait_for_selector("#strips img", timeout=300_000)
    running = page.locator("#encoded .m-now, #encoded .m-todo").count()
    walk.step(page, "preview while it works", running > 0, f"{running} stages still to go")
    page.wait_for_selector("#encoded mien-player, #encoded .m-fault", timeout=3_600_000)
    page.wait_for_timeout(600)
    walk.step(page, "encoded", page.locator("#encoded mien-player").count() == 1)
    walk.step(None, "both videos play", *play(page, "#encoded"))
    size = fetched(page, page.locator("#encoded .m-get").first, folder / "clip.mien")
    told = page.locator("#encoded .m-total td").last.inner_text()
    rows = page.locator("#encoded .m-bytes tr:not(.m-total) td:last-child").all_inner_texts()
    total = sum(int(row.replace(",", "")) for row in rows)
    held = f"{size:,} bytes" == told and total == size
    walk.step(None, "the .mien downloads and its bytes add up", held, f"{size:,} bytes, told {told}, parts {total:,}")


def puppet(page: Any, walk: Walk, folder: Path) -> None:
    page.locator("#to-puppet").click()
    page.wait_for_selector("#shelf mien-shelf button >> nth=3", timeout=60_000)
    page.locator("#shelf mien-shelf button").nth(3).click()
    page.wait_for_selector("text=Person 4 of the shelf is chosen")
    walk.step(page, "puppeteer page, shelf portrait chosen", page.locator("#driver input:checked").count() == 1)
    page.locator("#puppeteer").click()
    page.wait_for_selector("#puppet mien-player, #puppet .m-fault", timeout=600_000)
    page.wait_for_timeout(600)
    walk.step(page, "puppet made", page.locator("#puppet mien-player").count() == 1)
    walk.step(None, "driver and puppet play", *play(page, "#puppet"))
    size = fetched(page, page.locator("#puppet .m-get").first, folder / "puppet.mp4")
    walk.step(None, "the puppet's video downloads", size > 1000, f"{size:,} bytes")


def bend(page: Any, walk: Walk, folder: Path) -> None:
    page.get_by_role("tab", name="Edit", exact=True).click()
    page.locator("#open-encoded").click()
    page.wait_for_selector("#timeline mien-timeline canvas", timeout=60_000)
    page.wait_for_selector("#frames img")
    page.wait_for_timeout(500)
    names = page.locator("#timeline .m-row:not(.m-ruler) .m-name").all_inner_texts()
    held = {"mouth", "eyes", "brows", "yaw", "pitch", "roll"} <= set(names)
    walk.step(page, "35 curves by attribute", held, ", ".join(names))
    box = page.locator("#timeline .m-row canvas").nth(1).bounding_box()
    before = pixels(page, "#frames img")
    page.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + box["height"] / 2)
    page.wait_for_function("b => [...document.querySelectorAll('#frames img')].at(-1).src !== b", arg=before)
    walk.step(None, "scrubbed to a frame", True, page.locator("#frames .m-note").inner_text())
    before = pixels(page, "#frames img")
    page.locator("#factor input[type=number]").fill("3")
    page.locator("#factor input[type=number]").press("Enter")
    page.locator("#apply").click()
    page.wait_for_selector("text=1 edit so far", timeout=60_000)
    page.wait_for_timeout(400)
    after = pixels(page, "#frames img")
    walk.step(page, "mouth curve changed, and the frame with it", before != after)
    page.locator("#undo").click()
    page.wait_for_selector("text=0 of 1 edits")
    page.wait_for_timeout(400)
    walk.step(None, "undone", pixels(page, "#frames img") == before)
    page.locator("#timeline .m-row canvas").first.scroll_into_view_if_needed()
    box = page.locator("#timeline .m-row canvas").first.bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 8)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 9, steps=6)
    page.mouse.up()
    page.wait_for_function("Number(document.querySelector('#from input').value) > 0")
    walk.step(page, "a stretch marked", True, page.locator("#from input").input_value() + " s")
    page.locator("#apply").click()
    page.wait_for_selector("text=1 edit so far", timeout=60_000)
    page.locator("#render-edit").click()
    page.wait_for_selector("#edited mien-player", timeout=600_000)
    size = fetched(page, page.locator("#edited .m-get").first, folder / "edited.mien")
    walk.step(page, "edited stream rendered and saved", size > 1000, f"{size:,} bytes")


def explore(page: Any, walk: Walk) -> None:
    page.get_by_role("tab", name="Explore").click()
    page.wait_for_selector("#sliders mien-sliders label img >> nth=31", state="attached", timeout=120_000)
    page.wait_for_selector("#explored img")
    count = page.locator("#sliders input[type=range]").count()
    before = page.locator("#explored img").first.get_attribute("src")
    page.locator("#sliders details").nth(1).locator("input[type=range]").first.fill("3")
    page.wait_for_function("b => document.querySelector('#explored img').src !== b", arg=before)
    page.wait_for_timeout(400)
    walk.step(
        page,
        "channel sliders",
        count == 34,
        f"{count} sliders; {page.locator('#explored figcaption').last.inner_text()}",
    )
    page.get_by_role("tab", name="Compare").click()
    page.locator("#compare-mine").click()
    page.wait_for_selector("#wiper mien-player", timeout=60_000)
    page.wait_for_timeout(800)
    page.locator("#wiper .m-edge").fill("30")
    walk.step(page, "wiper", page.locator("#wiper video").count() == 2)
    page.locator("#measure").click()
    page.wait_for_selector("#figures .m-metrics, #figures .m-fault", timeout=600_000)
    walk.step(page, "plots of an evaluation", page.locator("#figures svg").count() >= 3)


def refusals(page: Any, walk: Walk, folder: Path) -> None:
    """Wrong types and a 200 MB file, as a visitor would offer them."""
    page.get_by_role("tab", name="Encode", exact=True).click()
    (folder / "words.mp4").write_text("these are words, no video\n" * 100)
    (folder / "page.html").write_text("<script>alert(1)</script>")
    with (folder / "large.mp4").open("wb") as file:
        file.write(b"\0\0\0\x18ftypmp42")
        file.truncate(200 << 20)
    for name, wanted in (
        ("words.mp4", "something else inside"),
        ("page.html", "file type"),
        ("large.mp4", "maximum allowed size"),
    ):
        page.reload()
        page.wait_for_selector("#clip input[type=file]", state="attached", timeout=60_000)
        page.wait_for_timeout(1200)
        page.locator("#clip input[type=file]").first.set_input_files(str(folder / name))
        page.wait_for_timeout(2500)
        said = " ".join(page.locator(".toast-body, [data-testid=toast-body], .m-fault").all_inner_texts())
        said = " ".join(said.split())
        walk.step(page, f"{name} refused", wanted in said, said[:160])


def narrow(page: Any, walk: Walk) -> None:
    """All tabs, with what they hold by now, at a phone's width."""
    page.set_viewport_size({"width": 390, "height": 844})
    for name in ("Encode", "Puppeteer", "Edit", "Explore"):
        page.get_by_role("tab", name=name, exact=True).click()
        page.wait_for_timeout(900)
        over = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        walk.step(page, f"{name} at 390 pixels", over <= 1, f"{over} pixels too wide")
    page.set_viewport_size({"width": 1366, "height": 860})


def apart(browser: Any, address: str, page: Any, walk: Walk, kept: str) -> None:
    """A second visitor sees nothing of the first one's."""
    other = browser.new_context()
    stranger = other.new_page()
    stranger.goto(address)
    stranger.wait_for_selector("#encode", timeout=60_000)
    status = stranger.evaluate("u => fetch(u).then(r => r.status)", kept)
    mine = page.evaluate("u => fetch(u).then(r => r.status)", kept)
    stranger.get_by_role("tab", name="Edit", exact=True).click()
    stranger.locator("#open-encoded").click()
    stranger.wait_for_selector("#edit-said .m-fault", timeout=30_000)
    walk.step(None, "two sessions are apart", status == 404 and mine == 200, f"own file {mine}, another's {status}")
    stranger.get_by_role("tab", name="Puppeteer").click()
    stranger.locator("#puppeteer").click()
    stranger.wait_for_selector("#puppet .m-stages", timeout=60_000)
    page.locator("#measure").click()
    waited = page.wait_for_selector("#figures :text('Waiting in line'), #figures .m-now", timeout=60_000).inner_text()
    walk.step(page, "the second job waits in line", "Waiting" in waited, " ".join(waited.split()))
    page.wait_for_selector("#figures .m-metrics, #figures .m-fault", timeout=600_000)
    stranger.wait_for_selector("#puppet mien-player, #puppet .m-fault", timeout=600_000)
    other.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("shots"))
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--dark", action="store_true")
    options = parser.parse_args()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("SKIPPED: this needs Playwright (pip install playwright) and Debian's chromium.")
        return 0
    if not Path(CHROMIUM).exists():
        print(f"SKIPPED: there is no {CHROMIUM} (apt-get install chromium).")
        return 0
    options.output.mkdir(parents=True, exist_ok=True)
    walk = Walk(options.output, "-dark" if options.dark else "")
    outside: list[str] = []
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as player:
        folder = Path(temporary)
        begin = time.monotonic()
        with studio(folder) as (address, _, left):
            browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            context = browser.new_context(viewport={"width": 1366, "height": 860}, accept_downloads=True,
                                          color_scheme="dark" if options.dark else "light")  # fmt: skip
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.on(
                "request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else outside.append(r.url)
            )
            page.on("pageerror", lambda error: faults.append(str(error)[:200]))
            page.goto(address)
            page.wait_for_selector("#encode")
            seconds = time.monotonic() - begin
            page.wait_for_timeout(1500)
            walk.step(
                page, "first page", seconds < 15, f"{seconds:.1f} s from the command to the page, browser included"
            )
            encode(page, walk, options.clip, options.seconds, options.tune, folder)
            kept = page.locator("#encoded video").first.get_attribute("src")
            puppet(page, walk, folder)
            bend(page, walk, folder)
            explore(page, walk)
            apart(browser, address, page, walk, kept)
            narrow(page, walk)
            refusals(page, walk, folder)
            browser.close()
            files = lambda: [path for path in folder.glob("mien-studio-*/**/*") if path.is_file()]
            before, deadline = len(files()), time.monotonic() + 120
            while files() and time.monotonic() < deadline:
                time.sleep(1)
            walk.step(
                None, "closed pages leave no file", before > 0 and not files(), f"{before} before, {len(files())} now"
            )
            walk.step(None, "no fault in the page's scripts", not faults, "; ".join(faults[:3]))
            walk.step(None, "no request leaves the browser for another machine", not outside, " ".join(outside[:3]))
            gone = left.read_text().splitlines()
            walk.step(None, "the studio asks no other machine", not gone, "; ".join(gone[:3]))
    print(f"{walk.count - walk.failed} of {walk.count} steps held; pictures in {options.output}")
    return 1 if walk.failed else 0


if __name__ == "__main__":
    sys.exit(main())
