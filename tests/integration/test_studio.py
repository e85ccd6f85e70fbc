"""The studio: it comes up, keeps visitors apart, and refuses what no page of its own would ask for.

The full walk through it in a browser is `benchmarks/studio_click.py`.
"""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mien.apps.studio.job_queue import JobQueue, JobStopped, StudioJob
from mien.apps.studio.sessions import CLIPS, IDLE_SECONDS, LEFT_SECONDS, VISITOR_BYTES, Sessions, check_kind
from mien.errors import InputError

try:
    import gradio
except ImportError:
    gradio = None
needs_gradio = pytest.mark.skipif(
    gradio is None, reason="the studio's page was not tested: needs Gradio (mien[studio])"
)

MP4 = b"\0\0\0\x18ftypmp42" + b"\0" * 200


class Visitor:
    """A browser, as far as the server can tell: it keeps its cookie."""

    def __init__(self, port: int) -> None:
        self.port, self.cookie, self.key = port, "", f"s{id(self) % 10**9}"
        self.get("/")

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            sent.setdefault("Cookie", self.cookie)
        try:
            connection.putrequest(method, path, skip_host="Host" in sent)
            if body is not None and "Content-Length" not in sent:
                sent["Content-Length"] = str(len(body))
            for name, value in sent.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            found = answer.getheader("Set-Cookie")
            if found and not self.cookie:
                self.cookie = found.partition(";")[0]
            self.headers = dict(answer.getheaders())
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        return self.ask("GET", path, **headers)

    def post(self, path: str, data: Any, **headers: str) -> tuple[int, bytes]:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        return self.ask("POST", path, body, **{"Content_Type": "application/json", **headers})

    def upload(self, name: str, content: bytes, **headers: str) -> tuple[int, bytes]:
        head = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        return self.post("/gradio_api/upload", head + content + b"\r\n--b--\r\n",
                         Content_Type="multipart/form-data; boundary=b", **headers)  # fmt: skip

    def join(self, **changes: Any) -> tuple[int, bytes]:
        data = {"data": [], "fn_index": 0, "session_hash": self.key, **changes}
        return self.post("/gradio_api/queue/join", data)


@pytest.fixture(scope="module")
def studio() -> Iterator[SimpleNamespace]:
    """`mien studio` in a process of its own, with its folder in sight."""
    command = [sys.executable, "-m", "mien", "studio", "--port", "0"]
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, line
        port = int(found[1])
        visitor = Visitor(port)
        seconds = time.monotonic() - start
        times = Path(f"/proc/{process.pid}/stat")
        ticks = times.read_text().rpartition(")")[2].split() if times.exists() else None
        processor = (int(ticks[11]) + int(ticks[12])) / 100 if ticks else seconds
        yield SimpleNamespace(port=port, visitor=visitor, seconds=seconds, processor=processor, process=process)
    finally:
        process.terminate()
        process.wait(30)


@needs_gradio
def test_the_page_comes_up_soon_and_asks_no_other_machine(studio: SimpleNamespace) -> None:
    # Of this process's own time, since the machine may be busy with others; the clock is benchmarks/studio_click.py's.
    assert studio.processor < 15, f"{studio.processor:.1f} s of processor, {studio.seconds:.1f} s in all"
    status, page = studio.visitor.get("/")
    assert status == 200 and b"mien studio" in page
    elsewhere = re.findall(rb"""<(?:script|link|img|iframe|source)[^>]*(?:src|href)=["'](?:https?:)?//[^"']*""", page)
    assert not elsewhere, elsewhere
    policy = studio.visitor.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    assert "HttpOnly" in Visitor(studio.port).headers["set-cookie"]


@needs_gradio
def test_an_upload_is_its_visitors_alone(studio: SimpleNamespace) -> None:
    mine, other = Visitor(studio.port), Visitor(studio.port)
    status, body = mine.upload("mine.mp4", MP4 + b"mine")
    assert status == 200, body
    path = json.loads(body)[0]
    assert mine.get(f"/gradio_api/file={path}")[0] == 200
    assert other.get(f"/gradio_api/file={path}")[0] == 403
    handed = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}]}
    assert other.join(**handed)[0] == 403
    assert mine.join(**handed)[0] == 200
    assert other.join(session_hash=mine.key)[0] == 403  # nor can another use the session
    assert other.get(f"/gradio_api/queue/data?session_hash={mine.key}")[0] == 403
    assert other.get(f"/gradio_api/heartbeat/{mine.key}")[0] == 403


def hostile(visitor: Visitor, foreign: str) -> list[tuple[str, Any]]:
    """What an attacker might send, as (what, request)."""
    get, post, upload = visitor.get, visitor.post, visitor.upload
    file = lambda path: lambda: get(f"/gradio_api/file={path}")
    named = lambda **extra: lambda: visitor.join(data=[{"meta": {"_type": "gradio.FileData"}, **extra}])
    reads = [
        "/etc/passwd", "etc/passwd", "../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd",
        "%252fetc%252fpasswd", "....//....//etc/passwd", "/proc/self/environ", "/proc/self/fd/0", "/root/.ssh/id_rsa",
        "file:///etc/passwd", "http://127.0.0.1:22/", "https://example.com/", "C:\\Windows\\win.ini", "/dev/zero",
        "/etc/passwd%00.mp4", str(Path(foreign).parent), str(Path(foreign).parent.parent), foreign, foreign + "/",
        foreign.replace("/uploads/", "/uploads/../uploads/"),
    ]  # fmt: skip
    cases: list[tuple[str, Any]] = [(f"read {path}", file(path)) for path in reads]
    cases += [
        (f"GET {path}", lambda path=path: get(path))
        for path in (
            "/gradio_api/file/etc/passwd", "/gradio_api/proxy=http://127.0.0.1:80/", "/static/../../../../etc/passwd",
            "/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/assets/..%2f..%2f..%2fetc/passwd", "/monitoring",
            "/monitoring/summary", "/gradio_api/vibe-code/", "/gradio_api/deep_link?session_hash=x", "/docs", "/openapi.json",
            "/gradio_api/custom_component/x/client/component/..%2fapp.py", "/gradio_api/queue/status", "/login",
            "/gradio_api/stream/x/y/1/playlist.m3u8", "/studio/file/x/y", "/studio/file/../../etc/passwd",
            "/gradio_api/dev/reload", "/gradio_api/runs", "/svelte/x.js",
            "/gradio_api/queue/data?session_hash=../../x", "/gradio_api/queue/data",
        )
    ]  # fmt: skip
    cases += [
        ("a path of this machine", named(path="/etc/passwd")),
        ("another's upload", named(path=foreign)),
        ("an upload by an address", named(url="http://127.0.0.1:22/x")),
        ("an upload within the request", named(path=None, url="data:video/mp4;base64,AAAA")),
        ("a path deep inside", lambda: visitor.join(data=[[{"a": {"path": "/etc/passwd"}}]])),
        ("no session", lambda: post("/gradio_api/queue/join", {"data": [], "fn_index": 0})),
        ("a session's name with a path", lambda: visitor.join(session_hash="../x")),
        ("no JSON", lambda: post("/gradio_api/queue/join", b"{")),
        ("a list", lambda: post("/gradio_api/queue/join", [1])),
        ("very deep JSON", lambda: post("/gradio_api/queue/join", b"[" * 100_000)),
        ("a large request", lambda: post("/gradio_api/queue/join", b" " * (3 << 20))),
        ("a length that lies", lambda: post("/gradio_api/queue/join", None or b"", Content_Length="99999999999")),
        ("another way in", lambda: post("/gradio_api/run/predict", {"data": []})),
        ("a call", lambda: post("/gradio_api/call/encode", {"data": []})),
        ("a component's function", lambda: post("/gradio_api/component_server", {"data": []})),
        ("new code", lambda: post("/gradio_api/vibe-edit/", {"prompt": "x"})),
        ("DELETE", lambda: visitor.ask("DELETE", "/gradio_api/upload")),
        ("PUT", lambda: visitor.ask("PUT", "/gradio_api/upload", b"x")),
        ("another page's request", lambda: post("/gradio_api/queue/join", {}, Origin="https://example.com")),
        ("another name", lambda: get("/", Host="example.com")),
        ("a cross-site picture", lambda: get("/config", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")),
        ("HTML", lambda: upload("page.html", b"<script>alert(1)</script>")),
        ("HTML called a video", lambda: upload("page.mp4", b"<script>alert(1)</script>")),
        ("a script", lambda: upload("x.py", b"import os")),
        ("a picture with scripts", lambda: upload("x.svg", b"<svg onload='alert(1)'/>")),
        ("a name with a path", lambda: upload("../../../../tmp/evil.sh", b"#!/bin/sh")),
        ("a pickle called a stream", lambda: upload("x.mien", b"\x80\x04\x95")),
        ("an empty file", lambda: upload("x.mp4", b"")),
        ("no file", lambda: post("/gradio_api/upload", b"--b--\r\n", Content_Type="multipart/form-data; boundary=b")),
        ("no form", lambda: post("/gradio_api/upload", {"files": []})),
        ("a playlist", lambda: upload("x.m3u8", b"#EXTM3U\n/etc/passwd\n")),
    ]  # fmt: skip
    return cases


@needs_gradio
def test_hostile_requests_are_refused_with_a_sentence(studio: SimpleNamespace) -> None:
    owner, visitor = Visitor(studio.port), Visitor(studio.port)
    foreign = json.loads(owner.upload("theirs.mp4", MP4 + b"theirs")[1])[0]
    cases = hostile(visitor, foreign)
    assert len(cases) >= 50
    for what, request in cases:
        try:
            status, body = request()
        except (http.client.HTTPException, ConnectionError):
            continue  # the server hung up
        assert 400 <= status < 500, (what, status, body[:200])
        for secret in (b"root:", b"PATH=", b"Traceback", b"theirs", b"PRIVATE KEY"):
            assert secret not in body, (what, body[:200])
    assert owner.get(f"/gradio_api/file={foreign}")[0] == 200  # and the studio lives
    assert studio.process.poll() is None


@needs_gradio
def test_an_upload_that_is_too_large_is_refused_while_it_comes(studio: SimpleNamespace) -> None:
    visitor = Visitor(studio.port)
    body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="x.mp4"\r\n\r\n' + MP4
    # 200 MB are announced; what is sent is little, since the server need not wait for the rest.
    connection = http.client.HTTPConnection("127.0.0.1", studio.port, timeout=60)
    connection.putrequest("POST", "/gradio_api/upload")
    for name, value in (("Cookie", visitor.cookie), ("Content-Type", "multipart/form-data; boundary=b"),
                        ("Content-Length", str(200 << 20))):  # fmt: skip
        connection.putheader(name, value)
    connection.endheaders(body)
    for _ in range(200):
        connection.send(b"\0" * (1 << 20)) if _ else connection.send(b"\0" * ((1 << 20) - len(body)))
    answer = connection.getresponse()
    assert answer.status == 413 and b"too large: up to 100 MB" in answer.read()
    connection.close()


@needs_gradio
def test_a_camera_drives_only_a_face_that_its_visitor_has_learned(studio: SimpleNamespace) -> None:
    visitor = Visitor(studio.port)
    assert visitor.post(f"/studio/live/{visitor.key}", b"picture")[0] == 404
    assert visitor.post(f"/studio/live/{visitor.key}", bytes(500_000))[0] == 413
    assert visitor.get(f"/studio/live/{visitor.key}")[0] == 404


def test_bad_options_of_the_command_are_a_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    from mien.apps.cli.cli import main

    assert main(["studio", "--port", "70000"]) == 2
    if gradio is not None:
        assert main(["studio", "--pack", "/nowhere.safetensors"]) == 2
        assert main(["studio", "--host", "256.1.1.1", "--port", "0"]) == 2
    error = capfd.readouterr().err
    assert "Traceback" not in error


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path)


def upload(sessions: Sessions, visitor: str, name: str = "a.mp4", content: bytes = MP4) -> Path:
    folder = sessions.uploads / str(len(list(sessions.uploads.iterdir())))
    folder.mkdir()
    (folder / name).write_bytes(content)
    sessions.own(folder / name, visitor)
    return folder / name


def test_sessions_have_folders_of_their_own_that_go_with_them(sessions: Sessions) -> None:
    a, b = sessions.get("a1", "anna"), sessions.get("b1", "ben")
    assert a.folder != b.folder and a.folder.stat().st_mode & 0o077 == 0
    with pytest.raises(InputError, match="not yours"):
        sessions.get("a1", "ben")
    assert sessions.find("a1", "ben") is None
    path = upload(sessions, "anna")
    with pytest.raises(InputError, match="not uploaded"):
        sessions.take(b, path, CLIPS)
    with pytest.raises(InputError, match="another type"):
        sessions.take(a, path, (".mien",))
    own = sessions.take(a, path, CLIPS)
    assert own.parent == a.folder and own.read_bytes() == MP4
    address = a.offer(own, "x.mp4")
    assert a.offered[address.rpartition("/")[2]] == (own, "x.mp4")

    sessions.leave("a1", "ben")  # not his to leave
    assert sessions.sweep(a.used + 1e3) == 0
    sessions.leave("a1", "anna")
    assert sessions.sweep(time.monotonic() + LEFT_SECONDS + 1) == 1
    assert not a.folder.exists() and not path.exists() and b.folder.exists()
    assert sessions.sweep(b.used + IDLE_SECONDS + 1) == 1 and not b.folder.exists()


def test_a_session_that_is_used_again_stays(sessions: Sessions) -> None:
    session = sessions.get("a1", "anna")
    sessions.leave("a1", "anna")
    sessions.get("a1", "anna")
    assert sessions.sweep(time.monotonic() + LEFT_SECONDS + 1) == 0 and session.folder.exists()


def test_the_same_upload_of_two_visitors_stays_until_both_are_gone(sessions: Sessions) -> None:
    sessions.get("a1", "anna"), sessions.get("b1", "ben")
    path = upload(sessions, "anna")
    sessions.own(path, "ben")
    sessions.leave("a1", "anna")
    sessions.sweep(time.monotonic() + LEFT_SECONDS + 1)
    assert path.exists() and sessions.owns(path, "ben") and not sessions.owns(path, "anna")


def test_uploads_without_a_page_go_too(sessions: Sessions) -> None:
    path = upload(sessions, "anna")
    refused = sessions.uploads / "r" / "x.html"
    refused.parent.mkdir()
    refused.touch()
    sessions.discard(path)  # hers: not to be thrown away
    sessions.discard(refused)
    assert path.exists() and not refused.parent.exists()
    sessions.sweep(time.monotonic() + LEFT_SECONDS - 5)
    assert path.exists()
    sessions.sweep(time.monotonic() + LEFT_SECONDS + 1)
    assert list(sessions.uploads.iterdir()) == []


def test_a_visitor_has_only_so_much(sessions: Sessions) -> None:
    paths = []
    for i in range(5):
        folder = sessions.uploads / str(i)
        folder.mkdir()
        with (folder / "a.mp4").open("wb") as file:
            file.truncate(VISITOR_BYTES // 4)
        paths.append(folder / "a.mp4")
    for path in paths[:4]:
        sessions.own(path, "anna")
    with pytest.raises(InputError, match="larger than"):
        sessions.own(paths[4], "anna")
    assert not paths[4].exists() and paths[3].exists()


@pytest.mark.parametrize(
    ("name", "content", "fine"),
    [
        ("a.mp4", MP4, True),
        ("a.PNG", b"\x89PNG\r\n\x1a\n", True),
        ("a.webm", b"\x1a\x45\xdf\xa3", True),
        ("a.mien", b"\x89MIEN\r\n\x1a", True),
        ("a.mp4", b"#EXTM3U", False),
        ("a.png", MP4, False),
        ("a.svg", b"<svg/>", False),
        ("a", MP4, False),
        ("a.mp4", b"", False),
    ],
)
def test_a_file_is_what_its_name_says(tmp_path: Path, name: str, content: bytes, fine: bool) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    if fine:
        check_kind(path)
    else:
        with pytest.raises(InputError):
            check_kind(path)


def test_one_job_at_a_time_and_the_others_know_where_they_stand(sessions: Sessions) -> None:
    line, go = JobQueue(), threading.Event()
    running: list[str] = []

    def work(name: str) -> Any:
        def run(job: StudioJob) -> str:
            running.append(name)
            with job.stage("pose", 4) as tick:
                go.wait(20)
                tick(4)
            job.picture("input", np.zeros((1, 4, 4, 3), np.uint8))
            running.remove(name)
            return name

        return run

    first, second = (StudioJob(line, sessions.get(k, k), work(k)) for k in ("a", "b"))
    states = first.run()
    assert next(states).ahead == 0
    waiting = second.run()
    assert next(waiting).ahead == 1
    assert running == ["a"]
    with pytest.raises(InputError, match="at work already"):
        next(StudioJob(line, sessions.get("a", "a"), work("c")).run())
    go.set()
    list(states)
    assert first.result == "a" and first.state.stages[0].done == 4 and "input" in first.state.pictures
    for _ in waiting:
        assert running in ([], ["b"])
    assert second.result == "b" and sessions.get("a", "a").job is None and line.ahead(second) == 0


def test_a_job_that_is_stopped_or_left_ends_and_makes_room(sessions: Sessions) -> None:
    line = JobQueue()

    def endless(job: StudioJob) -> None:
        with job.stage("tune", None) as tick:
            while True:
                time.sleep(0.01)
                tick(1)

    job = StudioJob(line, sessions.get("a", "a"), endless)
    states = job.run()
    next(states)
    job.cancel()
    with pytest.raises(JobStopped):
        for _ in states:
            pass
    left = StudioJob(line, sessions.get("a", "a"), endless)
    states = left.run()
    next(states)
    states.close()  # type: ignore[attr-defined]
    for _ in range(200):
        if sessions.get("a", "a").job is None:
            break
        time.sleep(0.02)
    assert sessions.get("a", "a").job is None
    broken = StudioJob(line, sessions.get("a", "a"), lambda job: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(broken.run())
