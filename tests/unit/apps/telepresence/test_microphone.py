"""A microphone that cannot be opened is said before the call."""

from __future__ import annotations

import pytest

from mien.errors import InputError

sound = pytest.importorskip("mien.apps.telepresence.call.sound", reason="NOT TESTED: the extra `call` is not installed")


def test_a_microphone_that_cannot_be_opened_is_said_at_once() -> None:
    with pytest.raises(InputError, match="cannot be opened: --microphone NAME, or --no-sound"):
        sound.microphone_sound("no-such-microphone")
