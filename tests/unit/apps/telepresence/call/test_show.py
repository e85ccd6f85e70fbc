"""The other end's pictures: newest first, on the sender's clock; and the figures of a call."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from mien.apps.telepresence.call.show import Show
from mien.apps.telepresence.call.statistics import CallStatistics, Drawn
from mien.apps.telepresence.outputs import MotionRecord
from mien.errors import MienError
from mien.format.live_packets import Received


def paint(row: np.ndarray) -> np.ndarray:
    return np.full((4, 4, 3), int(row[0]), np.uint8)


def test_a_recording_keeps_the_senders_clock() -> None:
    record, done, drawn = MotionRecord(), CallStatistics(), threading.Event()

    def slow(row: np.ndarray) -> np.ndarray:
        drawn.set()
        return paint(row)

    show = Show(slow, [record], done)
    for number in (2, 5, 4, 7):  # 0, 1, 3 and 6 are lost, 4 is late
        drawn.clear()
        show.put(Received(number, np.full(35, number)))
        while number != 4 and not drawn.wait(10):
            raise AssertionError("nothing is drawn")
        while number != 4 and len(done.drawn) < (2, 5, 7).index(number) + 1:
            pass
    show.close(10)
    assert record.rows[:, 0].tolist() == [2, 2, 2, 2, 2, 5, 5, 7, 7, 7]
    assert [d.number for d in done.drawn] == [2, 5, 7]


def test_errors_of_outputs_are_raised_at_the_end() -> None:
    class Full(MotionRecord):
        def show(self, picture: np.ndarray, row: np.ndarray, repeats: int) -> None:
            raise MienError("the disk is full.")

    show = Show(paint, [Full()], CallStatistics())
    show.put(Received(0, np.zeros(35)))
    with pytest.raises(MienError, match="full"):
        show.close(1)
    assert show.failed


def test_figures() -> None:
    done = CallStatistics(begin=0.0, end=10.0, frames=300, sent=290, face_bytes=[2500, 5000], sound_bytes=30_000)
    done.drawn += [Drawn(i, i / 30, i / 30 + 0.05, 0.04) for i in range(300) if not 100 <= i < 112]
    values = done.as_json()
    assert values["video_seconds"] == 9.97 and values["longest_freeze_s"] == 0.433 and values["shown"] == 288
    assert values["sent"] == {
        "frames": 290,
        "not_sent": 0,
        "face_kbit_s": 2.0,
        "sound_kbit_s": 24.0,
        "line_kbit_s": 0.0,
    }
    assert isinstance(values["came"], dict) and values["came"]["face_kbit_s"] == 4.0


def test_round_trips() -> None:
    trips = CallStatistics().trips
    trips.back(3)
    assert trips.seconds == 0
    trips.sent(3)
    trips.back(3)
    assert trips.seconds > 0
