"""The parts of a live run: what is dropped, how the clock is kept, when the rate falls."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from factories.commands import Run
from mien.apps.telepresence.newest import Newest
from mien.apps.telepresence.outputs import MotionRecord, VideoFile, letterboxed
from mien.apps.telepresence.sources import Captured, ClipSource, NetworkSource, feed, is_address
from mien.apps.telepresence.statistics import LiveStatistics, RateLimiter, Shown
from mien.errors import InputError, VideoError
from mien.media.video import read_video, write_video

ROW = np.zeros(35)


def picture(level: int) -> np.ndarray:
    return np.full((16, 16, 3), level, np.uint8)


def shown(index: int, draw: float = 0.01, track: float = 0.01, delay: float = 0.05) -> Shown:
    return Shown(index, index / 25, index / 25 + delay, track, draw, True)


def test_newest_replaces_what_waits() -> None:
    place: Newest[int] = Newest()
    for i in range(3):
        place.put(i)
    assert place.take() == 2 and place.dropped == 2
    place.put(7)
    place.close()
    assert place.take() == 7 and place.take() is None


def test_newest_hands_errors_over() -> None:
    place: Newest[int] = Newest()
    place.close(VideoError("no."))
    with pytest.raises(VideoError):
        place.take()


@dataclass
class Filmed:
    """A camera that says 30 frames a second and gives `rate`."""

    rate: float
    seconds: float
    fps: Fraction = Fraction(30)
    count: int | None = None

    def frames(self) -> Iterator[tuple[float, np.ndarray]]:
        for i in range(round(self.rate * self.seconds)):
            yield 7 + i / self.rate, picture(i)


class All(Newest[Captured]):
    """Keeps everything that was put."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[int] = []

    def put(self, item: Captured) -> None:
        self.numbers.append(item.index)


@pytest.mark.parametrize("rate", [10.0, 30.0, 60.0])
def test_frames_are_numbered_by_their_time(rate: float) -> None:
    place = All()
    feed(Filmed(rate, 4.0), place, threading.Event()).join()
    assert all(b > a for a, b in pairwise(place.numbers))
    assert place.numbers[-1] == pytest.approx(4 * 30, abs=31 if rate > 30 else 3)
    if rate <= 30:
        assert len(place.numbers) == rate * 4, "none is left out"


def test_clip_source_keeps_the_clips_clock(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", [picture(10 * i) for i in range(5)], 50)
    source = ClipSource(read_video(tmp_path / "a.mkv"))
    times = [time for time, _ in source.frames()]
    assert source.count == 5 and np.allclose(np.diff(times), 0.02)
    place: Newest[Captured] = Newest()
    feed(source, place, threading.Event()).join()
    last = place.take()
    assert last is not None and last.index == 4 and last.frame[0, 0, 0] == 40 and place.dropped == 4


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server of this machine that hands out the files of `tmp_path`."""
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://user:secret@127.0.0.1:{running.server_address[1]}"
        running.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_network_source_gives_the_frames_of_a_stream_when_they_come(tmp_path: Path, server: str) -> None:
    write_video(tmp_path / "a.mkv", [picture(10 * i) for i in range(5)], 50)
    source = NetworkSource(f"{server}/a.mkv")
    frames = list(source.frames())
    assert source.fps == 50 and source.count is None
    assert [frame[0, 0, 0] for _, frame in frames] == [0, 10, 20, 30, 40]
    assert all(a <= b for (a, _), (b, _) in pairwise(frames))


def test_what_is_no_stream_is_said_without_the_password(tmp_path: Path, server: str) -> None:
    (tmp_path / "text.mkv").write_text("no video")
    for address in (
        f"{server}/nothing.mkv",
        f"{server}/text.mkv",
        "file:///etc/passwd",
        "rtsp://u:secret@127.0.0.1:1/x",
    ):
        assert is_address(address)
        with pytest.raises(InputError) as refused:
            NetworkSource(address)
        assert "secret" not in str(refused.value) and str(refused.value).count(".") <= 4
    assert not is_address("clip.mp4")


def test_video_file_repeats_what_stood(tmp_path: Path) -> None:
    video = VideoFile(tmp_path / "out.mkv", Fraction(25))
    video.show(picture(10), ROW, 2)  # frames 0 and 1 were dropped before the first one was shown
    video.show(picture(20), ROW, 1)
    video.close(3)
    levels = [int(frame[0, 0, 0]) for frame in read_video(tmp_path / "out.mkv")]
    assert levels == [10, 10, 10, 10, 20, 20, 20, 20]


def test_motion_record_has_a_row_for_each_frame_of_the_source() -> None:
    record = MotionRecord()
    record.show(picture(0), ROW + 1, 1)
    record.show(picture(0), ROW + 2, 2)
    record.close(1)
    assert record.rows[:, 0].tolist() == [1, 1, 1, 1, 2, 2]


def test_rate_falls_where_a_stage_is_slow_and_comes_back() -> None:
    limiter, frames = RateLimiter(0.04, every=1.0), []
    for i in range(60):
        frames.append(shown(i, draw=0.1))
        limiter.update(frames)
    assert limiter.stride == pytest.approx(2.5)
    assert [i for i in range(100, 111) if limiter.takes(i)] == [100, 102, 104, 107, 109]
    for i in range(60, 120):
        frames.append(shown(i, draw=0.01))
        limiter.update(frames)
    assert limiter.stride == 1


def test_statistics() -> None:
    done = LiveStatistics(25.0, [shown(i, delay=0.05 + 0.001 * (i % 2)) for i in range(0, 50, 2)], source_frames=50)
    values = done.as_json()
    assert values["fps"] == 12.5 and values["dropped"] == 25
    assert values["delay_ms"] == {"p50": 50.0, "p95": 50.0}
    assert "12" in done.line() or "13" in done.line()


def test_letterboxed_keeps_the_picture_square() -> None:
    out = letterboxed(picture(200), (1280, 720))
    assert out.shape == (720, 1280, 3)
    assert (out[:, :280] == 0).all() and (out[:, 280:1000] == 200).all() and (out[:, 1000:] == 0).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--input", "no.mp4", "--person", "no.person"), "no.mp4"),
        (("--input", "CLIP", "--camera", "0", "--person", "no.person"), "--camera or --input"),
        (("--input", "CLIP", "--person", "no.person"), "no.person"),
        (("--input", "CLIP", "--person", "no.person", "--output", "a.txt"), "a.txt"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mkv", [picture(0)] * 3, 25)
    code, _, err = run("live", *("clip.mkv" if a == "CLIP" else a for a in arguments))
    assert code == 2 and says in err and len(err.strip().splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mkv"]
