"""Which clips of a folder are encoded, and into which files."""

from __future__ import annotations

from pathlib import Path

from mien.apps.batch.batch import find_jobs
from mien.options import EncodeOptions


def test_outputs_differ_whatever_the_clips_are_called(pack_file: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("a.mp4", "a.mkv", "a.mp4.mov", "b.mov", "b.mov.mp4", "b.mov.mp4.mkv", "c.d.mp4"):
        (clips / name).touch()
    jobs = find_jobs(clips, tmp_path / "out", str(pack_file), EncodeOptions.of(tune=False))
    outputs = {job.name: job.output.name for job in jobs}
    assert len(set(outputs.values())) == len({job.report for job in jobs}) == len(jobs) == 7
    assert (
        outputs["a.mp4.mov"] == "a.mp4.mov.mien" and outputs["c.d.mp4"] == "c.d.mien" and outputs["b.mov"] == "b.mien"
    )
