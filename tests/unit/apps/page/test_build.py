"""`mien page`: what the folder holds, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from factories import EXAMPLES, ROOT
from factories.commands import Run
from mien.apps.page.build import PageOptions, build_page, read_entry
from mien.errors import InputError, OutputError, PackError
from mien.format.stream import Stream
from mien.packs.pack import Pack

CLIP = EXAMPLES / "clip.mien"
WEB = ROOT / "src" / "mien" / "apps" / "page" / "web"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_the_folder_holds_all_that_plays(mini: Pack, run: Run, tmp_path: Path) -> None:
    code, out, err = run("page", CLIP, "-o", tmp_path / "site", "--title", "A clip")
    files = contents(tmp_path / "site")
    size = sum(map(len, files.values()))
    assert (code, err) == (0, "") and f"{size:,} bytes" in out
    assert size < 12e6
    facts = json.loads(files["page.json"])
    (about,) = facts["streams"]
    assert files[about["file"]] == CLIP.read_bytes()
    assert about["clip"] == {"name": "clip.mp4", "bytes": (EXAMPLES / "clip.mp4").stat().st_size}
    assert about["sentence"].startswith("Synthetic: ") and set(about["bends"]) == {"mouth", "eyes", "brows"}
    assert facts["title"] == "A clip" and list(facts["packs"]) == [mini.fingerprint]
    assert {"index.html", "main.js", "worker.js", "mien.wasm"} <= set(files) and "package.json" not in files
    # Again over the page that is there: replaced, and the same but for nothing; what is no part of a page stays.
    (tmp_path / "site" / "CNAME").write_bytes(b"example.org")
    (tmp_path / "site" / "streams" / "old.mien").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "site")
    assert run("page", CLIP, "-o", tmp_path / "link", "--title", "A clip")[0] == 0
    assert contents(tmp_path / "site") == files | {"CNAME": b"example.org"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.mien"], "nowhere.mien"),
        ([CLIP, "--clip", "a.mp4", "--clip", "b.mp4"], "2 times for 1 files"),
        ([CLIP, "--clip", "nowhere.mp4"], "nowhere.mp4"),
    ],
)
def test_bad_input_is_refused_before_any_work(run: Run, tmp_path: Path, arguments: list[object], sentence: str) -> None:
    code, _, err = run("page", *arguments, "-o", tmp_path / "site")
    assert code == 2 and sentence in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_of_other_things_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    code, _, err = run("page", CLIP, "-o", tmp_path)
    assert code == 2 and "holds other things than a page" in err
    assert contents(tmp_path) == {"letter.txt": b"dear"}


def test_what_lies_in_the_page_itself_is_no_input(run: Run, tmp_path: Path) -> None:
    """A part of a page is replaced whole, and a stream in it would go before it is read again."""
    (tmp_path / "streams").mkdir()
    (tmp_path / "page.json").write_text('{"maker": "mien page"}')
    stream = tmp_path / "streams" / "01-a.mien"
    stream.write_bytes(CLIP.read_bytes())
    code, _, err = run("page", stream, "-o", tmp_path)
    assert code == 2 and "lies in the page" in err and stream.read_bytes() == CLIP.read_bytes()
    with pytest.raises(OutputError, match="lies in the page"):
        build_page([read_entry(stream, None)], tmp_path)


def test_a_page_that_cannot_be_built_leaves_the_one_before(mini: Pack, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "page.json").write_text('{"maker": "mien page"}')
    entry = read_entry(CLIP, None)
    (tmp_path / "gone.mien").write_bytes(b"")
    gone = replace(entry, path=tmp_path / "gone.mien")
    gone.path.unlink()
    with pytest.raises(FileNotFoundError):
        build_page([gone], folder)
    assert contents(tmp_path) == {"site/page.json": b'{"maker": "mien page"}'}


def test_a_pack_that_the_decoder_does_not_draw_is_refused(pack: Pack, pack_file: Path, tmp_path: Path) -> None:
    stream = Stream.load(CLIP)
    other = replace(stream, pack=pack.fingerprint, pack_name=str(pack_file.name))
    other.save(tmp_path / "other.mien")
    with pytest.raises(PackError):
        read_entry(tmp_path / "other.mien", None)
    with pytest.raises(InputError, match="0 to 48"):
        PageOptions(people=49)


def test_the_page_asks_no_other_host() -> None:
    for file in WEB.iterdir():
        if file.suffix in (".js", ".html", ".css"):
            assert not re.search(r"(https?:|[\"'(])//", file.read_text()), file
    assert "connect-src 'self'" in (WEB / "index.html").read_text()


def test_the_decoder_in_the_repository_is_built_from_its_sources(tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="the extra `page` is not installed: the decoder is not compiled again")
    subprocess.run([sys.executable, ROOT / "tools" / "build_page_decoder.py", tmp_path / "again.wasm"], check=True)
    assert (tmp_path / "again.wasm").read_bytes() == (WEB / "mien.wasm").read_bytes()
