"""Invitations and answers: lines of text, and the small server."""

from __future__ import annotations

import asyncio
import base64
import json
import zlib

import numpy as np
import pytest

from mien.apps.telepresence.call.signalling import (
    ANSWER,
    INVITATION,
    MOST_TEXT,
    Visit,
    exchange_as_server,
    from_code,
    host_and_port,
    to_code,
)  # fmt: skip
from mien.errors import InputError

SDP = "v=0\r\na=candidate:1 1 udp 5 127.0.0.1 5000 typ host\r\n"


def test_lines_come_back() -> None:
    line = to_code(INVITATION, SDP)
    assert len(line.split()) == 1 and from_code(f"  {line}\n", INVITATION) == SDP


def test_names_are_not_looked_up() -> None:
    named = "a=candidate:1 1 udp 5 abcd.local 5000 typ host\r\n"
    assert from_code(to_code(ANSWER, SDP + named + "a=candidate:1\r\n"), ANSWER) == SDP


def packed(value: object) -> str:
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(value).encode())).decode()


@pytest.mark.parametrize(
    "line",
    ["", "no line", "é", packed(3), packed({"type": "offer"}), packed({"type": "offer", "sdp": 5}), to_code(ANSWER, SDP),
     to_code(INVITATION, SDP)[:-12], packed("x" * (MOST_TEXT + 1)), packed({"type": "offer", "sdp": "x" * 10**7})],
)  # fmt: skip
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(InputError):
        from_code(line, INVITATION)


def test_mutated_lines_are_read_or_refused() -> None:
    random, good = np.random.default_rng(0), to_code(INVITATION, SDP)
    for _ in range(500):
        line = list(good)
        line[int(random.integers(len(line)))] = chr(int(random.integers(33, 127)))
        try:
            assert isinstance(from_code("".join(line), INVITATION), str)
        except InputError:
            pass


@pytest.mark.parametrize("text", ["", "x", "1.2.3.4:", ":-1", "70000", "host:99999"])
def test_addresses_out_of_range(text: str) -> None:
    with pytest.raises(InputError):
        host_and_port(text)


def test_addresses() -> None:
    assert host_and_port("7861") == ("127.0.0.1", 7861) and host_and_port("[::1]:5") == ("::1", 5)


def test_server_waits_for_an_answer_that_is_one() -> None:
    async def both() -> str:
        ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        server = asyncio.ensure_future(exchange_as_server(to_code(INVITATION, SDP), "127.0.0.1", 0, ready))
        port = await ready
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readline()
        writer.write(b"\xff" * 100_000 + b"\n")  # somebody else
        visit = Visit("127.0.0.1", port)
        assert from_code(await visit.invitation(), INVITATION) == SDP
        await visit.answer(to_code(ANSWER, SDP))
        answer = await server
        writer.close()
        return answer

    assert from_code(asyncio.run(asyncio.wait_for(both(), 20)), ANSWER) == SDP


def test_nobody_listens() -> None:
    with pytest.raises(InputError, match="no mien call"):
        asyncio.run(Visit("127.0.0.1", 1).invitation())
