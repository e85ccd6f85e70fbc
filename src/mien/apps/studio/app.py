"""The studio's server: its folder, the access control before the page, and the socket."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mien.apps.studio.sessions import UPLOAD_BYTES, Sessions
from mien.errors import InputError, MienError

STATIC = Path(__file__).with_name("static")
PREFIX = "mien-studio-"
SWEEP = 5.0  # seconds between looks for sessions that are over
LOOPBACK = ("127.0.0.1", "localhost", "::1")
OFFLINE = {  # before Gradio is imported: it asks and tells nobody anything
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_MCP_SERVER": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}


@contextmanager
def studio_folder() -> Iterator[Path]:
    """The studio's own folder, only its owner's; gone at the end. Folders of studios that were killed are removed."""
    base = Path(tempfile.gettempdir())
    for old in base.glob(f"{PREFIX}*"):
        number = old.name.split("-")[2]
        if old.is_dir() and old.stat().st_uid == os.getuid() and number.isdigit() and not _alive(int(number)):
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def make_app(folder: Path, pack_name: str, hosts: tuple[str, ...], size: int | None = None) -> tuple[Any, Any]:
    """The ASGI application and its `Studio`, all of whose files lie in `folder`. `size`: of `Studio`."""
    os.environ.update(OFFLINE)
    uploads = str(folder / "uploads")
    os.environ["GRADIO_TEMP_DIR"] = uploads
    try:
        import gradio as gr
        from fastapi import FastAPI
    except ImportError as error:
        raise MienError("the studio needs Gradio: pip install 'mien[studio]'.") from error
    from mien.apps.studio.access_control import AccessControl
    from mien.apps.studio.context import Studio
    from mien.apps.studio.page import build_page, theme

    sessions = Sessions(folder)
    studio = Studio(pack_name, sessions, size)
    page = build_page(studio)
    head = f"<script>{(STATIC / 'studio.js').read_text()}</script>"
    app = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None), page, "/", theme=theme(), head=head,
        css=(STATIC / "studio.css").read_text(), footer_links=[], run_history=False, ssr_mode=False, mcp_server=False,
        show_error=False, max_file_size=UPLOAD_BYTES, allowed_paths=[], enable_monitoring=False, pwa=False,
        blocked_paths=["/etc", "/proc", "/root", "/home", str(folder / "sessions")],
    )  # fmt: skip
    return AccessControl(app, sessions, hosts), studio


def serve(host: str, port: int, pack_name: str, size: int | None = None) -> None:
    """Serve until Ctrl-C. Raises PackError where the pack is not there or does not draw pictures of `size`, InputError
    where the port cannot be had."""
    listening = _listen(host, port)
    with listening, studio_folder() as folder:
        from mien.packs.pack import Pack, locate

        if size is not None or not os.path.isfile(locate(pack_name)):
            Pack.load(pack_name).at(size)  # says what is wrong
        app, studio = make_app(folder, pack_name, LOOPBACK if host in LOOPBACK else (), size)
        import uvicorn

        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=2,
                                               server_header=False))  # fmt: skip
        ended = threading.Event()
        threading.Thread(target=_sweeping, args=(studio.sessions, ended), daemon=True).start()
        threading.Thread(target=studio.warm, daemon=True).start()
        shown = f"[{host}]" if ":" in host else host
        print(f"the studio is at http://{shown}:{listening.getsockname()[1]} (Ctrl-C ends it)", flush=True)
        try:
            server.run(sockets=[listening])
        finally:
            ended.set()
            studio.sessions.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(info[0], socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(info[4])
        listening.listen(128)
        return listening
    except (OSError, ValueError) as error:  # ValueError: what cannot be a host's name
        why = getattr(error, "strerror", None) or error
        raise InputError(f"the studio cannot listen at {host}, port {port}: {why}.") from error


def _sweeping(sessions: Sessions, ended: threading.Event) -> None:
    while not ended.wait(SWEEP):
        sessions.sweep(time.monotonic())
