"""A stream under edit: its versions, what the form asks for, and what the page shows of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mien.apps.studio import markup
from mien.apps.studio.media import Renderer, data_address
from mien.editing.curves import MotionCurves, curves_of
from mien.editing.operations import Copy, Cut, Keep, Mix, Offset, Operation, Scale, Smooth
from mien.errors import InputError
from mien.format.stream import Stream
from mien.packs.pack import Pack

ATTRIBUTES = ("mouth", "jaw", "eyes", "brows", "gaze", "yaw", "pitch", "roll")
POSE = ("yaw", "pitch", "roll")
SCALE, SHIFT, SMOOTH, COPY, MIX, CUT, KEEP = (
    "Stronger or weaker", "Shift", "Smooth", "Copy", "Mix", "Cut out", "Keep only",
)  # fmt: skip
ACTIONS = (SCALE, SHIFT, SMOOTH, COPY, MIX, CUT, KEEP)
POINTS = 800  # of a curve that are sent to the page
MOST_UNDO = 100
END_SLACK = 0.01  # seconds by which the form's end, a rounded number, may fall short of the stream's


@dataclass
class Editor:
    """A stream and its edits: `versions[0]` is the original, `versions[at]` what is shown.

    `frame` is under the cursor, `picked` are the attributes whose curves are shown, `span` is the stretch of frames
    that is marked (all if None), `done` names the edits.
    """

    versions: list[Stream]
    at: int = 0
    frame: int = 0
    picked: list[str] = field(default_factory=lambda: ["mouth"])
    span: tuple[int, int] | None = None
    done: list[str] = field(default_factory=list)

    @property
    def stream(self) -> Stream:
        """The version that is shown."""
        return self.versions[self.at]

    def push(self, stream: Stream, what: str) -> None:
        """Add a version after the one that is shown; those that were undone are gone."""
        self.versions = [*self.versions[: self.at + 1], stream]
        self.done = [*self.done[: self.at], what]
        if len(self.versions) > MOST_UNDO:
            del self.versions[1], self.done[0]
        self.at = len(self.versions) - 1
        self.settle()

    def move(self, step: int) -> None:
        """Undo (-1) or redo (1), as far as there are versions."""
        self.at = min(max(self.at + step, 0), len(self.versions) - 1)
        self.settle()

    def settle(self) -> None:
        """Keep frame and stretch inside the stream, whose length may have changed."""
        count = len(self.stream)
        self.frame = min(self.frame, count - 1)
        if self.span is not None and self.span[1] > count:
            self.span = None

    def seek(self, frame: int) -> None:
        """Put the cursor on a frame, or on the nearest that there is."""
        self.frame = min(max(frame, 0), len(self.stream) - 1)

    def mark(self, start: int, end: int) -> None:
        """Mark the frames from `start` up to `end`; all of them is no mark."""
        count = len(self.stream)
        first = min(max(start, 0), count - 1)
        last = min(max(end, first + 1), count)
        self.span = None if (first, last) == (0, count) else (first, last)

    def span_seconds(self) -> tuple[float, float]:
        """The marked stretch in seconds, rounded as the form shows it."""
        first, last = self.span or (0, len(self.stream))
        fps = float(self.stream.fps)
        return round(first / fps, 3), round(last / fps, 3)


@dataclass(frozen=True)
class EditForm:
    """The form's values: `what` is edited and how (`action`, one of `ACTIONS`), and the numbers that the action takes.

    `factor` of SCALE, `shift` in the attribute's own standard deviations and `degrees` of SHIFT, `seconds` of SMOOTH,
    `to` (second) of COPY, `weight` and `other` (an upload) of MIX; `start` and `end` in seconds.
    """

    what: tuple[str, ...]
    action: str
    factor: float
    shift: float
    degrees: float
    seconds: float
    to: float
    weight: float
    other: str | None
    start: float
    end: float

    @classmethod
    def of(cls, values: list[Any]) -> EditForm:
        """From the components' values in the order of the fields; an empty number counts as 0."""
        what, action, *numbers, other, start, end = values
        factor, shift, degrees, seconds, to, weight = (float(v or 0) for v in numbers)
        what = tuple(str(name) for name in what)
        span = float(start or 0), float(end or 0)
        return cls(what, str(action), factor, shift, degrees, seconds, to, weight, other, *span)

    def operations(self, length: float, read: Callable[[str], Stream]) -> list[Operation]:
        """What the form asks for, on a stream of `length` seconds; `read` opens an upload. Raises InputError."""
        until = self.end if 0 < self.end < length - END_SLACK else length
        span: dict[str, Any] = {"start": self.start, "end": until if until < length else None}
        if self.action in (CUT, KEEP):
            return [(Cut if self.action == CUT else Keep)(self.start, until)]
        if not self.what:
            raise InputError("Choose at least one of the curves.")
        if self.action == SHIFT:
            face = tuple(n for n in self.what if n not in POSE and self.shift)
            pose = tuple(n for n in self.what if n in POSE and self.degrees)
            made: list[Operation] = [Offset(name, self.shift, **span) for name in face]
            return made + ([Offset(pose, self.degrees, **span)] if pose else [])
        if self.action == SMOOTH:
            return [Smooth(self.what, self.seconds, **span)]
        if self.action == COPY:
            return [Copy(self.what, self.start, until, to=self.to)]
        if self.action == MIX:
            if self.other is None:
                raise InputError("Choose the other .mien file.")
            return [Mix(self.what, read(self.other), self.weight, **span)]
        return [Scale(self.what, self.factor, **span)]


def fields_of(action: str, what: list[str]) -> list[bool]:
    """Which fields of the form are seen, in the order of `EditForm`: `what`, `factor` to `weight`, `other`."""
    pose, face = any(name in POSE for name in what), any(name not in POSE for name in what)
    return [
        action not in (CUT, KEEP), action == SCALE, action == SHIFT and face, action == SHIFT and pose,
        action == SMOOTH, action == COPY, action == MIX, action == MIX,
    ]  # fmt: skip


def attributes_of(curves: MotionCurves) -> list[str]:
    """The stream's attributes in the page's order; a stream with channels of its own has others than the pack's."""
    return [*(n for n in ATTRIBUTES if n in curves.groups), *(n for n in curves.groups if n not in ATTRIBUTES)]


def timeline(editor: Editor, pack: Pack) -> str:
    """The time line's HTML, with the curves of what is shown."""
    curves = curves_of(editor.stream, pack)
    numbers = np.asarray(editor.stream.frames, np.float32) / curves.scales
    numbers[:, 3:] -= np.median(numbers[:, 3:], axis=0)  # where a channel rests says nothing; how it moves does
    if len(numbers) > POINTS:
        numbers = numbers[np.linspace(0, len(numbers) - 1, POINTS).round().astype(int)]
    members = curves.groups
    groups = [
        {"name": name, "least": 2.0 if name in POSE else 0.3,
         "curves": [[round(float(v), 3) for v in numbers[:, i]] for i in members[name]]}
        for name in attributes_of(curves)
    ]  # fmt: skip
    data = {"frames": len(editor.stream), "fps": float(editor.stream.fps), "groups": groups, "frame": editor.frame,
            "span": list(editor.span) if editor.span else None, "picked": editor.picked}  # fmt: skip
    return markup.element("mien-timeline", data)


def frames_html(renderer: Renderer, editor: Editor, changed: Stream | None = None, note: str = "") -> str:
    """The frame under the cursor: of the original, and of what is shown or of `changed`, under which `note` stands."""
    original, shown = editor.versions[0], changed or editor.stream
    at = editor.frame
    figures = []
    if len(original) == len(shown):
        figures.append((renderer.still(original, at), "original"))
    figures.append((renderer.still(shown, at), note or ("edited" if editor.at else "no edit yet")))
    made = "".join(
        f'<figure><img alt="{caption}" src="{data_address(image, 92)}"><figcaption>{caption}</figcaption></figure>'
        for image, caption in figures
    )
    return (
        f'<div class="m-frames">{made}</div>'
        f'<p class="m-note">Frame {at + 1} of {len(shown)}, {at / float(shown.fps):.2f} s</p>'
    )
