"""The page's queue of frames where none can be drawn."""

from __future__ import annotations

import json

from factories.node import WEB, needs_node, node

pytestmark = needs_node


def test_a_frame_that_fails_is_tried_once_and_all_who_wait_are_told() -> None:
    seen = json.loads(node("failing_frames.mjs", WEB))
    assert seen == {"halted": 0, "asked": 1, "first": "no face", "second": "no face"}
