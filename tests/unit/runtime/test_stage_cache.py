"""Encodes that are stopped and taken up again: the same file, and nothing left behind."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from factories.clips import astronaut_clip
from factories.commands import Run
from mien.errors import InputError, MienError, OutputError
from mien.runtime import resumable_loop, stage_cache
from mien.runtime.stage_cache import encode_key, work_folder


@dataclass(frozen=True)
class Result:
    weights: Tensor
    rows: NDArray[np.int64]
    score: float
    size: tuple[int, int]


def result() -> Result:
    return Result(torch.randn(3, 2).half(), np.arange(4), 0.1 + 0.2, (640, 480))


def never() -> Any:
    raise AssertionError("it is computed again")


def test_a_finished_stage_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    output = tmp_path / "a.mien"
    with pytest.raises(KeyboardInterrupt), work_folder(output, "k") as work:
        first = work.stage("one", Result, result)
        latents = work.stage("two", Tensor, lambda: torch.randn(2, 3, 4).transpose(0, 1))
        raise KeyboardInterrupt
    with work_folder(output, "k") as work:
        again = work.stage("one", Result, never)
        assert torch.equal(again.weights, first.weights) and again.weights.dtype == torch.float16
        assert np.array_equal(again.rows, first.rows) and (again.score, again.size) == (first.score, first.size)
        assert torch.equal(work.stage("two", Tensor, never), latents) and work.resumed == ["one", "two"]
        work.publish(output, b"whole")
    assert os.listdir(tmp_path) == ["a.mien"] and output.read_bytes() == b"whole"


def test_a_link_and_a_pipe_are_written_through(tmp_path: Path) -> None:
    link, pipe, target = tmp_path / "a.mien", tmp_path / "b.mien", tmp_path / "kept.mien"
    target.write_bytes(b"old")
    link.symlink_to(target)
    os.mkfifo(pipe)
    with work_folder(link, "k") as work:
        work.publish(link, b"whole")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with work_folder(pipe, "k") as work:
        work.publish(pipe, b"whole")
    received = os.read(reader, 100)
    os.close(reader)
    assert link.is_symlink() and target.read_bytes() == received == b"whole"
    assert sorted(os.listdir(tmp_path)) == ["a.mien", "b.mien", "kept.mien"] and pipe.is_fifo()


def test_another_key_and_damaged_files_start_anew(tmp_path: Path) -> None:
    output = tmp_path / "a.mien"
    folder = tmp_path / "a.mien.work"
    for key, text in (("a", "x"), ("b", "y"), ("b", "")):
        with pytest.raises(KeyboardInterrupt), work_folder(output, key) as work:
            if text:
                assert not list(folder.glob("*.npz")), "what another clip left is gone"
            else:
                assert not (folder / "half.tmp").exists()
            work.stage("one", Tensor, lambda: torch.ones(1000))
            assert len(work.resumed) == (not text)
            (folder / "half.tmp").write_bytes(b"what a kill leaves")
            raise KeyboardInterrupt
    data = bytearray((folder / "one.npz").read_bytes())
    data[1500] ^= 1
    (folder / "one.npz").write_bytes(data)
    with work_folder(output, "b") as work:
        assert torch.equal(work.stage("one", Tensor, lambda: torch.zeros(1)), torch.zeros(1))


def test_two_runs_for_one_output_are_refused(tmp_path: Path) -> None:
    output = tmp_path / "a.mien"
    with work_folder(output, "k") as work:
        work.stage("one", Result, result)
        with pytest.raises(InputError, match="at work"), work_folder(output, "k"):
            pass
        work.stage("one", Result, never)


@pytest.mark.parametrize(
    "number, kind, says", [(errno.ENOSPC, MienError, "disk is full"), (errno.EACCES, OutputError, "cannot write")]
)
def test_a_full_disk_is_a_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[MienError], says: str
) -> None:
    def failing(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(kind, match=says), work_folder(tmp_path / "a.mien", "k") as work:
        work.stage("one", Result, result)
        monkeypatch.setattr(os, "fsync", failing)
        work.stage("two", Result, result)
    assert os.listdir(tmp_path) == []


def test_the_key_tells_apart_what_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, other = tmp_path / "a.mp4", tmp_path / "b.mp4"
    clip.write_bytes(b"a clip")
    other.write_bytes(b"a clip, too")
    known = ((clip, "p", "cpu", "1"), (clip, "p", "cpu", "2"), (clip, "q", "cpu", "1"), (other, "p", "cpu", "1"))
    keys = [encode_key(*args, imagenet=True) for args in known]
    keys.append(encode_key(clip, "p", "cpu", "1", imagenet=False))
    assert len(set(keys)) == 5 and keys[0] == encode_key(clip, "p", "cpu", "1", imagenet=True)
    for changed in ("mediapipe", "opencv-python-headless"):
        versions = {"mediapipe": "1", "opencv-python-headless": "1", changed: "2"}
        monkeypatch.setattr(stage_cache, "version", lambda name, versions=versions: versions.get(name, ""))
        keys.append(encode_key(clip, "p", "cpu", "1", imagenet=True))
    assert len(set(keys)) == 7


class Memory:
    """Keeps the state of one step, and stops the loop there."""

    def __init__(self, stop: int) -> None:
        self.state: resumable_loop.State | None = None
        self.stop, self.seen = stop, 0

    def load(self) -> resumable_loop.State | None:
        return self.state

    def offer(self, state: Callable[[], resumable_loop.State]) -> None:
        self.seen += 1
        if self.seen == self.stop:
            self.state = {name: value.copy() for name, value in state().items()}
            raise KeyboardInterrupt


@pytest.mark.parametrize("size", [None, 8000])
def test_a_loop_that_was_stopped_ends_with_the_same_weights(pack_file: Path, size: int | None) -> None:
    """Nothing is forgotten: weights, moments, step counts, both random states. Weights lie channels last in a pack."""
    from mien.packs.pack import Pack
    from mien.personalize.generator_params import weights_for
    from mien.personalize.joint_refinement import refine
    from mien.personalize.options import RefinementOptions, TuningOptions
    from mien.personalize.pti import pivotal_tuning
    from mien.personalize.training_data import TrainingData
    from mien.runtime.monitor import StageMonitor

    found = Pack.load(pack_file)
    random = np.random.RandomState(0)
    crops = random.randint(0, 256, (5, 64, 64, 3)).astype(np.uint8)
    landmarks = random.rand(5, 478, 2).astype(np.float32) * 64
    data, angles = TrainingData.of(found, crops, landmarks), torch.randn(5, 2)

    def tuned(kept: resumable_loop.Checkpoint) -> list[Tensor]:
        done = pivotal_tuning(weights_for(found.generator, size), found.encoder, data, None,
                              TuningOptions(steps=7, passes=0), monitor=StageMonitor(checkpoint=kept))  # fmt: skip
        return [torch.from_numpy(done.delta.copy()), done.encoder]

    def refined(kept: resumable_loop.Checkpoint) -> list[Tensor]:
        done = refine(weights_for(found.generator, size), data, torch.zeros(found.generator.num_ws, 32), angles,
                      torch.zeros(5, 32), None, RefinementOptions(steps=7, passes=0),
                      monitor=StageMonitor(checkpoint=kept))  # fmt: skip
        return [torch.from_numpy(done.delta.copy()), done.identity, done.angles, done.alpha]

    for loop in (tuned, refined):
        whole = loop(resumable_loop.NoCheckpoint())
        memory = Memory(4)
        with pytest.raises(KeyboardInterrupt):
            loop(memory)
        assert all(torch.equal(a, b) for a, b in zip(loop(memory), whole, strict=True))
        assert memory.seen == 7, "only the steps that were left are done"


def test_an_interrupted_encode_goes_on_and_writes_the_same_file(
    run: Run, tmp_path: Path, pack_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIEN_CHECKPOINT", "0")
    clip = astronaut_clip(tmp_path / "face.mp4", count=2)
    options = ["--pack", pack_file, "--effort", "0.1", "--person-size", "full"]
    assert run("encode", clip, "-o", tmp_path / "whole.mien", *options)[0] == 0
    assert not list(tmp_path.glob("*.work"))

    output, writes = tmp_path / "a.mien", 0
    replace = os.replace

    def stopping(source: Path, target: Path) -> None:
        nonlocal writes
        replace(source, target)
        writes += target.suffix == ".npz"
        if target.suffix == ".npz" and writes in (2, 4, 13):  # after a stage, in tuning, in refining
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stopping)
    for _ in range(3):
        code, _, err = run("encode", clip, "-o", output, *options)
        assert code == 130 and "goes on from there" in err.splitlines()[-1] and not output.exists()
    code, _, err = run("encode", clip, "-o", output, *options, "--json", tmp_path / "r.json")
    assert code == 0, err
    assert output.read_bytes() == (tmp_path / "whole.mien").read_bytes()
    resumed = json.loads((tmp_path / "r.json").read_text())["resumed"]
    assert {"align", "tune", "attributes", "state-refine"} <= set(resumed)
    assert sorted(os.listdir(tmp_path)) == ["a.mien", "face.mp4", "r.json", "whole.mien"]


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a.mien.work"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="no work folder"), work_folder(tmp_path / "a.mien", "key"):
        pass
    assert [p.name for p in folder.iterdir()] == ["notes.txt"]
