"""Live packets: what is lost is never needed again, and no bytes from a stranger do any harm."""

from __future__ import annotations

import numpy as np
import pytest

from mien.errors import StreamError
from mien.format.live_packets import (
    MOST_BYTES,
    NUMBERS,
    PacketReader,
    PacketWriter,
    acknowledgement,
    check_steps,
    is_acknowledgement,
    usual_steps,
)  # fmt: skip

UNIT = np.linspace(0.1, 5.0, 35)
STEPS = usual_steps(UNIT)


def motion(frames: int, seed: int = 0) -> np.ndarray:
    """Smooth curves `[frames, 35]` of about the size of a usual motion."""
    random = np.random.default_rng(seed)
    steps = random.standard_normal((frames + 8, 35)).cumsum(0)
    return UNIT * 0.3 * (steps[8:] - steps[:-8])


def test_a_frame_comes_back_to_half_a_step() -> None:
    write, read = PacketWriter(STEPS), PacketReader(STEPS)
    for i, row in enumerate(motion(40)):
        got = read(write(i, row), i)
        assert got is not None and got.number == i
        assert (np.abs(got.row - row) / UNIT).max() < 0.4 * 0.6


@pytest.mark.parametrize("delay", [1, 8])
def test_lost_datagrams_cost_only_their_own_frames(delay: int) -> None:
    random, rows = np.random.default_rng(1), motion(600)
    write, read, acknowledgements, size = PacketWriter(STEPS), PacketReader(STEPS), [], 0
    for i, row in enumerate(rows):
        data = write(i, row)
        size += len(data)
        if random.random() >= 0.1:
            got = read(data, i)
            if i > 30:  # until the first acknowledgement, key frames alone
                assert got is not None and (np.abs(got.row - row) / UNIT).max() < 0.4 * 0.6
            if i % 3 == 0 and got is not None:
                acknowledgements.append((i + delay, got.number))
        while acknowledgements and acknowledgements[0][0] <= i:
            assert write.acknowledged(acknowledgement(acknowledgements[0][1])) == acknowledgements[0][1]
            acknowledgements.pop(0)
    assert size / len(rows) < 25


def test_without_acknowledgements_key_frames_go_on() -> None:
    write, read = PacketWriter(STEPS), PacketReader(STEPS)
    rows = motion(60)
    for i, row in enumerate(rows[:30]):
        write(i, row)
    seen = [read(write(30 + i, row), 30 + i) for i, row in enumerate(rows[30:])]
    assert sum(s is None for s in seen) < 8 and all(s is not None for s in seen[8:])


def test_numbers_go_round() -> None:
    write, read = PacketWriter(STEPS), PacketReader(STEPS)
    for number in (0, 700, 1400, 5 * NUMBERS + 3):
        got = read(write(number, np.zeros(35)), number - 300)
        assert got is not None and got.number == number


def test_acknowledgements_of_unknown_frames_are_left_alone() -> None:
    write = PacketWriter(STEPS)
    write(5, np.zeros(35))
    assert write.acknowledged(acknowledgement(900)) is None
    assert write.acknowledged(acknowledgement(5)) == 5
    assert is_acknowledgement(acknowledgement(5)) and not is_acknowledgement(write(6, np.zeros(35)) + b"x")


def test_values_beyond_the_range_are_cut() -> None:
    write, read = PacketWriter(STEPS), PacketReader(STEPS)
    got = read(write(0, np.full(35, 1e9)), 0)
    assert got is not None and np.isfinite(got.row).all()


@pytest.mark.parametrize("steps", [(1,) * 34, (0,) * 35, (1 << 25,) * 35, (1.5,) * 35, (True,) * 35, ("1",) * 35])
def test_steps_out_of_range(steps: tuple[object, ...]) -> None:
    with pytest.raises(StreamError):
        check_steps(steps)


@pytest.mark.parametrize("data", [b"", b"a", b"ab", bytes(MOST_BYTES + 1)])
def test_wrong_lengths(data: bytes) -> None:
    with pytest.raises(StreamError):
        PacketReader(STEPS)(data, 0)


def test_any_bytes_give_numbers_in_range_or_the_formats_own_error() -> None:
    random, write, read = np.random.default_rng(3), PacketWriter(STEPS), PacketReader(STEPS)
    limit = (1 << 12) * np.array(STEPS) / 65536
    kinds = {"read": 0, "refused": 0, "without reference": 0}
    for i, row in enumerate(motion(3000)):
        good = write(i, row)
        data = bytearray(good if i % 3 else random.bytes(int(random.integers(0, 260))))
        if i % 3 == 1:
            for _ in range(int(random.integers(1, 6))):
                data[int(random.integers(len(data)))] = int(random.integers(256))
        try:
            got = read(bytes(data), i)
        except StreamError:
            kinds["refused"] += 1
            continue
        kinds["read" if got is not None else "without reference"] += 1
        if got is not None:
            write.acknowledged(acknowledgement(got.number))
            assert np.isfinite(got.row).all() and (np.abs(got.row) < limit).all() and abs(got.number - i) <= NUMBERS
    assert min(kinds.values()) > 20
