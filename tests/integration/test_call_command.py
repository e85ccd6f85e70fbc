"""`mien call` between two ends in one process, with the embedded pack; and what the command refuses."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import wave
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

pytest.importorskip("aiortc", reason="the extra `call` is not installed")

import mien
from factories import TESTS
from factories.commands import Run
from mien.apps.telepresence.call.introduction import Hello
from mien.apps.telepresence.call.statistics import CallStatistics
from mien.apps.telepresence.face import drawn_face, driven_face
from mien.apps.telepresence.sources import ClipSource
from mien.format.person import Person
from mien.format.weights_codec import encode_delta
from mien.media.video import SYNTHETIC, probe, read_video, write_video
from mien.method.live_motion import ReaderOptions
from mien.packs.pack import Pack

EXAMPLES = TESTS.parent / "examples"


@pytest.fixture
def person(tmp_path: Path, mini: Pack) -> Path:
    """The example's person, drawn by the pack's own weights."""
    identity = mien.load(EXAMPLES / "clip.mien").identity
    weights = encode_delta(mini.generator, mini.generator)
    Person("ann", mini.fingerprint, "mini", mini.resolution, identity, weights).save(tmp_path / "ann.person")
    return tmp_path / "ann.person"


def clip_with_sound(path: Path) -> Path:
    with wave.open(str(path.with_suffix(".wav")), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes((8000 * np.sin(np.arange(96_000) * 0.05)).astype("<i2").tobytes())
    frames = list(read_video(EXAMPLES / "clip.mp4", duration=0.8))
    write_video(path, frames, 10, audio_from=path.with_suffix(".wav"), lossless=False)
    return path


class User:
    """Accepts whoever calls, and notes the port that an end listens at."""

    def __init__(self) -> None:
        self.port: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def ask(self, hello: Hello, kept: bool) -> bool:
        return hello.name == "ann"

    def notify(self, sentence: str) -> None:
        if "listening at port" in sentence:
            self.port.set_result(sentence.split()[-1].strip("."))

    def tick(self, statistics: CallStatistics) -> None:
        assert statistics.line()

    def invite(self, line: str) -> None:
        raise AssertionError("no line is to be shown")

    def reply(self, line: str) -> None:
        raise AssertionError("no line is to be shown")

    def read(self, what: str) -> str:
        raise AssertionError("no line is to be read")


@pytest.mark.slow
def test_two_ends_see_and_hear_each_other(tmp_path: Path, person: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mien.apps.telepresence.call.run import CallPlan, Meeting, Prepared, run
    from mien.apps.telepresence.call.sound import clip_sound

    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "home"))
    clip = clip_with_sound(tmp_path / "in.mkv")
    face = driven_face(drawn_face(Person.load(person), None), options=ReaderOptions(renders=40))

    def end(name: str, user: User, **meeting: str) -> Coroutine[Any, Any, CallStatistics]:
        plan = CallPlan(person, Meeting(**meeting), clip=clip, output=tmp_path / f"{name}.mp4")
        source = ClipSource(read_video(clip))
        return run(plan, Prepared(face, person.read_bytes(), "ann", source, clip_sound(clip)), user)

    async def both() -> list[CallStatistics]:
        user = User()
        first = asyncio.ensure_future(end("a", user, listen="0"))
        return await asyncio.gather(first, end("b", User(), connect=await user.port))

    for name, done in zip("ab", asyncio.run(both()), strict=True):
        assert done.frames == len(probe(clip))
        assert 1 <= len(done.drawn) <= done.read and done.refused == 0
        assert done.face_bytes[1] / done.read < 40
        shown = list(read_video(tmp_path / f"{name}.mp4"))
        assert len(shown) == done.frames and shown[0].shape == (256, 256, 3)
        assert SYNTHETIC.encode() in (tmp_path / f"{name}.mp4").read_bytes()
        with av.open(str(tmp_path / f"{name}.mp4")) as file:
            assert len(file.streams.audio) == 1
        assert not list(tmp_path.glob(f".{name}-*"))
    assert [p.stem for p in (tmp_path / "home" / "callers").iterdir()] == [Person.load(person).fingerprint]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--person", "no.person"), "no.person"),
        (("--person", "clip.mkv"), "no .person file"),
        (("--person", "ann.person", "--join", "x", "--listen", "1"), "one of"),
        (("--person", "ann.person", "--connect", "10.0.0.1:5"), "--host"),
        (("--person", "ann.person", "--connect", "nowhere"), "HOST:PORT"),
        (("--person", "ann.person", "--host", "192.0.2.1"), "192.0.2.1"),
        (("--person", "ann.person", "--input", "no.mp4"), "no.mp4"),
        (("--person", "ann.person", "--input", "clip.mkv", "--output", "out.txt"), "out.txt"),
        (("--person", "big.person", "--input", "clip.mkv"), "204,800"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(
    run: Run, tmp_path: Path, person: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mkv", [np.zeros((16, 16, 3), np.uint8)] * 3, 25)
    small = Person.load(person)
    Person("big", small.pack, "mini", 256, small.identity, b"MTL1" + bytes(205_000)).save(tmp_path / "big.person")
    before = sorted(tmp_path.iterdir())
    code, _, err = run("call", *arguments)
    assert code == 2 and says in err and len(err.strip().splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_missing_extra_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "aiortc.py").write_text("raise ImportError('not here')\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-m", "mien", "call", "--person", "me.person"], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == ["mien: mien call needs the extra `call`: pip install 'mien[call]'."]


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_one_interrupt_ends_a_call_that_waits_for_a_line(tmp_path: Path, person: Path) -> None:
    """Whoever presses Ctrl-C at the prompt has not to press Enter too."""
    clip = clip_with_sound(tmp_path / "clip.mkv")
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "mien", "call", "--person", str(person), "--input", str(clip), "--no-sound"]
    done = subprocess.Popen(
        [*command, "--join", "-"], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert done.stderr is not None
    said = ""
    while "paste the invitation" not in said:
        line = done.stderr.readline()
        assert line, said
        said += line
    done.send_signal(signal.SIGINT)
    _, rest = done.communicate(timeout=30)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 130
    assert "interrupted" in rest and "Traceback" not in rest
