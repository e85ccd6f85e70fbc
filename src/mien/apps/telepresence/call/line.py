"""The connection: WebRTC by aiortc. `control` is reliable and in order; `motion` neither, so that nothing waits for
what is lost; sound is Opus beside them. All of it is encrypted (DTLS)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from mien.errors import InputError, MienError

LOOPBACK = "127.0.0.1"
ALL = "all"
PATIENCE = 60.0  # seconds for the connection
WAITING_BYTES = 1_500  # of numbers that the connection has not taken yet: later ones are dropped instead of queued


def require_aiortc() -> Any:
    """The package aiortc. Raises InputError where the extra is missing."""
    try:
        import aiortc
    except ImportError as error:
        raise InputError("mien call needs the extra `call`: pip install 'mien[call]'.") from error
    return aiortc


class Line:
    """A connection to the other end.

    `addresses`: of this machine, that it listens at; ALL for all of them. `stun`: HOST:PORT of a server that tells this
    machine's public address, or None: none is asked. `sound`: an aiortc track to send. `heard` is called with each
    frame of sound (an av.AudioFrame), `moved` with each datagram; messages wait in `messages`: str, bytes, or None at
    the end.
    """

    def __init__(
        self, addresses: Sequence[str], stun: str | None, sound: Any, heard: Callable[[Any], None],
        moved: Callable[[bytes], None],
    ) -> None:  # fmt: skip
        aiortc = require_aiortc()
        _listen_only_at(addresses)
        servers = [aiortc.RTCIceServer(f"stun:{stun}")] if stun else []
        configuration = aiortc.RTCConfiguration(iceServers=servers, bundlePolicy=aiortc.RTCBundlePolicy.MAX_BUNDLE)
        self.messages: asyncio.Queue[str | bytes | None] = asyncio.Queue(256)
        self.dropped = 0  # datagrams that the connection did not take in time
        self._aiortc, self._heard, self._moved = aiortc, heard, moved
        self._peer = aiortc.RTCPeerConnection(configuration)
        self._peer.addTrack(sound)
        self._control = self._peer.createDataChannel("control", negotiated=True, id=0)
        self._motion = self._peer.createDataChannel("motion", negotiated=True, id=1, ordered=False, maxRetransmits=0)
        self._opened, self._closed = asyncio.Event(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._control.on("open", self._opened.set)
        self._control.on("message", self._message)
        self._control.on("close", self._end)
        self._motion.on("message", lambda data: self._moved(data) if isinstance(data, bytes) else None)
        self._peer.on("track", self._listen)
        self._peer.on("connectionstatechange", self._changed)

    async def invitation(self) -> str:
        """The session description of an invitation."""
        await self._peer.setLocalDescription(await self._peer.createOffer())
        return self._description()

    async def answer(self, invitation: str) -> str:
        """The session description of the answer to an invitation's. Raises InputError where it cannot be used."""
        await self._take(invitation, "offer")
        await self._peer.setLocalDescription(await self._peer.createAnswer())
        return self._description()

    async def accept(self, answer: str) -> None:
        """Take the answer's session description. Raises InputError where it cannot be used."""
        await self._take(answer, "answer")

    async def connected(self) -> None:
        """Wait for the connection. Raises MienError where there is none."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._opened, self._closed)]
        await asyncio.wait(waits, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if not self._opened.is_set():
            raise MienError("the other end could not be reached: no connection came about (see --host and --stun).")

    def say(self, message: str | bytes) -> None:
        """Send a message, if the connection is still there."""
        if self._control.readyState == "open":
            self._control.send(message)

    def send(self, datagram: bytes) -> bool:
        """Send a datagram, unless earlier ones still wait; whether it was sent."""
        sent = self._motion.readyState == "open" and self._motion.bufferedAmount < WAITING_BYTES
        if sent:
            self._motion.send(datagram)
        self.dropped += not sent
        return bool(sent)

    async def bytes_moved(self) -> tuple[int, int]:
        """Bytes sent and received, with everything that encryption and retransmission add (not UDP's and IP's
        heads)."""
        for value in (await self._peer.getStats()).values():
            if value.type == "transport":
                return value.bytesSent, value.bytesReceived
        return 0, 0

    async def close(self) -> None:
        """End the connection."""
        await self._peer.close()
        for task in self._tasks:
            task.cancel()

    def _description(self) -> str:
        return str(self._peer.localDescription.sdp)

    async def _take(self, description: str, kind: str) -> None:
        try:
            await self._peer.setRemoteDescription(self._aiortc.RTCSessionDescription(description, kind))
        except Exception as error:  # aiortc raises whatever its parser comes upon
            raise InputError("the other end's session description cannot be used.") from error

    def _message(self, message: str | bytes) -> None:
        if self.messages.full():  # no honest end sends so much at once
            self._end()
        else:
            self.messages.put_nowait(message)

    def _end(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            while self.messages.full():
                self.messages.get_nowait()
            self.messages.put_nowait(None)

    def _changed(self) -> None:
        if self._peer.connectionState in ("failed", "closed"):
            self._end()

    def _listen(self, track: Any) -> None:
        if track.kind == "audio":
            task = asyncio.ensure_future(self._hear(track))
            self._tasks.add(task)

    async def _hear(self, track: Any) -> None:
        try:
            while True:
                self._heard(await track.recv())
        except self._aiortc.mediastreams.MediaStreamError:
            return


def _listen_only_at(addresses: Sequence[str]) -> None:
    """Make aioice gather these addresses only: it has no setting for it, and takes all but loopback on its own."""
    from aioice import ice

    if ALL not in addresses:
        chosen = list(addresses)
        ice.get_host_addresses = lambda use_ipv4, use_ipv6: chosen
