"""The page's decoder, run by node, against `mien render`: the same pictures but for rounding, with the same mark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from factories import EXAMPLES
from factories.node import needs_node, node
from mien.apps.page.build import PageOptions, build_page, read_entry
from mien.apps.provenance import file_hash
from mien.format import lowrank
from mien.format.person import Person
from mien.format.stream import Stream
from mien.format.weights_codec import tunable
from mien.media.images import psnr_from_mse
from mien.media.watermark import Watermark
from mien.media.watermark_detection import WatermarkDetector
from mien.method.stage6_render.render import FrameRenderer
from mien.packs.pack import Pack

pytestmark = [needs_node, pytest.mark.slow]
LEAST_PSNR = 60.0  # dB between the bytes; the page's kernels are those of the renderer
FRAMES = (0, 41)


def compact_weights(pack: Pack, rank: int = 6) -> bytes:
    """Random tuned weights of the compact kind, all steps and escapes of the coder among them."""
    plan = lowrank.pieces([tuple(p.shape) for p in tunable(pack.generator)], rank)
    rng = np.random.RandomState(1)
    codes = lowrank.nearest_codes(rng.uniform(0.0005, 0.002, len(plan)))
    codes[3] = 0
    symbols = [np.rint(rng.laplace(0, 3, piece.shape)).astype(np.int64) for piece in plan]
    symbols[1].ravel()[0] = 40
    return lowrank.pack_numbers(rank, codes, symbols)


def drawn_by_the_page(folder: Path) -> np.ndarray:
    node("draw.mjs", folder, 0, folder / "frames.rgba", *FRAMES)
    rgba = np.fromfile(folder / "frames.rgba", np.uint8).reshape(len(FRAMES), 256, 256, 4)
    assert (rgba[..., 3] == 255).all()
    return rgba[..., :3]


def assert_alike(file: Path, folder: Path) -> None:
    build_page([read_entry(file, None)], folder, PageOptions(people=1))
    page = drawn_by_the_page(folder)
    stream = Stream.load(file)
    renderer = FrameRenderer.of(stream, person=file.parent)
    mark, detector = Watermark(file_hash(stream), 256, 256), WatermarkDetector()
    for frame, index in zip(page, FRAMES, strict=True):
        error = np.square(frame.astype(np.float64) - mark(renderer(index, index + 1)[0])).mean()
        assert psnr_from_mse(error) > LEAST_PSNR
        detector.add(np.ascontiguousarray(frame))
    found = detector.result(file_hash(stream))
    assert found.found and found.stream_p_value is not None and found.stream_p_value < 0.05


def test_a_stream_with_all_weights_looks_alike(tmp_path: Path) -> None:
    assert_alike(EXAMPLES / "clip.mien", tmp_path / "page")


def test_a_person_with_compact_weights_looks_alike(mini: Pack, tmp_path: Path) -> None:
    stream = Stream.load(EXAMPLES / "clip.mien")
    person = Person("Ada", stream.pack, stream.pack_name, stream.resolution, stream.identity, compact_weights(mini))
    person.save(tmp_path / "Ada.person")
    named = replace(stream, tuning=b"", person=person.fingerprint, person_name="Ada")
    named.save(tmp_path / "clip.mien")
    assert_alike(tmp_path / "clip.mien", tmp_path / "page")
