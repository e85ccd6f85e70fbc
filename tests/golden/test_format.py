"""docs/format.md is enough to read a file: a second reader, written from that page alone and sharing no code with
mien."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from factories import GOLDEN
from mien.format.stream import Stream


def read_parts(data: bytes) -> dict[str, bytes]:
    magic, major, _, total, crc = struct.unpack_from("<8sHHQI", data)
    assert magic == bytes.fromhex("894D49454E0D0A1A") and major == 1 and total == len(data)
    assert crc == zlib.crc32(data[:20])
    found, at = {}, 24
    while at < total:
        tag, length, crc = struct.unpack_from("<4sII", data, at)
        payload = data[at + 12 : at + 12 + length]
        assert crc == zlib.crc32(data[at : at + 8] + payload)
        found[tag.decode()] = payload
        at += 12 + length
    return found


@pytest.mark.parametrize("name", ["plain", "full"])
def test_a_second_reader_reads_the_container(name: str) -> None:
    data = (GOLDEN / f"{name}.mien").read_bytes()
    stream = Stream.from_bytes(data)
    found = read_parts(data)
    (pack, resolution, numerator, denominator, frames, rows, columns, width, height, channels, name_bytes) = (
        struct.unpack_from("<32sIIIIHHIIHH", found["HEAD"])
    )
    assert (pack.hex(), resolution, frames, channels) == (stream.pack, stream.resolution, len(stream), 32)
    assert numerator / denominator == float(stream.fps) and (width, height) == (stream.frame_size or (0, 0))
    assert struct.unpack_from("<64h", found["HEAD"], 64) == tuple(stream.channels.ravel())
    assert found["HEAD"][192:].decode() == stream.pack_name and len(found["HEAD"]) == 192 + name_bytes
    assert struct.unpack(f"<{rows * columns}e", found["IDEN"]) == tuple(stream.identity.ravel())
    for index in range(frames):
        assert struct.unpack_from("<35e", found["FRAM"], 70 * index) == tuple(stream.frames[index])
    sums = [zlib.crc32(found["FRAM"][70 * first : 70 * first + 1120]) for first in range(0, frames, 16)]
    assert list(struct.unpack(f"<{len(sums)}I", found["fcrc"])) == sums
    assert found.get("tune", b"") == stream.tuning and found.get("soun", b"") == stream.audio
    if stream.placement is not None:
        first, steps = struct.unpack_from("<3i", found["plac"]), found["plac"][12:15]
        units = struct.unpack_from(f"<{3 * frames}H", found["plac"], 16)
        values = [(first[i % 3] + unit) / 2 ** steps[i % 3] for i, unit in enumerate(units)]
        assert np.array_equal(np.array(values).reshape(-1, 3), stream.placement)


def clip(value: int, limit: int) -> int:
    return max(-limit, min(limit, value))


class BitModel:
    def __init__(self, start: int = 32768) -> None:
        self.quick, self.slow, self.count = start, start, 5


class Source:
    """The range decoder of the page."""

    def __init__(self, block: bytes) -> None:
        self.bytes = iter(block)
        self.range = 2**32 - 1
        self.code = 0
        for _ in range(4):
            self.code = self.code * 256 + next(self.bytes, 0)

    def refill(self) -> None:
        while self.range < 2**24:
            self.range = self.range * 256 % 2**32
            self.code = (self.code * 256 + next(self.bytes, 0)) % 2**32

    def decide(self, model: BitModel) -> bool:
        p = max(64, min(32704, (model.quick + model.slow) // 4))
        bound = self.range // 32768 * p
        yes = self.code < bound
        if yes:
            self.range = bound
        else:
            self.code -= bound
            self.range -= bound
        target = 65535 if yes else 0
        model.quick += (target - model.quick) // min(model.count, 24)
        model.slow += (target - model.slow) // model.count
        model.count = min(model.count + 1, 120)
        self.refill()
        return yes

    def plain(self) -> int:
        self.range //= 2
        one = self.code < self.range
        if not one:
            self.code -= self.range
        self.refill()
        return int(one)


THRESHOLDS = [8, 16, 32, 56, 90, 128, 180, 256, 400, 640, 1024, 2048, 4096]
STARTS = [655, 1966, 3277, 6554, 10486, 16384, 22938, 29491, 36045, 42598, 49152, 55705, 58982, 62259, 55705]


def decode_block(block: bytes, count: int) -> list[list[int]]:
    source = Source(block)
    nonzero = [[BitModel(start) for _ in range(4)] for start in STARTS]
    sign = [BitModel() for _ in range(3)]
    more = [[BitModel(20000) for _ in range(14)] for _ in STARTS]
    prefix = [BitModel() for _ in range(18)]
    scale, last = [256] * 35, [0] * 35
    weights = [[0] * 38 for _ in range(35)]
    mean = [0] * 35
    rows: list[list[int]] = []

    def residual(context: int, activity: int, c: int) -> int:
        if not source.decide(nonzero[context][activity]):
            return 0
        negative = source.decide(sign[last[c]])
        size = 1
        while size < 14 and source.decide(more[context][size]):
            size += 1
        if size == 14:
            width = 0
            while source.decide(prefix[width]):
                width += 1
            number = 1
            for _ in range(width):
                number = 2 * number + source.plain()
            size += number - 1
        return -size if negative else size

    for t in range(count):
        row: list[int] = []
        seen = expected = 0
        for c in range(35):
            if t == 0:
                row.append(256 * residual(14, 0, c))
                continue
            x1, x2, x3 = (rows[max(t - back, 0)][c] for back in (1, 2, 3))
            inputs = [clip(row[j] - rows[t - 1][j], 8192) for j in range(c)] + [0] * (35 - c)
            inputs += [clip(x1 - x2, 8192), clip(x2 - x3, 8192), clip(x1 - mean[c], 8192)]
            total = sum(weight * value for weight, value in zip(weights[c], inputs, strict=True))
            prediction = clip(x1 + total // 65536, 2**23)
            context = sum(threshold < scale[c] for threshold in THRESHOLDS)
            activity = 3 if c < 3 else 2 if 2 * seen > 3 * expected + 64 else 1 if 3 * seen < 2 * expected else 0
            r = residual(context, activity, c)
            seen += min(256 * abs(r), 2048)
            expected += min(scale[c], 2048)
            scale[c] += (256 * abs(r) - scale[c]) // 16
            last[c] = 0 if r == 0 else 1 if r > 0 else 2
            if r:
                norm = 65536 + 5 * sum(value * value for value in inputs) // 64
                gain = clip(256 * r, 8192) * 1966 * 256 // norm
                weights[c] = [
                    clip(weight + gain * value // 256, 2**18) for weight, value in zip(weights[c], inputs, strict=True)
                ]
            row.append(prediction + 256 * r)
        mean = row[:] if t == 0 else [m + (value - m) // 16 for m, value in zip(mean, row, strict=True)]
        rows.append(row)
    return rows


def test_a_second_decoder_reads_the_coded_frames() -> None:
    data = (GOLDEN / "coded.bin").read_bytes()
    version, zero, interval, frames, crc = struct.unpack_from("<BBHII", data)
    steps = [(8 + (code & 7)) * 2 ** (code >> 3) for code in data[12:47]]
    blocks = -(-frames // interval)
    assert (version, zero) == (1, 0)
    assert struct.unpack_from("<I", data, 47 + 8 * blocks)[0] == zlib.crc32(data[: 47 + 8 * blocks])
    at, rows = 51 + 8 * blocks, []
    for number in range(blocks):
        length, block_crc = struct.unpack_from("<II", data, 47 + 8 * number)
        assert zlib.crc32(data[at : at + length]) == block_crc
        rows += decode_block(data[at : at + length], min(interval, frames - number * interval))
        at += length
    assert at == len(data)
    out = b"".join(struct.pack("<35e", *(v * s / 2**32 for v, s in zip(row, steps, strict=True))) for row in rows)
    assert zlib.crc32(out) == crc and out == (GOLDEN / "coded.f2").read_bytes()
