"""Downloads: resumed, checked, from the next mirror when one fails; without a network, one sentence and exit code 1."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from factories import checkpoints as official
from mien.errors import MienError, PackError
from mien.packs import zoo
from mien.packs.convert import convert
from mien.packs.download import Remote, Unavailable, fetch
from mien.packs.pack import Pack
from mien.runtime.progress import NoProgress

DATA = bytes(range(256)) * 4096  # one MiB
CLOSED = "http://127.0.0.1:9/file"  # nothing listens there


class Server(ThreadingHTTPServer):
    """Serves `files`; `cut` bytes of an answer are left out once, `seen` keeps the Range headers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut = 0
        self.html = False
        self.seen: list[str | None] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        data = self.server.files.get(self.path.strip("/"))
        if data is None:
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        self.server.seen.append(wanted)
        tag = '"' + hashlib.md5(data).hexdigest() + '"'
        start = 0
        if wanted and self.headers.get("If-Range", tag) == tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("ETag", tag)
        self.send_header("Content-Type", "text/html" if self.server.html else "application/octet-stream")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        cut, self.server.cut = self.server.cut, 0
        self.wfile.write(data[start : len(data) - cut])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def remote(*urls: str, data: bytes = DATA, **more: Any) -> Remote:
    hashes = (hashlib.sha256(data).hexdigest(),)
    return Remote("f.bin", urls, "https://example.org/page", "MIT", len(data), hashes, **more)


def get(file: Remote, folder: Path) -> Path:
    path = folder / file.name
    fetch(file, path, zoo.check, NoProgress())
    assert sorted(folder.iterdir()) == [path]  # no part of it is left
    return path


def test_a_file_is_downloaded_and_checked(server: Server, tmp_path: Path) -> None:
    server.files["a"] = DATA
    assert get(remote(server.url("a")), tmp_path).read_bytes() == DATA


def test_a_broken_download_is_resumed(server: Server, tmp_path: Path) -> None:
    server.files["a"], server.cut = DATA, 300_000
    with pytest.raises(Unavailable):
        fetch(remote(server.url("a")), tmp_path / "f.bin", zoo.check, NoProgress())
    assert not (tmp_path / "f.bin").exists()
    assert get(remote(server.url("a")), tmp_path).read_bytes() == DATA
    assert server.seen == [None, f"bytes={len(DATA) - 300_000}-"]


def test_a_file_that_changed_meanwhile_is_downloaded_anew(server: Server, tmp_path: Path) -> None:
    server.files["a"], server.cut = bytes(len(DATA)), 300_000
    with pytest.raises(Unavailable):
        fetch(remote(server.url("a")), tmp_path / "f.bin", zoo.check, NoProgress())
    server.files["a"] = DATA
    assert get(remote(server.url("a")), tmp_path).read_bytes() == DATA


def test_a_whole_part_needs_no_more_bytes(server: Server, tmp_path: Path) -> None:
    server.files["a"], server.cut = DATA, 1
    with pytest.raises(Unavailable):
        fetch(remote(server.url("a")), tmp_path / "f.bin", zoo.check, NoProgress())
    with (tmp_path / "f.bin.part").open("ab") as part:
        part.write(DATA[-1:])
    assert get(remote(server.url("a")), tmp_path).read_bytes() == DATA


def test_mirrors_are_tried_in_order(server: Server, tmp_path: Path) -> None:
    server.files["wrong"], server.files["good"] = b"x" * len(DATA), DATA
    file = remote(CLOSED, server.url("absent"), server.url("wrong"), server.url("good"))
    assert get(file, tmp_path).read_bytes() == DATA


def test_a_web_page_is_not_a_file(server: Server, tmp_path: Path) -> None:
    server.files["a"], server.html = b"<html>click here</html>", True
    with pytest.raises(Unavailable, match="a person must click through"):
        fetch(remote(server.url("a")), tmp_path / "f.bin", zoo.check, NoProgress())
    assert not list(tmp_path.iterdir())


def test_a_git_hash_is_checked(server: Server, tmp_path: Path) -> None:
    server.files["a"] = b"hello\n"
    file = Remote("f.bin", (server.url("a"),), "", "MIT", git_blob="ce013625030ba8dba906f756967f9e9ca394464a")
    assert get(file, tmp_path).read_bytes() == b"hello\n"
    with pytest.raises(PackError, match="not the expected file"):
        zoo.check(tmp_path / "f.bin", replace(file, git_blob="0" * 40))


# --- Whole packs -------------------------------------------------------------------------------------------------


@contextmanager
def checkpoint() -> Iterator[bytes]:
    import io

    buffer = io.BytesIO()
    torch.save({"g_ema": official.rosinality((8, 8))}, buffer)
    yield buffer.getvalue()


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty MIEN_HOME."""
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def table(server: Server) -> dict[str, Remote]:
    """Two files of a pack, the second optional and unreachable."""
    with checkpoint() as data:
        server.files["g"] = data
        needed = replace(remote(server.url("g"), data=data), name="g.pt")
    spare = replace(remote(server.url("none")), name="restyle.pt", optional=True)
    return {"stylegan2": needed, "restyle": spare}


def test_pull_makes_a_pack_and_says_what_is_left_out(tiny: Path, table: dict[str, Remote]) -> None:
    asked: list[str] = []
    pulled = zoo.pull("ffhq1024", accept=lambda file: not asked.append(f"{file.name}: {file.licence}"), files=table)
    assert asked == ["g.pt: MIT", "restyle.pt: MIT"]
    assert pulled.path == tiny / "packs" / "ffhq1024.safetensors"
    assert len(pulled.notes) == 1 and "restyle.pt was left out" in pulled.notes[0]
    assert Pack.load("ffhq1024").resolution == 8
    assert any(line.startswith("ffhq1024") and "at hand" in line for line in zoo.listing())


def test_nothing_is_downloaded_without_consent(tiny: Path, server: Server, table: dict[str, Remote]) -> None:
    for accept in (None, lambda file: False):
        with pytest.raises(MienError, match=r"licences of g\.pt, restyle\.pt were not accepted") as caught:
            zoo.pull("ffhq1024", accept=accept, files=table)
        assert caught.value.exit_code == 1
    assert server.seen == []


def test_a_file_put_there_by_hand_is_used_without_a_network(
    tiny: Path, server: Server, table: dict[str, Remote]
) -> None:
    folder = tiny / "downloads" / "ffhq1024"
    folder.mkdir(parents=True)
    (folder / "g.pt").write_bytes(server.files["g"])
    assert zoo.pull("ffhq1024", files=table).path.is_file()
    assert server.seen == []


def test_a_wrong_file_put_there_by_hand_is_named(tiny: Path, table: dict[str, Remote]) -> None:
    folder = tiny / "downloads" / "ffhq1024"
    folder.mkdir(parents=True)
    (folder / "g.pt").write_bytes(b"something else")
    with pytest.raises(PackError, match=r"g\.pt is not the expected file"):
        zoo.pull("ffhq1024", accept=lambda file: True, files=table)


def test_without_a_network_one_sentence_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    offline = {role: replace(file, urls=(CLOSED,)) for role, file in zoo.FFHQ1024.items()}
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    with pytest.raises(MienError) as caught:
        zoo.pull("ffhq1024", accept=lambda file: True, files=offline)
    message = str(caught.value)
    assert caught.value.exit_code == 1
    assert message.startswith("ffhq.pkl could not be downloaded (127.0.0.1:9 cannot be reached") and "\n" not in message
    assert str(tmp_path / "downloads" / "ffhq1024" / "ffhq.pkl") in message and "mien models pull ffhq1024" in message
    assert not (tmp_path / "packs" / "ffhq1024.safetensors").exists()


def test_the_command_line_says_it_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from mien.apps.cli.cli import main

    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nothing listens
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    assert main(["models", "pull", "ffhq1024", "--yes"]) == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("mien:")]
    assert len(lines) == 1 and "ffhq.pkl could not be downloaded" in lines[0]


def test_unknown_and_embedded_names(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="no pack 'x'"):
        zoo.pull("x")
    with pytest.raises(PackError, match="embedded"):
        zoo.pull("mini")


def test_the_table_is_whole() -> None:
    assert set(zoo.FFHQ1024) | set(zoo.LPIPS_VGG) == set(convert.SOURCES)
    names = [file.name for file in zoo.FFHQ1024.values()]
    assert len(set(names)) == len(names)
    for file in (*zoo.FFHQ1024.values(), *zoo.LPIPS_VGG.values()):
        assert file.licence and file.page.startswith("https://") and all(u.startswith("https://") for u in file.urls)
        assert file.optional or file.git_blob or all(len(h) == 64 for h in file.sha256) and file.sha256
