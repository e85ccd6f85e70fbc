"""The coded mode: small, exact on both sides, joinable at key frames, and damage that stays within its block."""

from __future__ import annotations

import dataclasses
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from factories import GOLDEN
from factories.streams import flipped, make_stream, offset_of, replaced
from mien.apps.cli.cli import main
from mien.errors import InputError, RateError, StreamError
from mien.format import motion_codec
from mien.format.range_coder import Bit, RangeDecoder, RangeEncoder
from mien.format.rate_control import measure_sensitivity, raw, steps_for, transcode
from mien.format.stream import Stream, read_frame

REMAKE = os.environ.get("MIEN_REMAKE_GOLDEN") == "1"


def curves(frames: int, seed: int = 0, noise: float = 0.02) -> np.ndarray:
    """Motion like a face's at 30 frames a second: slow nods, syllables, shared by groups of parameters, and jitter."""
    rng = np.random.RandomState(seed)
    time = np.arange(frames)[:, None] / 30
    sources = sum(
        rng.randn(12) * np.sin(2 * np.pi * (rate * (1 + 0.3 * rng.rand(12)) * time + rng.rand(12)))
        for rate in (0.2, 0.5, 1.2, 2.5)
    )
    mixed = sources @ (rng.randn(12, 35) * (rng.rand(12, 35) < 0.3)) + sources[:, rng.randint(0, 12, 35)]
    return (mixed + noise * rng.randn(frames, 35)).astype(np.float16)


CURVES = curves(130)
STEPS = CURVES.std(axis=0).astype(np.float64) / 4


def coded_stream(frames: int = 100, key_interval: int = 30) -> Stream:
    stream = dataclasses.replace(make_stream(frames), frames=curves(frames))
    return transcode(stream, quality=40, key_interval=key_interval)


def test_range_coder_round_trip_and_size() -> None:
    rng = np.random.RandomState(1)
    bits = (rng.rand(8_000) < np.repeat([0.02, 0.5, 0.98, 0.3], 2_000)).tolist()
    encoder, model = RangeEncoder(), Bit()
    for bit in bits:
        encoder.bit(model, bit)
        encoder.plain(int(bit))
    data = encoder.finish()
    decoder, model = RangeDecoder(data), Bit()
    for bit in bits:
        assert decoder.bit(model) == bit and decoder.plain() == int(bit)
    entropy = 2_000 * (0.1414 + 1 + 0.1414 + 0.8813) + 8_000
    assert entropy - 100 < 8 * len(data) < 1.04 * entropy


@pytest.mark.parametrize("chance", [0.0, 0.001, 0.999, 1.0])
def test_range_coder_carries(chance: float) -> None:
    """Long runs of one symbol push `low` against the top of its range, where carries run through held-back bytes."""
    for seed in range(10):
        rng = np.random.RandomState(seed)
        bits = (rng.rand(200) < chance).tolist()
        encoder, model = RangeEncoder(), Bit()
        for bit in bits:
            encoder.bit(model, bit)
            encoder.plain(0)
        data = encoder.finish()
        decoder, model = RangeDecoder(data), Bit()
        assert [(decoder.bit(model), decoder.plain()) for _ in bits] == [(bit, 0) for bit in bits]


@pytest.mark.parametrize("key_interval", [1, 7, 120, 512])
def test_round_trip_is_within_the_steps(key_interval: int) -> None:
    frames = CURVES[:40]
    data = motion_codec.encode_frames(frames, STEPS, key_interval)
    back = motion_codec.decode_frames(data)
    assert back.dtype == np.float16 and back.shape == frames.shape
    error = np.abs(back.astype(float) - frames.astype(float)) / STEPS
    assert error.max() < 1.07 * 1.5 and np.sqrt((error**2).mean()) < 0.4
    info = motion_codec.read_info(data)
    assert info.frames == 40 and info.key_interval == key_interval and info.size == len(data)


def test_extremes_round_trip() -> None:
    frames = np.zeros((12, 35), np.float16)
    frames[::2, 0], frames[1::2, 0] = 60000, -60000
    frames[:, 1] = np.linspace(-1, 1, 12) * 6e-8  # smallest halves
    frames[5:, 2] = 1000
    frames[:, 3] = 7.5
    steps = np.full(35, 1e-7)
    back = motion_codec.decode_frames(motion_codec.encode_frames(frames, steps)).astype(float)
    assert np.abs(back - frames).max(axis=0)[0] <= 4 and np.allclose(back[:, 1:], frames[:, 1:], rtol=2e-3, atol=1e-7)
    with pytest.raises(InputError, match="too large"):
        motion_codec.encode_frames(np.full((2, 35), 65504, np.float16), steps)


def test_slow_curves_take_less_than_3500_bits_a_second() -> None:
    """Issue 10's rate, at the quality that makes a 40 dB render if the curves' spread is what one sees."""
    stream = dataclasses.replace(make_stream(300), frames=curves(300))
    coded = transcode(stream, quality=40)
    assert coded.rates()["frames"] < 2000
    error = (coded.frames.astype(float) - stream.frames.astype(float)) / stream.frames.astype(float).std(axis=0)
    assert 10 * np.log10(1 / (error**2).mean()) > 40 - 24 - 1
    assert Stream.from_bytes(coded.to_bytes()) == coded
    finer = transcode(stream, quality=50)
    assert finer.rates()["frames"] > coded.rates()["frames"]


def test_still_curves_cost_next_to_nothing() -> None:
    data = motion_codec.encode_frames(np.repeat(CURVES[:1], 512, axis=0), STEPS, 512)
    assert len(data) < 512 + 120


def test_transcode_to_a_rate() -> None:
    stream = dataclasses.replace(make_stream(60), frames=curves(60))
    for rate in (2500, 6000):
        got = transcode(stream, rate=rate).rates()["frames"]
        assert 0.93 * rate < got <= rate
    with pytest.raises(RateError, match="cannot be reached"):
        transcode(stream, rate=10)
    with pytest.raises(InputError, match="not both"):
        transcode(stream, rate=10, quality=40)
    with pytest.raises(InputError, match="10 to 90"):
        transcode(stream, quality=500)


def test_the_steps_give_the_image_quality_that_was_asked_for() -> None:
    """With a renderer that is linear in the parameters the prediction must be right to a decibel."""
    rng = np.random.RandomState(0)
    basis = rng.randn(35, 3000) * rng.uniform(0.001, 0.01, (35, 1))

    def draw(parameters: np.ndarray) -> np.ndarray:
        return parameters @ basis

    frames = (curves(60).astype(float) * 4).astype(np.float16)
    frames[:, :3] /= 8  # half a degree is the coarsest step for these
    products = measure_sensitivity(draw, frames, 2)
    assert np.allclose(products, basis @ basis.T / 3000)
    stream = dataclasses.replace(make_stream(60), frames=frames)

    def psnr(coded: Stream) -> float:
        return 10 * np.log10(4 / ((draw(coded.frames.astype(float)) - draw(frames.astype(float))) ** 2).mean())

    for quality in (40, 50):
        coded = transcode(stream, quality=quality, sensitivity=np.sqrt(products.diagonal()))
        assert quality - 1 < psnr(coded) < quality + 3


def test_parameters_that_look_alike_make_up_for_each_other() -> None:
    """Told what looks alike, the encoder reaches a better image with as many bits."""
    rng = np.random.RandomState(0)
    basis = rng.randn(8, 2000)[rng.randint(0, 8, 35)] * 0.005 + rng.randn(35, 2000) * 0.003
    frames = curves(60)
    stream = dataclasses.replace(make_stream(60), frames=frames)
    products = measure_sensitivity(lambda parameters: parameters @ basis, frames, 1)
    single = transcode(stream, rate=2000, sensitivity=np.sqrt(products.diagonal()))
    joint = transcode(stream, rate=2000, sensitivity=products)

    def error(coded: Stream) -> float:
        return float((((coded.frames.astype(float) - frames.astype(float)) @ basis) ** 2).mean())

    better = 10 * np.log10(error(single) / error(joint))
    assert better > 1, f"{better:.2f} dB"


def test_steps_are_capped_where_nothing_is_seen() -> None:
    steps = steps_for(40, np.zeros(35), CURVES)
    spread = CURVES.astype(float).std(axis=0)
    assert np.allclose(steps, np.minimum(3 * spread, [0.5, 1, 1] + [np.inf] * 32))
    assert (steps_for(40, np.full(35, 1e3), CURVES) < 1e-4).all()


def test_a_coded_stream_in_its_file(tmp_path: Path) -> None:
    path = tmp_path / "coded.mien"
    stream = coded_stream()
    stream.save(path)
    assert Stream.load(path) == stream and np.array_equal(Stream.load(path).frames, stream.frames)
    facts = Stream.inspect(path)
    assert facts["coding"] == "coded" and facts["key_interval"] == 30 and facts["bytes"]["frames"] == len(stream.coded)
    assert facts["bytes"] == stream.accounting() and facts["bytes"]["per_frame"] < 30 and not facts["damage"]
    for index in (0, 29, 30, 99):
        assert np.array_equal(read_frame(path, index), stream.frames[index])
    plain = raw(stream)
    assert plain.accounting()["per_frame"] == 70 and np.array_equal(plain.frames, stream.frames)
    assert Stream.salvage(path) == (stream, ())


def test_new_frames_make_a_raw_stream() -> None:
    stream = coded_stream()
    assert dataclasses.replace(stream, tuning=b"x").coded == stream.coded
    assert dataclasses.replace(stream, frames=stream.frames * 2).coded == b""
    assert dataclasses.replace(stream, frames=stream.frames[:50]).coded == b""


def test_damage_costs_the_frames_up_to_the_next_key_frame(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.mien"
    stream = coded_stream()
    data = stream.to_bytes()
    start = offset_of(data, "CODE")
    second = motion_codec.read_info(stream.coded).blocks[1][0]
    path.write_bytes(flipped(data, start + second + 9))
    with pytest.raises(StreamError, match="checksum of frames 30 to 59 is wrong"):
        Stream.load(path)
    with pytest.raises(StreamError, match="frames 30 to 59 are damaged"):
        read_frame(path, 40)
    assert np.array_equal(read_frame(path, 60), stream.frames[60])
    assert [(d["first"], d["last"]) for d in Stream.inspect(path)["damage"]] == [(30, 59)]
    back, damages = Stream.salvage(path)
    assert [(d.part, d.first, d.last) for d in damages] == [("CODE", 30, 59)] and back.coded == b""
    expected = stream.frames.copy()
    expected[30:60] = expected[29]
    assert np.array_equal(back.frames, expected)

    path.write_bytes(data[:-10])  # cut within the last block
    back, damages = Stream.salvage(path)
    assert np.array_equal(back.frames, stream.frames[:90]) and [(d.first, d.last) for d in damages] == [(90, 99)]
    many = flipped(flipped(data, start + motion_codec.read_info(stream.coded).blocks[0][0]), start + second + 9)
    path.write_bytes(flipped(many, start + len(stream.coded) - 1))
    assert [(d["first"], d["last"]) for d in Stream.inspect(path)["damage"]] == [(0, 59), (90, 99)]
    assert np.array_equal(Stream.salvage(path)[0].frames[60:90], stream.frames[60:90])
    assert main(["info", str(path)]) == 2
    said = capfd.readouterr().err
    assert "frames 0 to 59" in said and "frames 90 to 99" in said and said.count("\n") == 2
    path.write_bytes(flipped(data, start + 20))  # the header, without which nothing can be read
    with pytest.raises(StreamError, match="header of the coded frames is damaged"):
        Stream.salvage(path)


def crc_fixed(payload: bytes) -> bytes:
    """A coded payload with the checksum of its header made right again."""
    _, _, interval, frames = struct.unpack_from("<BBHI", payload)
    end = 47 + 8 * -(-frames // interval)
    return payload[:end] + struct.pack("<I", zlib.crc32(payload[:end])) + payload[end + 4 :]


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda p: p[:30], "cut short"),
        (lambda p: b"\x02" + p[1:], "version 2"),
        (lambda p: p[:2] + b"\0\0" + p[4:], "damaged"),
        (lambda p: p[:4] + b"\xff\xff\xff\xff" + p[8:], "cut short"),
        (lambda p: crc_fixed(p[:4] + struct.pack("<I", 99) + p[8:]), "disagree about their number"),
        (lambda p: crc_fixed(p[:8] + b"\0\0\0\0" + p[12:]), "decode to other numbers"),
        (lambda p: crc_fixed(p[:12] + b"\xff" * 35 + p[47:]), "out of range|decode to other numbers"),
        (lambda p: crc_fixed(p[:47] + b"\0\0\0\0" + p[51:]), "damaged"),
        (lambda p: p + b"\0", "wrong length"),
    ],
)
def test_a_coded_header_that_lies_is_refused(change, sentence: str) -> None:
    data = replaced(coded_stream().to_bytes(), "CODE", change)
    with pytest.raises(StreamError, match=sentence) as caught:
        Stream.from_bytes(data)
    assert str(caught.value).startswith("the stream ") and "\n" not in str(caught.value)


def test_a_block_of_noise_decodes_to_an_error_or_to_finite_numbers() -> None:
    rng = np.random.RandomState(0)
    info = motion_codec.read_info(coded_stream().coded)
    for _ in range(20):
        block = rng.bytes(60)
        lying = dataclasses.replace(info, blocks=((0, 60, zlib.crc32(block)),) * 4)
        try:
            assert np.isfinite(motion_codec.decode_block(block, lying, 0)).all()
        except StreamError:
            pass


@pytest.mark.parametrize(
    "frames, steps, key_interval",
    [
        (np.zeros((0, 35)), STEPS, 10),
        (np.zeros((5, 34)), STEPS, 10),
        (np.full((5, 35), np.nan), STEPS, 10),
        (CURVES, STEPS[:34], 10),
        (CURVES, np.zeros(35), 10),
        (CURVES, STEPS * np.nan, 10),
        (CURVES, STEPS, 0),
        (CURVES, STEPS, 513),
    ],
)
def test_what_cannot_be_coded_is_refused(frames: np.ndarray, steps: np.ndarray, key_interval: int) -> None:
    with pytest.raises(InputError):
        motion_codec.encode_frames(frames, steps, key_interval)


def golden_numbers() -> np.ndarray:
    """Curves in integers over powers of two, the same on every machine, with jumps that take the escape."""
    rng = np.random.RandomState(7)
    walk = np.cumsum(rng.randint(-3, 4, (90, 35)), axis=0)
    walk[50:53, 4:9] += 900
    return (walk * rng.randint(1, 40, 35) / 256).astype(np.float16)


def test_golden_bytes_decode_to_golden_numbers() -> None:
    """The bytes and the numbers are both kept, so that neither the coder nor the decoder can change unseen."""
    coded, numbers = GOLDEN / "coded.bin", GOLDEN / "coded.f2"
    if REMAKE:
        data = motion_codec.encode_frames(golden_numbers(), golden_numbers().astype(float).std(axis=0) / 6, 40)
        coded.write_bytes(data)
        numbers.write_bytes(motion_codec.decode_frames(data).astype("<f2").tobytes())
    data = coded.read_bytes()
    assert motion_codec.decode_frames(data).astype("<f2").tobytes() == numbers.read_bytes()
    steps = motion_codec.read_info(data).steps / 2**24
    assert motion_codec.encode_frames(golden_numbers(), steps, 40) == data, "MIEN_REMAKE_GOLDEN=1 makes the files again"


def test_decoding_does_not_depend_on_threads_or_precision() -> None:
    """Golden files decode to the same bytes where torch computes in float32 or bfloat16, with one thread or two."""
    code = (
        "import sys, zlib, torch; from mien.format import motion_codec; from mien.format.stream import Stream\n"
        "for kind in (torch.float32, torch.bfloat16):\n"
        "    for threads in (1, 2):\n"
        "        torch.set_num_threads(threads); torch.set_default_dtype(kind)\n"
        "        with torch.autocast('cpu', torch.bfloat16, enabled=kind != torch.float32):\n"
        "            coded = motion_codec.decode_frames(open(sys.argv[1], 'rb').read()).astype('<f2').tobytes()\n"
        "            plain = [Stream.load(path).frames.astype('<f2').tobytes() for path in sys.argv[2:]]\n"
        "        print(*(zlib.crc32(data) for data in [coded, *plain]))\n"
    )
    files = [GOLDEN / name for name in ("coded.bin", "plain.mien", "full.mien")]
    plain = [Stream.load(path).frames.astype("<f2").tobytes() for path in files[1:]]
    wanted = [zlib.crc32(data) for data in [(GOLDEN / "coded.f2").read_bytes(), *plain]]
    for threads in ("1", "2"):
        out = subprocess.run(
            [sys.executable, "-c", code, *files],
            capture_output=True, check=True, text=True, env={**os.environ, "OMP_NUM_THREADS": threads},
        ).stdout.splitlines()  # fmt: skip
        assert len(out) == 4 and all([int(word) for word in line.split()] == wanted for line in out)
