"""The studio's Live tab in a real browser, whose camera is a clip.

    apt-get install chromium && pip install 'mien[studio]' playwright
    python benchmarks/studio_live.py CLIP.mp4 -o shots [--seconds 12]

Takes a screenshot before and while the face is driven, and prints the page's own line with frames/s and delay.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2

from mien.media.video import read_video

CHROMIUM = "/usr/bin/chromium"


def camera_file(clip: Path, target: Path) -> None:
    """The clip as Motion JPEG of 640x480, which Chromium shows as a camera, again and again."""
    with target.open("wb") as file:
        for frame in read_video(clip):
            scale = min(640 / frame.shape[1], 480 / frame.shape[0])
            small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            high, wide = 480 - small.shape[0], 640 - small.shape[1]
            padded = cv2.copyMakeBorder(
                small, high // 2, high - high // 2, wide // 2, wide - wide // 2, cv2.BORDER_REPLICATE
            )
            file.write(cv2.imencode(".jpg", padded[..., ::-1])[1].tobytes())


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=12.0)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        camera = Path(folder) / "camera.mjpeg"
        camera_file(given.clip, camera)
        server = subprocess.Popen([sys.executable, "-m", "mien", "studio", "--port", "0"], stdout=subprocess.PIPE,
                                  text=True, env=os.environ | {"TMPDIR": folder})  # fmt: skip
        assert server.stdout is not None
        found = re.search(r"http://[\d.:]+", server.stdout.readline())
        assert found, "the studio did not start"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[
            "--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-video-capture={camera}",
        ])  # fmt: skip
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 860})
            page.set_default_timeout(100_000)
            page.goto(found[0])
            page.get_by_role("tab", name="Live").click()
            page.locator("#live-shelf mien-shelf button").nth(2).click()
            page.locator("#live-learn").click()
            start = page.get_by_role("button", name="Start the camera")
            start.wait_for()
            page.screenshot(path=given.output / "live-ready.png")
            start.click()
            page.get_by_text("frames/s").wait_for()
            end = time.monotonic() + given.seconds
            rates = []
            while time.monotonic() < end:
                page.wait_for_timeout(1000)
                line = page.locator("mien-live .m-note").inner_text()
                print(line, flush=True)
                rates += [float(rate) for rate in re.findall(r"([\d.]+) frames/s", line)]
            page.screenshot(path=given.output / "live.png")
            page.get_by_role("button", name="Stop", exact=True).last.click()
            print(f"median {sorted(rates)[len(rates) // 2]} frames/s")
        finally:
            browser.close()
            server.terminate()
            server.wait(60)


if __name__ == "__main__":
    main()
