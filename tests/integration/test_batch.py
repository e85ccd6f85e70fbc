"""`mien batch`: every clip once, on this machine and on Ray, whatever is killed; the manifest; resuming."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from factories import ROOT, TESTS
from factories.clips import astronaut_clip
from factories.worker_jobs import begun_and_ended, fickle, logged_encode
from mien.apps.batch.batch import MANIFEST, find_jobs, run_batch
from mien.apps.cli.cli import main
from mien.errors import InputError, OutputError
from mien.format.stream import Stream
from mien.options import EncodeOptions
from mien.runtime.workers import LocalPool, Pool, cores, local_devices, run_all

CLIPS = 8


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips of three frames, one of them in a folder of its own, one twice under two endings."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "more").mkdir()
    names = [f"clip{i}.mp4" for i in range(CLIPS - 3)] + ["more/clip.mp4", "twice.mkv", "twice.mp4"]
    astronaut_clip(folder / names[0], 3)
    for name in names[1:]:
        shutil.copy(folder / names[0], folder / name)
    (folder / "notes.txt").write_text("no clip")
    return folder


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.cluster)])
def make_pool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Pool]]:
    """Two workers of either kind."""
    if request.param == "local":
        yield lambda work: LocalPool(work, ["cpu", "cpu"])
        return
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'mien[cluster]'")
    from mien.apps.batch.cluster import RayPool

    monkeypatch.setenv("PYTHONPATH", f"{TESTS}:{ROOT / 'src'}")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield lambda work: RayPool(work, "auto")
    ray.shutdown()


def manifest(target: Path) -> list[dict]:
    return [json.loads(line) for line in (target / MANIFEST).read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine takes minutes to start Ray
def test_eight_clips_with_a_worker_killed_half_way(
    clips: Path, pack_file: Path, tmp_path: Path, make_pool: Callable[..., Pool]
) -> None:
    log, killed = tmp_path / "out" / "log", []
    jobs = find_jobs(clips, tmp_path / "out", str(pack_file), EncodeOptions.of(aligned=True, tune=False))
    (tmp_path / "out" / "more").rmdir()  # its log would be elsewhere: all outputs in one folder here
    jobs = [
        type(j)(j.name, j.clip, tmp_path / "out" / j.name.replace("/", "-"), j.pack, j.options, j.fingerprint)
        for j in jobs
    ]
    jobs = [
        type(j)(j.name, j.clip, j.output.with_name(j.output.name + ".mien"), j.pack, j.options, j.fingerprint)
        for j in jobs
    ]

    def kill_one() -> None:
        while not killed:
            _, ended, at_work = begun_and_ended(log)
            if len(ended) >= CLIPS // 2 and at_work:
                name, pid = next(iter(at_work.items()))
                os.kill(pid, signal.SIGKILL)
                killed.append((name, pid))
            time.sleep(0.01)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    lines = run_batch(jobs, tmp_path / "out", lambda count: make_pool(logged_encode))
    killer.join(5)
    assert killed, "nothing was killed: the test would show nothing"
    begun, ended, _ = begun_and_ended(log)
    assert Counter(ended) == Counter(job.name for job in jobs), "every clip is done, and none twice"
    assert [name for name, count in Counter(begun).items() if count > 1] == [killed[0][0]]
    assert lines == manifest(tmp_path / "out") and [line["clip"] for line in lines] == [job.name for job in jobs]
    assert all(line["state"] == "done" and line["frames"] == 3 for line in lines)
    assert {line["clip"]: line["attempts"] for line in lines if line["attempts"] != 1} == {killed[0][0]: 2}
    workers = {line["worker"].split(":")[1] for line in lines}
    assert len(workers) >= 2, "both workers had a share"
    for line, job in zip(lines, jobs, strict=True):
        assert len(Stream.load(job.output)) == 3 and job.output.stat().st_size == line["bytes"]
    assert not list((tmp_path / "out").glob(".*")), "neither a half-written file nor the lock is left"
    # Again: nothing is left to do. A stream that is gone is made anew, the others are not.
    assert run_batch(jobs, tmp_path / "out", lambda count: pytest.fail("no work is left")) == lines
    jobs[3].output.unlink()
    asked = []
    again = run_batch(jobs, tmp_path / "out", lambda count: asked.append(count) or _Here())
    assert asked == [1] and [a["clip"] for a, b in zip(again, lines, strict=True) if a != b] == [jobs[3].name]


class _Here:
    """A pool of this very process."""

    def free(self) -> list[int]:
        return [0]

    def submit(self, slot: int, job: object) -> None:
        self.job = job

    def wait(self):
        from mien.runtime.workers import Returned

        return Returned(0, logged_encode(self.job, "cpu"))

    def close(self) -> None:
        pass


def test_workers_that_die_raise_or_answer(tmp_path: Path, make_pool: Callable[..., Pool]) -> None:
    outcomes = {
        o.job[1]: o for o in run_all([(tmp_path, n) for n in (1, 2, 5, -1, 3, 6)], make_pool(fickle), attempts=2)
    }
    assert {n: outcomes[n].value for n in (1, 2, 3, 6)} == {1: 1, 2: 4, 3: 9, 6: 36}
    assert outcomes[2].attempts == 2 and outcomes[1].attempts == 1
    assert outcomes[5].error == "five is right out." and outcomes[5].attempts == 1, "what cannot be done is not retried"
    assert outcomes[-1].value is None and outcomes[-1].error.startswith("its worker was lost 2 times: ")


def test_command(clips: Path, pack_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A bad clip among good ones; then it is mended, and only that one is encoded."""
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    shutil.copy(clips / "clip0.mp4", source / "good.mp4")
    (source / "bad.mp4").write_text("this is no video")
    arguments = ["batch", str(source), str(target), "--pack", str(pack_file), "--aligned", "--no-tune", "--jobs", "1"]
    assert main(arguments) == 1
    out, err = capfd.readouterr()
    assert "bad.mp4: failed: " in out and err.splitlines()[-1].startswith("mien: 1 of 2 clips failed; ")
    bad, good = manifest(target)
    assert (bad["state"], good["state"]) == ("failed", "done") and "bad.mp4" in bad["error"]
    assert not (target / "bad.mien").exists() and json.loads((target / "good.json").read_text())["frames"] == 3
    before = (target / "good.mien").stat().st_mtime_ns
    shutil.copy(clips / "clip1.mp4", source / "bad.mp4")
    assert main(arguments) == 0
    assert [line["state"] for line in manifest(target)] == ["done", "done"]
    assert (target / "good.mien").stat().st_mtime_ns == before
    assert capfd.readouterr().out.endswith("2 clips done, 0 failed\n")
    main([*arguments, "--seed", "1"])
    assert (target / "good.mien").stat().st_mtime_ns != before, "other options, another result"


def test_jobs_of_a_folder(clips: Path, pack_file: Path, tmp_path: Path) -> None:
    jobs = find_jobs(clips, tmp_path / "out", str(pack_file), EncodeOptions.mien())
    names = [job.output.relative_to(tmp_path / "out").as_posix() for job in jobs]
    assert len(jobs) == CLIPS and "more/clip.mien" in names and {"twice.mkv.mien", "twice.mp4.mien"} <= set(names)
    assert len(find_jobs(clips, clips, str(pack_file), EncodeOptions.mien())) == CLIPS, (
        "the outputs may lie beside the clips"
    )
    (tmp_path / "out" / jobs[0].report.name).write_text('{"mine": 1}')
    with pytest.raises(OutputError, match="is no report"):
        find_jobs(clips, tmp_path / "out", str(pack_file), EncodeOptions.mien())
    (tmp_path / "out" / jobs[0].report.name).unlink()
    key = jobs[0].key()
    assert find_jobs(clips, tmp_path / "out", str(pack_file), EncodeOptions.of(seed=1))[0].key() != key
    os.utime(jobs[0].clip, (1, 1))
    assert jobs[0].key() != key, "a clip that has changed is another one"


def test_bad_usage(clips: Path, pack_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for source, target, options in (
        ("nowhere", "out", []),
        ("empty", "out", []),
        (clips, "file", []),
        (clips, "out", ["--pack", "none"]),
        (clips, "out", ["--jobs", "0"]),
    ):
        assert main(["batch", str(tmp_path / source), str(tmp_path / target), *options]) == 2
        out, err = capfd.readouterr()
        assert out == "" and err.startswith("mien: ") and err.count("\n") == 1, err
    assert not (tmp_path / "out").exists()


def test_two_runs_on_one_folder_do_not_meet(clips: Path, pack_file: Path, tmp_path: Path) -> None:
    jobs = find_jobs(clips, tmp_path, str(pack_file), EncodeOptions.mien())[:1]
    meet = lambda count: run_batch(jobs, tmp_path, lambda count: pytest.fail("the first run still has the folder"))
    with pytest.raises(OutputError, match="at work"):
        run_batch(jobs, tmp_path, meet)
    assert run_batch([], tmp_path, meet) == [], "and then the folder is free again"


def test_local_devices() -> None:
    assert local_devices(gpus=0) == ["cpu"] * cores() and local_devices("auto", 3, gpus=0) == ["cpu"] * 3
    assert local_devices(gpus=2) == ["cuda:0", "cuda:1"]
    assert local_devices("auto", 3, gpus=2) == ["cuda:0", "cuda:1", "cuda:0"]
    assert local_devices("cpu", 2, gpus=2) == ["cpu", "cpu"] and local_devices("cuda:1", gpus=2) == ["cuda:1"]


@pytest.mark.cluster
def test_an_address_without_a_cluster() -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'mien[cluster]'")
    from mien.apps.batch.cluster import RayPool

    with pytest.raises(InputError, match="no Ray cluster"):
        RayPool(fickle, "auto")


@pytest.mark.parametrize("name", ["a.mien", MANIFEST])
def test_what_no_batch_wrote_is_left_alone(tmp_path: Path, name: str) -> None:
    astronaut_clip(tmp_path / "a.mp4", 3, sound=False)
    (tmp_path / name).write_text('{"rows": 3}\n')
    with pytest.raises(OutputError, match="name another folder"):
        find_jobs(tmp_path, tmp_path, "mini", EncodeOptions.of(tune=False))
    assert (tmp_path / name).read_text() == '{"rows": 3}\n'
