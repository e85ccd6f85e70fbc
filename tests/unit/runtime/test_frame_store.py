"""Crops and latents on disk are read as an array is, and go through the work folder as they are."""

from __future__ import annotations

import threading
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from factories.fake_device import crops as alignment
from mien.errors import MienError
from mien.face import mesh as lm
from mien.face.masks import ClipRegions, regions
from mien.method.image_sequences import LatentFile
from mien.method.types import FaceTrack
from mien.runtime.frame_store import ArrayFile, CropFile
from mien.runtime.stage_cache import work_folder

PICTURES = np.random.RandomState(0).randint(0, 256, (7, 16, 16, 3)).astype(np.uint8)
WAYS = [3, -1, slice(None), slice(2, 5), slice(None, None, 3), np.array([6, 0, 0]), np.array([], int), np.arange(7) > 4]


@pytest.mark.parametrize("which", WAYS, ids=str)
def test_crops_are_indexed_as_arrays_are(which: int | slice | np.ndarray) -> None:
    stored = CropFile(16, PICTURES)
    assert len(stored) == 7 and stored.shape == PICTURES.shape
    found = stored[which]
    assert found.dtype == np.uint8 and np.array_equal(found, PICTURES[which])
    assert np.array_equal(np.stack(list(stored)), PICTURES) and np.array_equal(stored, PICTURES)


def test_what_is_read_is_a_copy_and_wrong_crops_and_places_are_refused() -> None:
    stored = CropFile(16, PICTURES)
    stored[2][:] = 0
    assert np.array_equal(stored[2], PICTURES[2])
    for wrong in (PICTURES[0, :8], PICTURES[0].astype(float), PICTURES):
        with pytest.raises(ValueError, match="a row is uint8"):
            stored.append(wrong)
    with pytest.raises(IndexError):
        stored[7]


def test_threads_read_each_its_own() -> None:
    stored, wrong = CropFile(16, PICTURES), []

    def read(seed: int) -> None:
        for i in np.random.RandomState(seed).randint(0, 7, 300):
            if not np.array_equal(stored[i], PICTURES[i]):
                wrong.append(i)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_no_room_is_one_sentence_and_leaves_the_crops_whole(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="no limits on the size of files here")
    stored = CropFile(16, PICTURES[:2], folder=tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PICTURES[:2].nbytes + 100, before[1]))
    try:
        with pytest.raises(MienError, match=f"do not fit in {tmp_path}"):
            stored.append(PICTURES[2])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert np.array_equal(stored, PICTURES[:2])
    stored.append(PICTURES[2])
    assert np.array_equal(stored, PICTURES[:3])


def test_no_folder_for_temporary_files_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MienError, match="set TMPDIR"):
        CropFile(16, folder=tmp_path / "nowhere")


def test_an_alignment_comes_back_from_the_work_folder_and_a_damaged_one_does_not(tmp_path: Path) -> None:
    made = alignment(5)
    output = tmp_path / "out.mien"
    with pytest.raises(KeyboardInterrupt), work_folder(output, "key") as work:
        first = work.stage("align", FaceTrack, lambda: made)
        raise KeyboardInterrupt
    refuse = lambda: pytest.fail("it is there")
    with pytest.raises(KeyboardInterrupt), work_folder(output, "key") as work:
        again = work.stage("align", FaceTrack, refuse)
        assert work.resumed == ["align"] and isinstance(again.crops, CropFile)
        for field in fields(FaceTrack):
            assert np.array_equal(getattr(again, field.name), getattr(made, field.name)), field.name
        assert np.array_equal(first.crops, made.crops)
        raise KeyboardInterrupt
    file = tmp_path / "out.mien.work" / "align.npz"
    with np.load(file, allow_pickle=False) as plain:
        assert np.array_equal(plain["crops"], made.crops)  # an ordinary .npz
    data = bytearray(file.read_bytes())
    data[data.index(made.crops[3][:4].tobytes()) + 5] ^= 1
    file.write_bytes(data)
    with work_folder(output, "key") as work:
        anew = work.stage("align", FaceTrack, lambda: alignment(2))
        assert len(anew) == 2 and not work.resumed


def test_a_clips_masks_are_those_of_its_frames() -> None:
    random = np.random.RandomState(0)
    mesh = (lm.canonical_face()[None, :, :2] * 15 + [32, 30]).repeat(70, 0) + random.randn(70, 1, 2) * 4
    landmarks = mesh.astype(np.float32)
    whole, clip = regions(landmarks, 64), ClipRegions(landmarks, 64)
    for part in (slice(3, 40), torch.tensor([5, 60, 5])):
        for name in whole.__dataclass_fields__:
            assert torch.equal(getattr(clip.part(part), name), getattr(whole.part(part), name))
    often = clip.mean(lambda these: torch.cat([these.attention, these.lips], 1))
    torch.testing.assert_close(often, torch.cat([whole.attention, whole.lips], 1).mean(0, keepdim=True))


def test_latents_on_disk_are_read_as_a_tensor_is_and_come_back_from_the_work_folder(tmp_path: Path) -> None:
    values = torch.randn(7, 5, 4)
    made = LatentFile(ArrayFile((5, 4), np.float32, values.numpy()), "cpu")
    with pytest.raises(KeyboardInterrupt), work_folder(tmp_path / "out.mien", "key") as work:
        work.stage("invert", LatentFile, lambda: made)
        raise KeyboardInterrupt
    with work_folder(tmp_path / "out.mien", "key") as work:
        again = work.stage("invert", LatentFile, lambda: pytest.fail("it is there"))
    for latents in (made, again):
        assert len(latents) == 7 and torch.equal(latents[:], values)
        for part in (3, slice(2, 5), torch.tensor([6, 0, 0])):
            assert torch.equal(latents[part], values[part])
