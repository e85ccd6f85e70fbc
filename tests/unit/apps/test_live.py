"""Playing in real time, by a clock of the tests' own: delay, dropped and slowed frames, and what is said about them."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import mien
from factories.packs import tiny_pack
from mien.apps.cli.cli import main
from mien.apps.live import FramePacer, Live, prefetch
from mien.errors import InputError
from mien.format.stream import Stream
from mien.nets.stylespace import channel_table
from mien.packs.pack import Pack


class FakeClock:
    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.time += seconds


def play(
    count: int, fps: float, cost: float, late: str, hiccup: float = 0.0
) -> tuple[list[tuple[int, float]], FramePacer]:
    """Render and show in turn, each frame at `cost` seconds, frame 20 at `hiccup` more: (index, when it was shown)."""
    clock = FakeClock()
    pacer, shown, index = FramePacer(fps, count, late, clock), [], -1
    while (index := pacer.next_to_render(index)) < count:
        spent = cost + (hiccup if index == 20 else 0.0)
        clock.time += spent
        pacer.rendered(spent)
        pacer.show(index)
        shown.append((index, clock.now() - 100.0))
    return shown, pacer


@pytest.mark.parametrize("late", ["drop", "slow"])
def test_a_fast_machine_shows_every_frame_when_it_is_due(late: str) -> None:
    shown, pacer = play(50, 25, 0.01, late)
    assert [i for i, _ in shown] == list(range(50))
    assert np.allclose([t for _, t in shown], 0.01 + np.arange(50) / 25)
    report = pacer.report()
    assert report.kept_up and report.dropped == 0 and report.latest == 0 and report.render_rate == pytest.approx(100)
    assert report.sentence().startswith("50 frames shown at 25 a second")


def test_a_slow_machine_drops_and_stays_in_time() -> None:
    shown, pacer = play(100, 25, 0.1, "drop")
    times = np.array([t - shown[0][1] for _, t in shown])
    due = np.array([i for i, _ in shown]) / 25
    assert (times - due < 1 / 25 + 1e-9).all(), "no frame that is shown is late by more than its length"
    assert times[-1] == pytest.approx(4.0, abs=0.15) and 35 <= len(shown) <= 45
    report = pacer.report()
    assert report.shown == len(shown) and report.shown + report.dropped == shown[-1][0] + 1 and not report.kept_up
    assert "renders 10.0 frames a second here, not 25" in report.sentence() and "left out" in report.sentence()


def test_a_slow_machine_slows_and_shows_all() -> None:
    shown, pacer = play(40, 25, 0.1, "slow")
    assert [i for i, _ in shown] == list(range(40))
    report = pacer.report()
    assert report.dropped == 0 and report.slowed == pytest.approx(39 * (0.1 - 0.04)) and not report.kept_up
    assert "took 2.3 s longer" in report.sentence()


def test_after_a_hiccup_time_is_right_again() -> None:
    shown, pacer = play(60, 25, 0.01, "drop", hiccup=0.5)
    first = shown[0][1]
    assert shown[-1][1] - first == pytest.approx(59 / 25)
    assert 1 <= pacer.report().dropped <= 14 and pacer.report().latest > 0.3


def test_a_thread_renders_ahead_but_not_far() -> None:
    rendered, clock = [], FakeClock()

    def render(index: int) -> np.ndarray:
        assert threading.current_thread() is not threading.main_thread()
        rendered.append(index)
        return np.full((2, 2, 3), index, np.uint8)

    player = Live(render, 30, 25, delay=0.2, clock=clock)
    for index, frame in player:
        assert frame[0, 0, 0] == index
        time.sleep(0.002)
        # At most 5 in the queue, one in hand, one waiting to be taken.
        assert max(rendered) <= index + 7
    assert rendered == list(range(30)) and player.report().shown == 30


def test_ahead_hands_errors_on_and_stops() -> None:
    def items():
        yield 1
        raise InputError("no more.")

    handed = prefetch(items(), 3)
    assert next(handed) == 1
    with pytest.raises(InputError, match="no more"):
        next(handed)
    before = threading.active_count()
    made: list[int] = []
    for item in prefetch((made.append(i) or i for i in range(1000)), 2):
        if item == 3:
            break
    time.sleep(0.3)
    assert len(made) < 10 and threading.active_count() == before
    assert list(prefetch([], 1)) == []


def test_bad_options() -> None:
    with pytest.raises(InputError):
        FramePacer(25, 3, "never")
    with pytest.raises(InputError):
        Live(lambda i: np.zeros((2, 2, 3), np.uint8), 3, 25, delay=-1)


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stream, Path, Path]:
    """A stream of 20 frames for the tiny pack, its file and the pack's."""
    folder = tmp_path_factory.mktemp("live")
    tiny_pack().save(folder / "tiny.safetensors", half=False)
    pack, rng = Pack.load(folder / "tiny.safetensors"), np.random.RandomState(0)
    made = Stream(
        pack=pack.fingerprint,
        pack_name=pack.name,
        resolution=pack.resolution,
        fps=Fraction(100),
        channels=channel_table(pack.channels),
        identity=rng.randn(pack.generator.num_ws, pack.generator.w_dim).astype(np.float16),
        frames=(rng.randn(20, 35) * 0.3).astype(np.float16),
    )
    made.save(folder / "a.mien")
    return made, folder / "a.mien", folder / "tiny.safetensors"


def test_any_frame_is_the_frame_of_the_whole_clip(stream: tuple[Stream, Path, Path]) -> None:
    from mien.method.stage6_render.render import FrameRenderer

    made, _, pack = stream
    whole = list(mien.render(made, pack=str(pack)))
    exact = list(mien.render(made, pack=str(pack), exact=True))
    # Frames alone and frames in batches differ in rounding.
    same = lambda a, b: np.abs(np.subtract(a, b, dtype=int)).max() <= 1
    assert len(whole) == 20 and same(whole, exact) and not same(whole[0], whole[1])
    assert same(FrameRenderer.of(made, pack=str(pack))(7, 9), whole[7:9])
    player = mien.live(made, pack=str(pack), late="slow")
    assert all(same(frame, whole[index]) for index, frame in player) and player.report().shown == 20


def test_command_writes_yuv4mpeg2(
    stream: tuple[Stream, Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made, file, pack = stream
    out = tmp_path / "a.y4m"
    plain = ["play", str(file), "-o", str(out), "--pack", str(pack), "--late", "slow", "--no-watermark"]
    assert main(plain) == 0
    said = capfd.readouterr().err
    assert "frames" in said and "100" in said
    data = out.read_bytes()
    size = made.resolution
    head = f"YUV4MPEG2 W{size} H{size} F100:1 Ip A1:1 C420jpeg\n".encode()
    assert data.startswith(head) and len(data) == len(head) + 20 * (6 + size * size * 3 // 2)
    first = np.frombuffer(data, np.uint8, size * size, len(head) + 6).reshape(size, size)
    image = next(iter(mien.render(made, pack=str(pack)))).astype(float)
    luma = 16 + image @ [65.738, 129.057, 25.064] / 256
    assert np.abs(first - luma).max() < 2
    assert main(["play", str(file), "-o", str(out), "--late", "never"]) == 2
    assert capfd.readouterr().err == "mien: --late is drop or slow, not 'never'.\n"
    assert main(["play", str(file), "-o", str(tmp_path / "no" / "a.y4m"), "--pack", str(pack)]) == 2
    before = file.read_bytes()
    assert main(["play", str(file), "-o", str(file), "--pack", str(pack)]) == 2
    assert "is the input" in capfd.readouterr().err and file.read_bytes() == before


def test_no_player_is_said(
    stream: tuple[Stream, Path, Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(["play", str(stream[1]), "--pack", str(stream[2])]) == 2
    assert "no player is here" in capfd.readouterr().err
