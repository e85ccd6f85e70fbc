"""An ASGI layer before the page's server that lets through what the page needs, and nothing else.

It knows visitors by a cookie, ties each session and upload to the visitor who made it, serves the files that a session
offers, checks uploads, refuses all other addresses, and keeps the browser from asking other machines for anything.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from mien.apps.studio.live_driver import MOST_BYTES, LiveDriver
from mien.apps.studio.sessions import MEGABYTE, UPLOAD_BYTES, Sessions, check_kind
from mien.errors import InputError

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

COOKIE = "mien_visitor"
API = "/gradio_api"
BODY_BYTES = 2 * MEGABYTE  # of a request that is no upload
UPLOAD_SLACK = 64 << 10  # what the form around a file may add
TOO_LARGE = f"This file is too large: up to {UPLOAD_BYTES // MEGABYTE} MB are taken."

# What the page asks for. Everything else that the server could do is closed.
OPEN = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt"
    r"|/(?:assets|static)/[\w./@+-]+|/studio/file/\w+/[\w-]+"
    rf"|{API}/(?:info|startup-events|app_id|theme\.css)/?|{API}/queue/data|{API}/upload_progress"
    rf"|{API}/heartbeat/\w+|{API}/file=.+"
)
OPEN_TO_POST = re.compile(rf"{API}/(?:queue/join|upload|cancel|reset)/?|/studio/live/\w+")

HEADERS = {
    # The browser itself refuses to ask any other machine.
    "content-security-policy": "default-src 'self' blob: data:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' blob: data:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(self), microphone=(self), geolocation=()",
    "cross-origin-resource-policy": "same-origin",
}
# In the page itself: early connections, and addresses for link previews.
OUTSIDE = re.compile(
    rb"<link[^>]*(?:preconnect|dns-prefetch)[^>]*>|<script[^>]*src=\"https?://[^>]*>\s*</script>"
    rb"|<meta\s+(?:property|name)=\"(?:og|twitter):[^>]*>"
)


class RequestRefused(Exception):
    """A request that is not let through: a status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class AccessControl:
    """The layer around the ASGI application `app`.

    `hosts`: names this server answers to, any when empty (it was bound to an outside address).
    """

    def __init__(self, app: Any, sessions: Sessions, hosts: tuple[str, ...]) -> None:
        self._app, self._sessions, self._hosts = app, sessions, hosts

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            await self._http(scope, headers, receive, send)
        except RequestRefused as refusal:
            # The page shows what is said of an upload as it comes.
            upload = scope["path"].rstrip("/") == f"{API}/upload"
            answer = (
                PlainTextResponse(refusal.sentence, refusal.status, headers=HEADERS)
                if upload
                else JSONResponse({"detail": refusal.sentence}, refusal.status, headers=HEADERS)
            )
            await answer(scope, receive, send)  # type: ignore[arg-type]

    async def _http(self, scope: dict[str, Any], headers: dict[str, str], receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        self._check_origin(headers)
        if method in ("GET", "HEAD") and not OPEN.fullmatch(path):
            raise RequestRefused(404, "There is nothing here.")
        if method == "POST" and not OPEN_TO_POST.fullmatch(path):
            raise RequestRefused(404, "There is nothing here.")
        if method not in ("GET", "HEAD", "POST"):
            raise RequestRefused(405, "This cannot be done here.")
        if ".." in path or "\\" in path or "\0" in path:
            raise RequestRefused(403, "This address is not allowed.")
        visitor = _cookie(headers)
        new = visitor is None
        visitor = visitor or secrets.token_urlsafe(24)
        if path.startswith("/studio/file/"):
            await self._file(scope, path, visitor, receive, send)
            return
        if path.startswith(f"{API}/file="):
            self._check_upload_read(scope, path, visitor)
        if path.startswith(f"{API}/heartbeat/"):
            self._bind(path.rpartition("/")[2], visitor)
        if path == f"{API}/queue/data":
            self._bind(_query(scope).get("session_hash", ""), visitor)
        if path.startswith("/studio/live/"):
            await self._live(scope, path, headers, visitor, receive, send)
            return
        if method == "POST" and path.rstrip("/") == f"{API}/upload":
            await self._upload(scope, headers, visitor, receive, send)
            return
        if method == "POST":
            body = await _body(receive, headers, BODY_BYTES)
            self._check_body(body, visitor)
            receive = _replay(body, receive)
        await self._app(scope, receive, _Answer(send, visitor if new else None, rewrite=path == "/"))

    def _check_origin(self, headers: dict[str, str]) -> None:
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
        if self._hosts and name.strip("[]") not in self._hosts:
            raise RequestRefused(403, "This page is only served under its own name.")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise RequestRefused(403, "Requests from other pages are not taken.")
        if headers.get("sec-fetch-site", "same-origin") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            raise RequestRefused(403, "Requests from other pages are not taken.")

    def _bind(self, key: str, visitor: str) -> None:
        if not self._sessions.bind(key, visitor):
            raise RequestRefused(403, "This session is not yours.")

    def _check_upload_read(self, scope: dict[str, Any], path: str, visitor: str) -> None:
        # As it came, not as it was decoded once: what is decoded twice is not what was checked.
        raw = unquote(scope.get("raw_path", path.encode()).decode("latin-1")).partition("file=")[2].partition("?")[0]
        if not self._sessions.owns(raw, visitor):
            raise RequestRefused(403, "This file is not yours.")

    def _check_body(self, body: bytes, visitor: str) -> None:
        """Check that files that a request names are the visitor's own uploads, and the session theirs."""
        try:
            data = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise RequestRefused(400, "This request cannot be read.") from error
        if not isinstance(data, dict):
            raise RequestRefused(400, "This request cannot be read.")
        self._bind(str(data.get("session_hash")), visitor)
        waiting: list[Any] = [data]
        while waiting:
            item = waiting.pop()
            if isinstance(item, dict):
                if item.get("path") is not None and not self._sessions.owns(str(item["path"]), visitor):
                    raise RequestRefused(403, "This file is not yours.")
                if item.get("url") is not None and item.get("path") is None:
                    raise RequestRefused(403, "Files are taken from uploads only.")
                if isinstance(item.get("url"), str) and item["url"].startswith("data:"):
                    raise RequestRefused(403, "Files are taken from uploads only.")
                waiting.extend(item.values())
            elif isinstance(item, list):
                waiting.extend(item)

    async def _file(self, scope: dict[str, Any], path: str, visitor: str, receive: Receive, send: Send) -> None:
        _, _, _, key, token = path.split("/")
        session = self._sessions.find(key, visitor)
        found = session.offered.get(token) if session is not None else None
        if found is None or not found[0].is_file():
            raise RequestRefused(404, "There is no such file for you.")
        inline = "download" not in _query(scope)
        answer = FileResponse(
            found[0], filename=found[1], content_disposition_type="inline" if inline else "attachment",
            headers={**HEADERS, "cache-control": "private, no-store"},
        )  # fmt: skip
        await answer(scope, receive, send)  # type: ignore[arg-type]

    async def _live(
        self, scope: dict[str, Any], path: str, headers: dict[str, str], visitor: str, receive: Receive, send: Send
    ) -> None:
        """A picture of the visitor's camera in, one of the face that it drives out."""
        body = await _body(receive, headers, MOST_BYTES)
        session = self._sessions.find(path.rpartition("/")[2], visitor)
        driver = session.memory.get("live") if session is not None else None
        if session is None or not isinstance(driver, LiveDriver):
            raise RequestRefused(404, "There is no face for you: let one be learned first.")
        session.used = time.monotonic()
        try:
            answer = await asyncio.to_thread(driver.show, body)
        except InputError as error:
            raise RequestRefused(415, str(error)) from error
        response = Response(answer.body(), 200, headers=HEADERS, media_type="application/octet-stream")
        await response(scope, receive, send)  # type: ignore[arg-type]

    async def _upload(
        self, scope: dict[str, Any], headers: dict[str, str], visitor: str, receive: Receive, send: Send
    ) -> None:
        most = UPLOAD_BYTES + UPLOAD_SLACK
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > most:
            await _drain(receive, int(length))
            raise RequestRefused(413, TOO_LARGE)
        seen = 0

        async def counted() -> dict[str, Any]:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            return message if seen <= most else {"type": "http.disconnect"}

        try:
            status, body = await _answer(self._app, scope, counted)
        except Exception as error:
            if seen > most:
                raise RequestRefused(413, TOO_LARGE) from error
            raise RequestRefused(400, "This upload cannot be read.") from error
        if status == 413 or seen > most:
            raise RequestRefused(413, TOO_LARGE)
        try:
            paths = [Path(path) for path in json.loads(body)] if status == 200 else []
        except (ValueError, TypeError) as error:
            raise RequestRefused(400, "This upload cannot be read.") from error
        if not paths:
            raise RequestRefused(max(status, 400), "This upload holds no file.")
        try:
            for path in paths:
                if self._sessions.uploads not in path.parents:
                    raise InputError("This upload cannot be read.")
                check_kind(path)
            for path in paths:
                self._sessions.own(path, visitor)
        except (InputError, OSError) as error:
            for path in paths:
                self._sessions.discard(path)
            sentence = str(error) if isinstance(error, InputError) else "This upload cannot be read."
            raise RequestRefused(415, sentence) from error
        answer = Response(body, 200, headers=HEADERS, media_type="application/json")
        await answer(scope, receive, _Answer(send, None))  # type: ignore[arg-type]


class _Answer:
    """Adds the headers, gives a new visitor their cookie, and takes addresses of other machines out of the page."""

    def __init__(self, send: Send, visitor: str | None, *, rewrite: bool = False) -> None:
        self._send, self._visitor, self._rewrite = send, visitor, rewrite
        self._start: dict[str, Any] | None = None
        self._body = b""

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            ours = {name.encode() for name in HEADERS}
            kept = [(name, value) for name, value in message["headers"] if name.lower() not in ours]
            kept += [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            if self._visitor is not None:
                cookie = f"{COOKIE}={self._visitor}; Path=/; HttpOnly; SameSite=Strict"
                kept.append((b"set-cookie", cookie.encode()))
            message = {**message, "headers": kept}
            if self._rewrite:
                self._start = message
                return
        elif self._start is not None:
            self._body += message.get("body", b"")
            if message.get("more_body"):
                return
            body = OUTSIDE.sub(b"", self._body)
            headers = [(n, v) for n, v in self._start["headers"] if n.lower() != b"content-length"]
            headers.append((b"content-length", str(len(body)).encode()))
            await self._send({**self._start, "headers": headers})
            message = {**message, "body": body}
        await self._send(message)


def _cookie(headers: dict[str, str]) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return found.value if found is not None and re.fullmatch(r"[\w-]{32}", found.value) else None


def _query(scope: dict[str, Any]) -> dict[str, str]:
    values = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return {name: found[0] for name, found in values.items()}


async def _body(receive: Receive, headers: dict[str, str], most: int) -> bytes:
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > most:
        raise RequestRefused(413, "This request is too large.")
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestRefused(400, "This request was cut short.")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > most:
            raise RequestRefused(413, "This request is too large.")
    return body


async def _drain(receive: Receive, length: int, most: int = 4 * UPLOAD_BYTES) -> None:
    """Read what is refused (to a limit), so that the browser hears the sentence and not a broken connection."""
    seen = 0
    while seen < min(length, most):
        message = await receive()
        seen += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def again() -> dict[str, Any]:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _answer(app: Any, scope: dict[str, Any], receive: Receive) -> tuple[int, bytes]:
    """Run the server on a request and keep its answer back: status and body."""
    status, body = 500, b""

    async def keep(message: dict[str, Any]) -> None:
        nonlocal status, body
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            body += message.get("body", b"")

    await app(scope, receive, keep)
    return status, body
