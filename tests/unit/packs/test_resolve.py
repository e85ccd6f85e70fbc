"""Which pack a stream's own words lead to."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from factories.streams import make_stream
from mien.apps.telepresence.face import drawn_face
from mien.errors import PackError
from mien.format.person import Person
from mien.packs.pack import Pack
from mien.packs.resolve import pack_for
from mien.runtime.files import write_bytes


def test_the_name_in_a_stream_is_no_path(pack_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pack's path and what leads out of the folder of packs are refused, unread; the user's own path is taken."""
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    monkeypatch.chdir(pack_file.parent)
    pack = Pack.load(pack_file)
    for name in (str(pack_file), pack_file.name, f"../{pack_file.stem}", "/proc/self/pagemap", "x" * 64, ""):
        stream = replace(make_stream(1), pack_name=name, pack=pack.fingerprint)
        with pytest.raises(PackError, match="this stream needs the pack .* there is no pack of the name"):
            pack_for(stream, None)
    fits = replace(make_stream(1), pack=pack.fingerprint, resolution=pack.resolution,
                   identity=pack.people[0].numpy(), channels=[[c.layer, c.index] for c in pack.channels])  # fmt: skip
    assert pack_for(fits, str(pack_file)).fingerprint == pack.fingerprint


def test_the_name_in_a_persons_file_is_no_path(pack_file: Path) -> None:
    stream = make_stream(1, tuning=b"weights")
    person = replace(Person.of(stream, "anna"), pack_name=str(pack_file)[:64])
    with pytest.raises(PackError, match="there is no pack of the name"):
        drawn_face(person, None)


def test_a_pack_is_found_by_its_name(pack_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    (tmp_path / "packs").mkdir()
    shutil.copy(pack_file, tmp_path / "packs" / "mine.safetensors")
    assert Pack.named("mine").fingerprint == Pack.load("mine").fingerprint
    write_bytes(tmp_path / "packs" / "mine.safetensors", b"no pack")
    with pytest.raises(PackError, match="cannot be read"):
        Pack.named("mine")
