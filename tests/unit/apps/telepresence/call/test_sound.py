"""Sound of a call: what is sent, and where what is heard is put."""

from __future__ import annotations

import asyncio
import time
import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("aiortc", reason="the extra `call` is not installed")

import av
from aiortc.mediastreams import MediaStreamError

from mien.apps.telepresence.call.sound import RATE, SAMPLES, HeardSound, SoundTrack, clip_sound


def frame(level: int, pts: int) -> Any:
    made = av.AudioFrame.from_ndarray(np.full((1, 2 * SAMPLES), level, np.int16), "s16", "stereo")
    made.sample_rate, made.pts, made.time_base = RATE, pts, Fraction(1, RATE)
    return made


def test_heard_sound_keeps_its_place(tmp_path: Path) -> None:
    heard = HeardSound(tmp_path / "a.wav", play=False)
    for place in (0, 1, 3, 2):  # 4 is lost
        heard(frame(100 * (place + 1), place * SAMPLES))
    heard(frame(600, 5 * SAMPLES))
    heard(frame(1, 10**12))  # a clock that cannot be
    heard.close()
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getframerate(), file.getnchannels()) == (RATE, 1)
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    assert samples[::SAMPLES].tolist() == [100, 200, 300, 400, 0, 600]
    assert heard.seconds == pytest.approx(0.1)


def test_a_clips_sound_is_sent_as_opus_on_its_clock(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        tone = 8000 * np.sin(np.arange(16_000) * 0.2)
        file.writeframes(tone.astype("<i2").tobytes())

    async def send() -> list[Any]:
        track = SoundTrack(clip_sound(tmp_path / "a.wav"))
        track.start(time.monotonic() - 100)  # all of it is due
        packets = []
        try:
            for _ in range(10_000):
                packets.append(await track.recv())
        except MediaStreamError:
            assert track.readyState == "ended"
        assert track.sent == sum(p.size for p in packets)
        return packets

    packets = asyncio.run(send())
    assert [p.pts for p in packets] == [SAMPLES * i for i in range(len(packets))]
    assert 48 <= len(packets) <= 51  # a second
    assert 8 * np.mean([p.size for p in packets]) * 50 < 40_000
