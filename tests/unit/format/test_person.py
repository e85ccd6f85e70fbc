"""Persons: the `.person` file and how strictly it is read, streams that name one, where it is looked for, the
commands, and a portrait that is tuned."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from factories.clips import astronaut_clip
from factories.commands import Run
from factories.streams import make_stream, replaced
from mien.api import encode_with_report
from mien.errors import PackError, StreamError
from mien.format import container
from mien.format.person import Person, find_person
from mien.format.stream import Stream
from mien.method.stage6_render.render import render
from mien.options import EncodeOptions
from mien.packs.pack import Pack

PERSON = Person("ann", "ab" * 32, "tiny-é", 64, make_stream().identity, b"MTL1 some weights")
SEEN = replace(PERSON, frames=make_stream(3).frames)


def named(person: Person = PERSON) -> Stream:
    return replace(make_stream(), person=person.fingerprint, person_name=person.name)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "home"))
    yield tmp_path / "home"


def test_a_person_and_a_stream_that_names_it_come_back(tmp_path: Path) -> None:
    PERSON.save(tmp_path / "ann.person")
    again = Person.load(tmp_path / "ann.person")
    assert again.to_bytes() == PERSON.to_bytes() and again.fingerprint == PERSON.fingerprint
    sizes = again.accounting()
    assert sizes["total"] == (tmp_path / "ann.person").stat().st_size
    assert sizes["header"] + sizes["identity"] + sizes["tuning"] == sizes["total"]
    stream = Stream.from_bytes(named().to_bytes())
    assert (stream.person, stream.person_name) == (PERSON.fingerprint, "ann")
    # A reader of before, which does not know the part, must refuse it.
    parts = container.scan(io.BytesIO(stream.to_bytes()), "x").parts
    assert any(p.tag == "PERS" and p.critical for p in parts)


def test_frames_of_a_person_come_back_and_old_readers_skip_them() -> None:
    again = Person.from_bytes(SEEN.to_bytes())
    np.testing.assert_array_equal(again.frames, SEEN.frames)
    assert again.accounting()["frames"] == 3 * 70 and PERSON.accounting()["frames"] == 0
    data = SEEN.to_bytes()
    parts = container.scan(io.BytesIO(data), "x", kind=container.PERSON).parts
    assert [p.critical for p in parts if p.tag == "seen"] == [False]
    long = replace(make_stream(200), tuning=b"MTL1")
    assert len(Person.of(long, "ann").frames) == 64
    with pytest.raises(StreamError, match="64 are allowed"):
        replace(PERSON, frames=make_stream(65).frames)
    with pytest.raises(StreamError, match="'seen' has a wrong length"):
        Person.from_bytes(
            container.join(
                [
                    *(container.Part(p.tag, data[p.offset :][: p.length]) for p in parts if p.tag != "seen"),
                    container.Part("seen", bytes(71)),
                ],
                container.PERSON,
            )
        )


@pytest.mark.parametrize("person", [PERSON, SEEN])
def test_every_changed_byte_of_a_person_is_found(person: Person) -> None:
    data = person.to_bytes()
    name = data.find(b"seen")  # of a part that may be absent: changed, it is one that readers skip
    for at in set(range(len(data))) - set(range(name, name + 4) if name >= 0 else ()):
        with pytest.raises(StreamError):
            Person.from_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
    for length in (0, 1, 12, 23, 60, len(data) - 1):
        with pytest.raises(StreamError):
            Person.from_bytes(data[:length])
    with pytest.raises(StreamError, match=r"is a \.person file, not a \.mien file"):
        Stream.from_bytes(data)
    with pytest.raises(StreamError, match=r"is a \.mien file, not a \.person file"):
        Person.from_bytes(make_stream().to_bytes())


def test_what_the_format_does_not_allow_is_refused() -> None:
    with pytest.raises(StreamError, match="no tuned weights"):
        replace(PERSON, tuning=b"")
    with pytest.raises(StreamError, match="not finite"):
        replace(PERSON, identity=np.full((4, 8), np.nan, np.float16))
    with pytest.raises(StreamError, match="name"):
        replace(PERSON, name="")
    with pytest.raises(StreamError, match="twice"):
        replace(named(), tuning=b"x")
    with pytest.raises(StreamError, match="no name"):
        replace(make_stream(), person="ab" * 32)
    data = named().to_bytes()
    for change in (lambda p: p[:32], lambda p: p + b"x" * 64, lambda p: p[:32] + b"\xff", lambda p: p[:32] + b"a\nb"):
        with pytest.raises(StreamError):
            Stream.from_bytes(replaced(data, "PERS", change))


def test_a_person_is_found_where_it_is_said_beside_the_stream_or_at_home(tmp_path: Path, home: Path) -> None:
    stream = named()
    with pytest.raises(PackError, match=r"needs the person 'ann' .* --person"):
        find_person(stream, tmp_path)
    other = replace(PERSON, tuning=b"MTL1 others")
    other.save(tmp_path / "ann.person")
    with pytest.raises(PackError):
        find_person(stream, tmp_path)
    with pytest.raises(StreamError, match="another one"):
        find_person(stream, tmp_path / "ann.person")
    with pytest.raises(StreamError, match="another one"):
        find_person(stream, other)
    with pytest.raises(StreamError, match="no such file"):
        find_person(stream, tmp_path / "bob.person")
    (home / "persons").mkdir(parents=True)
    PERSON.save(home / "persons" / "some-other-name.person")
    assert find_person(stream, tmp_path).to_bytes() == PERSON.to_bytes()
    assert find_person(stream).to_bytes() == PERSON.to_bytes()
    assert find_person(make_stream(), tmp_path) is None


def test_one_person_serves_two_clips_and_as_the_face_of_a_puppet(run: Run, tmp_path: Path, pack_file: Path) -> None:
    clip = astronaut_clip(tmp_path / "face.mp4", count=5)
    more = ["--pack", pack_file]
    quickly = [*more, "--effort", "0.1"]
    file = tmp_path / "ann.person"
    code, out, err = run("person", clip, "-o", file, "--size", "12k", "--duration", "0.1", *quickly)
    assert code == 0, err
    person = Person.load(file)
    assert person.name == "ann" and 0 < len(person.tuning) <= 12_000 and len(person.frames) > 0
    stream_file = tmp_path / "second.mien"
    code, _, err = run("encode", clip, "-o", stream_file, "--start", "0.08", "--person", file, *quickly)
    assert code == 0, err
    stream = Stream.load(stream_file)
    assert stream.person == person.fingerprint and not stream.tuning
    assert stream.accounting()["tuning"] == 0
    code, out, err = run("info", stream_file, "--json")
    assert code == 0 and json.loads(out)["person_file"]["tuning"] == len(person.tuning), err
    assert "'ann'" in run("info", stream_file)[1]
    assert "compact" in run("info", file)[1]
    assert run("render", stream_file, "-o", tmp_path / "a.mkv", *more)[0] == 0
    # The weights are the person's: without them the picture is another.
    tuned = np.stack(list(render(stream, pack=pack_file, person=file)))
    plain = np.stack(list(render(replace(stream, person="", person_name=""), pack=pack_file)))
    assert np.abs(tuned.astype(int) - plain).max() > 3
    code, _, err = run("puppeteer", stream_file, file, "-o", tmp_path / "p.mien", *more)
    assert code == 0, err
    puppet = Stream.load(tmp_path / "p.mien")
    assert puppet.person == person.fingerprint
    np.testing.assert_array_equal(puppet.identity, person.identity)
    # Away from the person, a sentence says what is missing.
    away = tmp_path / "away"
    away.mkdir()
    stream.save(away / "second.mien")
    code, _, err = run("render", away / "second.mien", "-o", away / "a.mkv", *more)
    assert code == 2 and "needs the person 'ann'" in err and err.count("\n") == 1
    assert "not here" in run("info", away / "second.mien")[1]
    assert run("render", away / "second.mien", "-o", away / "a.mkv", "--person", file, *more)[0] == 0
    assert run("encode", clip, "-o", away / "b.mien", "--person", stream_file, *more)[0] == 2
    # Nothing is left to tune where the encoder stays as it is.
    fixed = EncodeOptions.of("paper", duration=0.04, optimizer="gauss-newton")
    assert encode_with_report(clip, options=fixed, pack=str(pack_file), person=file)[0].person == person.fingerprint


def test_pictures_have_the_size_that_the_person_was_learned_in() -> None:
    PERSON.require_size(None)
    PERSON.require_size(PERSON.resolution)
    with pytest.raises(StreamError, match="learned in pictures of 64 pixels"):
        PERSON.require_size(256)


@pytest.mark.parametrize("size", ["9k", "-1", "k", "200q", "99m", ""])
def test_a_size_that_is_none_is_refused(run: Run, tmp_path: Path, size: str) -> None:
    clip = tmp_path / "x.mp4"
    clip.write_bytes(b"")
    code, _, err = run("encode", clip, "-o", tmp_path / "a.mien", f"--person-size={size}")
    assert code == 2 and err.count("\n") == 1


def test_two_encodes_with_one_seed_are_one_file(tmp_path: Path, pack_file: Path) -> None:
    clip = astronaut_clip(tmp_path / "face.mp4", count=3)
    found = Pack.load(pack_file)
    first, second, other = (
        encode_with_report(clip, pack=found, person_size=12_000, effort=0.1, seed=seed)[0].to_bytes()
        for seed in (5, 5, 6)
    )
    assert first == second != other


def test_weights_that_are_learned_already_are_not_made_smaller(run: Run, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned.mien"
    replace(make_stream(), tuning=PERSON.tuning * 4000).save(tuned)
    assert len(Stream.load(tuned).tuning) > 12_000
    code, _, err = run("person", tuned, "-o", tmp_path / "ann.person", "--size", "12k")
    assert code == 2 and "give the clip itself" in err and not (tmp_path / "ann.person").exists()
    code, _, err = run("person", tuned, "-o", tmp_path / "ann.person", "--start", "1")
    assert code == 2 and "encoded already" in err
    code, _, err = run("person", tuned, "-o", tmp_path / "ann.person", "--resolution", "512")
    assert code == 2 and "leave out --resolution" in err and not (tmp_path / "ann.person").exists()
