"""How two ends find each other: an invitation and its answer, each one line of text, pasted or over a TCP connection.

A line is a session description (SDP) as base64url of zlib of JSON. It holds addresses and the fingerprint of the
certificate that the connection is made with, so whoever passes the lines on can be the other end: pass them on over a
line that is trusted.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import zlib

from mien.errors import InputError

INVITATION, ANSWER = "offer", "answer"
MOST_CODE, MOST_TEXT = 16_384, 65_536  # bytes of a line, and of what it unpacks to
PATIENCE = 20.0  # seconds in which whoever connects has to answer


def to_code(kind: str, description: str) -> str:
    """The line for a session description of a `kind`: INVITATION or ANSWER."""
    text = json.dumps({"type": kind, "sdp": description}).encode()
    return base64.urlsafe_b64encode(zlib.compress(text, 9)).decode().rstrip("=")


def from_code(line: str, kind: str) -> str:
    """The session description of a line, with candidates that are addresses only: no name is looked up.

    Raises InputError: it is no line of that kind.
    """
    what = "an invitation" if kind == INVITATION else "an answer"
    try:
        packed = base64.urlsafe_b64decode(line.strip()[:MOST_CODE].encode("ascii") + b"==")
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(packed, MOST_TEXT)
        if not unpacker.eof:
            raise InputError(f"this is not {what} of mien call: it is cut short or too long.")
        values = json.loads(text)
        found, description = values["type"], values["sdp"]
    except (ValueError, KeyError, TypeError, RecursionError, zlib.error) as error:
        raise InputError(f"this is not {what} of mien call: it must be pasted whole, as one line.") from error
    if found != kind or not isinstance(description, str):
        raise InputError(f"this is not {what} of mien call, but of another kind.")
    return "".join(part for part in description.splitlines(keepends=True) if _is_safe(part))


def _is_safe(part: str) -> bool:
    """Whether a line of a session description makes no one look a name up."""
    if not part.startswith("a=candidate:"):
        return True
    words = part.split()
    try:
        ipaddress.ip_address(words[4])
    except (ValueError, IndexError):
        return False
    return True


def host_and_port(text: str) -> tuple[str, int]:
    """HOST:PORT, or PORT alone on this machine. Raises InputError."""
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or not 0 <= int(port) < 65_536:
        raise InputError(f"an address is HOST:PORT, or a port of this machine, not {text!r}.")
    return host.strip("[]") or "127.0.0.1", int(port)


async def exchange_as_server(invitation: str, host: str, port: int, ready: asyncio.Future[int] | None = None) -> str:
    """Hand the invitation to whoever connects to `host` and `port`, and return the first answer that is one.

    `ready` gets the port once it listens. Raises InputError where it cannot listen there.
    """
    answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(invitation.encode() + b"\n")
            line = (await asyncio.wait_for(reader.readline(), PATIENCE)).decode("ascii")
            from_code(line, ANSWER)
            if not answered.done():
                answered.set_result(line)
        except (OSError, ValueError, TimeoutError, InputError):
            pass  # whoever that was, the next one may be right
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(talk, host, port, limit=MOST_CODE)
    except (OSError, ValueError) as error:  # ValueError: what cannot be a host's name
        why = getattr(error, "strerror", None) or error
        raise InputError(f"mien call cannot listen at {host}, port {port}: {why}.") from error
    async with server:
        if ready is not None:
            ready.set_result(server.sockets[0].getsockname()[1])
        return await answered


class Visit:
    """A connection to an end that listens: `invitation()`, then `answer(line)`. Raises InputError where none is
    there."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._writer: asyncio.StreamWriter | None = None

    async def invitation(self) -> str:
        """Connect; returns the invitation."""
        try:
            reader, self._writer = await asyncio.wait_for(
                asyncio.open_connection(self._host, self._port, limit=MOST_CODE), PATIENCE
            )
            return (await asyncio.wait_for(reader.readline(), PATIENCE)).decode("ascii")
        except (OSError, ValueError, TimeoutError) as error:
            raise InputError(f"no mien call listens at {self._host}, port {self._port}.") from error

    async def answer(self, line: str) -> None:
        """Send the answer, and leave."""
        assert self._writer is not None
        self._writer.write(line.encode() + b"\n")
        await self._writer.drain()
        self._writer.close()
