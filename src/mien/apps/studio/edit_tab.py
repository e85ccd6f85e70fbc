"""The third tab: the 35 curves on a time line, bent, and the frame under the cursor before and after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import numpy as np

from mien.apps.provenance import Origin
from mien.apps.studio import markup
from mien.apps.studio.context import Studio, sentence
from mien.apps.studio.job_queue import StudioJob
from mien.apps.studio.media import checked_stream, data_address, write_panel, write_stream
from mien.apps.studio.sessions import Session
from mien.editing.curves import MotionCurves, curves_of
from mien.editing.operations import Copy, Cut, Keep, Mix, Offset, Operation, Scale, Smooth, edit
from mien.errors import InputError
from mien.format.stream import Stream
from mien.packs.pack import Pack

ATTRIBUTES = ["mouth", "jaw", "eyes", "brows", "gaze", "yaw", "pitch", "roll"]
POSE = ("yaw", "pitch", "roll")
DOES = ["Stronger or weaker", "Shift", "Smooth", "Copy", "Mix", "Cut out", "Keep only"]
POINTS = 800  # of a curve that are sent to the page
MOST_UNDO = 100
EMPTY = markup.empty(
    "No stream is open",
    "Open the clip you encoded, your last puppet, the example or a .mien file; its 35 curves will stand here by attribute.",
)


@dataclass
class Editor:
    """A stream and its edits: `versions[0]` is the original, `versions[at]` what is shown."""

    versions: list[Stream]
    at: int = 0
    frame: int = 0
    picked: list[str] = field(default_factory=lambda: ["mouth"])
    span: tuple[int, int] | None = None
    done: list[str] = field(default_factory=list)

    @property
    def stream(self) -> Stream:
        return self.versions[self.at]

    def push(self, stream: Stream, what: str) -> None:
        """A new version after the one that is shown; those that were undone are gone."""
        self.versions = [*self.versions[: self.at + 1], stream]
        self.done = [*self.done[: self.at], what]
        if len(self.versions) > MOST_UNDO:
            del self.versions[1], self.done[0]
        self.at = len(self.versions) - 1
        self.settle()

    def settle(self) -> None:
        """Keep frame and stretch inside the stream, whose length may have changed."""
        count = len(self.stream)
        self.frame = min(self.frame, count - 1)
        if self.span is not None and self.span[1] > count:
            self.span = None


def build(studio: Studio) -> dict[str, Any]:
    """The tab's components; returns those that others need."""
    gr.HTML(markup.lead("Bend the curves", "Drag on the curves to move through the clip, drag on the ruler above them "
                        "to mark a stretch. Every edit can be undone, and the result is an ordinary .mien file."))  # fmt: skip
    with gr.Row(elem_classes="m-open"):
        mine = gr.Button("The clip I encoded", size="sm", elem_id="open-encoded", min_width=130)
        puppet = gr.Button("My last puppet", size="sm", elem_id="open-puppet", min_width=130)
        example = gr.Button("An example", size="sm", elem_id="open-example", min_width=130)
        file = gr.UploadButton("A .mien file…", size="sm", file_types=[".mien"], elem_id="open-file", min_width=130)
    said = gr.HTML("", elem_classes="m-quiet", elem_id="edit-said")
    with gr.Row():
        with gr.Column(scale=7, min_width=320):
            line = gr.HTML(
                EMPTY, elem_id="timeline", elem_classes="m-quiet",
                js_on_load="for (const name of ['scrub', 'span', 'pick']) "
                "element.addEventListener(name, (e) => trigger(name, e.detail));",
            )  # fmt: skip
        with gr.Column(scale=4, min_width=300):
            frames = gr.HTML("", elem_id="frames", elem_classes="m-quiet")
            with gr.Column(visible=False) as form:
                what = gr.CheckboxGroup(ATTRIBUTES, value=["mouth"], label="Which curves", elem_id="what")
                does = gr.Dropdown(DOES, value=DOES[0], label="What to do", elem_id="does", filterable=False)
                factor = gr.Slider(0, 3, 1.5, step=0.05, label="Factor: 0 freezes, 1 changes nothing", elem_id="factor")
                shift = gr.Slider(-3, 3, 1, step=0.1, label="Along the attribute's own motion", visible=False,
                                  elem_id="shift")  # fmt: skip
                degrees = gr.Slider(-30, 30, 0, step=1, label="Degrees", visible=False)
                width = gr.Slider(0, 2, 0.3, step=0.05, label="Over how many seconds", visible=False)
                to = gr.Number(0, label="Copy to second", minimum=0, step=0.1, visible=False)
                weight = gr.Slider(0, 1, 0.5, step=0.05, label="How much of the other", visible=False)
                other = gr.File(label="The other .mien file", file_types=[".mien"], visible=False, height=110)
                with gr.Row():
                    start = gr.Number(0, label="From second", minimum=0, step=0.1, min_width=80, elem_id="from")
                    end = gr.Number(0, label="To second", minimum=0, step=0.1, min_width=80, elem_id="until")
                apply = gr.Button("Apply", variant="primary", elem_id="apply")
                with gr.Row():
                    undo = gr.Button("Undo", size="sm", interactive=False, elem_id="undo", min_width=70)
                    redo = gr.Button("Redo", size="sm", interactive=False, min_width=70)
                    render = gr.Button("Render and save", size="sm", elem_id="render-edit", min_width=120)
    out = gr.HTML("", elem_classes="m-out", elem_id="edited")
    shown = [line, frames, form, undo, redo, start, end, what, said]

    def view(session: Session, message: str = "") -> tuple[Any, ...]:
        editor: Editor = session.memory["editor"]
        first, last = editor.span or (0, len(editor.stream))
        fps = float(editor.stream.fps)
        return (
            _timeline(editor, studio.pack), _frames(studio, session, editor), gr.update(visible=True),
            gr.update(interactive=editor.at > 0), gr.update(interactive=editor.at < len(editor.versions) - 1),
            round(first / fps, 3), round(last / fps, 3),
            gr.update(choices=_names(curves_of(editor.stream, studio.pack)), value=editor.picked), message,
        )  # fmt: skip

    def refused(error: Exception, session: Session | None) -> tuple[Any, ...]:
        return (*[gr.skip()] * (len(shown) - 1), markup.fault(sentence(error, session)))

    def opened(stream: Stream, session: Session) -> tuple[Any, ...]:
        session.memory["editor"] = Editor([stream], frame=len(stream) // 2)
        return view(session, markup.note(f"{len(stream)} frames, {stream.seconds:.1f} s."))

    def opener(name: str) -> Any:
        def handler(request: gr.Request) -> tuple[Any, ...]:
            session = None
            try:
                session = studio.session(request)
                if name == "example":
                    return opened(list(studio.drivers.values())[-1], session)
                found = session.memory.get(name)
                if found is None:
                    wanted = "No clip is encoded" if name == "encoded" else "No puppet is made"
                    raise InputError(f"{wanted} yet on this page.")
                return opened(found.stream if name == "encoded" else found, session)
            except Exception as error:
                return refused(error, session)

        return handler

    def open_file(path: str | None, request: gr.Request) -> tuple[Any, ...]:
        session = None
        try:
            session = studio.session(request)
            if path is None:
                raise InputError("Choose a .mien file.")
            return opened(checked_stream(studio.sessions.take(session, path, (".mien",)), studio.pack), session)
        except Exception as error:
            return refused(error, session)

    def scrub(event: gr.EventData, request: gr.Request) -> Any:
        session = studio.session(request)
        editor: Editor | None = session.memory.get("editor")
        if editor is None:
            return gr.skip()
        editor.frame = min(max(int(event._data.get("frame", 0)), 0), len(editor.stream) - 1)
        return _frames(studio, session, editor)

    def span(event: gr.EventData, request: gr.Request) -> tuple[Any, Any]:
        editor: Editor | None = studio.session(request).memory.get("editor")
        if editor is None:
            return gr.skip(), gr.skip()
        count, fps = len(editor.stream), float(editor.stream.fps)
        first = min(max(int(event._data.get("start", 0)), 0), count - 1)
        last = min(max(int(event._data.get("end", count)), first + 1), count)
        editor.span = None if (first, last) == (0, count) else (first, last)
        return round(first / fps, 3), round(last / fps, 3)

    def choose(event: gr.EventData, request: gr.Request) -> tuple[Any, Any]:
        editor: Editor | None = studio.session(request).memory.get("editor")
        name = str(event._data.get("name"))
        if editor is None or name not in _names(curves_of(editor.stream, studio.pack)):
            return gr.skip(), gr.skip()
        editor.picked = [name]
        return [name], _timeline(editor, studio.pack)

    def fields(does: str, what: list[str]) -> tuple[Any, ...]:
        pose = any(name in POSE for name in what)
        face = any(name not in POSE for name in what)
        timed = does in ("Cut out", "Keep only")
        seen = [not timed, does == DOES[0], does == "Shift" and face, does == "Shift" and pose, does == "Smooth",
                does == "Copy", does == "Mix", does == "Mix"]  # fmt: skip
        return tuple(gr.update(visible=wanted) for wanted in seen)

    form_values = [what, does, factor, shift, degrees, width, to, weight, other, start, end]

    def preview(given: dict[Any, Any], request: gr.Request) -> Any:
        """The frame as it would be, while a slider moves."""
        values = [given[component] for component in form_values]
        session = studio.session(request)
        editor: Editor | None = session.memory.get("editor")
        if editor is None:
            return gr.skip()
        try:
            changed = edit(editor.stream, _operations(studio, session, editor, values), pack=studio.pack)
        except Exception:
            return gr.skip()
        if len(changed) != len(editor.stream):
            return gr.skip()
        return _frames(studio, session, editor, changed, "not applied yet")

    def applied(given: dict[Any, Any], request: gr.Request) -> tuple[Any, ...]:
        values = [given[component] for component in form_values]
        session = None
        try:
            session = studio.session(request)
            editor: Editor = session.memory["editor"]
            operations = _operations(studio, session, editor, values)
            editor.picked = list(values[0])
            editor.push(edit(editor.stream, operations, pack=studio.pack), values[1])
            return view(session, markup.note(f"Done: {values[1].lower()}. {editor.at} edit"
                                             f"{'s' if editor.at != 1 else ''} so far."))  # fmt: skip
        except Exception as error:
            return refused(error, session)

    def move(step: int) -> Any:
        def handler(request: gr.Request) -> tuple[Any, ...]:
            session = studio.session(request)
            editor: Editor | None = session.memory.get("editor")
            if editor is None:
                return refused(InputError("Open a stream first."), session)
            editor.at = min(max(editor.at + step, 0), len(editor.versions) - 1)
            editor.settle()
            return view(session, markup.note(f"{editor.at} of {len(editor.versions) - 1} edits."))

        return handler

    def rendered(request: gr.Request) -> Iterator[Any]:
        session = None
        try:
            session = studio.session(request)
            own = session
            editor: Editor | None = session.memory.get("editor")
            if editor is None:
                raise InputError("Open a stream first.")
            job = StudioJob(studio.queue, session, lambda job: _work(studio, own, job, editor.stream))
            yield markup.working(job.state, ["render"])
            for state in job.run():
                yield markup.working(state, ["render"])
            yield job.result
        except Exception as error:
            yield markup.fault(sentence(error, session))

    quiet: dict[str, Any] = {"show_progress": "hidden"}
    mine.click(opener("encoded"), None, shown, **quiet)
    puppet.click(opener("puppet"), None, shown, **quiet)
    example.click(opener("example"), None, shown, **quiet)
    file.upload(open_file, file, shown, **quiet)
    line.scrub(scrub, None, frames, trigger_mode="always_last", concurrency_limit=8, **quiet)
    line.span(span, None, [start, end], trigger_mode="always_last", **quiet)
    line.pick(choose, None, [what, line], **quiet)
    visible = [what, factor, shift, degrees, width, to, weight, other]
    for component in (does, what):
        component.input(fields, [does, what], visible, **quiet)
    for slider in (factor, shift, degrees, width):
        slider.release(preview, set(form_values), frames, trigger_mode="always_last", **quiet)
    apply.click(applied, set(form_values), shown, **quiet)
    undo.click(move(-1), None, shown, **quiet)
    redo.click(move(1), None, shown, **quiet)
    render.click(rendered, None, out, concurrency_limit=None, **quiet)
    return {"open_encoded": opener("encoded"), "open_puppet": opener("puppet"), "shown": shown}


def _operations(studio: Studio, session: Session, editor: Editor, values: list[Any]) -> list[Operation]:
    """What the form asks for. Raises InputError."""
    what, does, factor, shift, degrees, width, to, weight, other, start, end = values
    what = tuple(str(name) for name in what)
    begin, seconds = float(start or 0), editor.stream.seconds
    until = float(end) if end and float(end) < seconds - 0.01 else seconds  # a page's number is rounded
    span: dict[str, Any] = {"start": begin, "end": until if until < seconds else None}
    if does in ("Cut out", "Keep only"):
        return [Cut(begin, until) if does == "Cut out" else Keep(begin, until)]
    if not what:
        raise InputError("Choose at least one of the curves.")
    if does == "Shift":
        face, pose = tuple(n for n in what if n not in POSE), tuple(n for n in what if n in POSE)
        made: list[Operation] = [Offset(name, float(shift), **span) for name in face if shift]
        return made + ([Offset(pose, float(degrees), **span)] if pose and degrees else [])
    if does == "Smooth":
        return [Smooth(what, float(width), **span)]
    if does == "Copy":
        return [Copy(what, begin, until, to=float(to or 0))]
    if does == "Mix":
        if other is None:
            raise InputError("Choose the other .mien file.")
        second = checked_stream(studio.sessions.take(session, other, (".mien",)), studio.pack)
        return [Mix(what, second, float(weight), **span)]
    return [Scale(what, float(factor), **span)]


def _names(curves: MotionCurves) -> list[str]:
    """The stream's attributes in the page's order; a stream with channels of its own has others than the pack's."""
    return [*(n for n in ATTRIBUTES if n in curves.groups), *(n for n in curves.groups if n not in ATTRIBUTES)]


def _timeline(editor: Editor, pack: Pack) -> str:
    """The time line with the curves of what is shown."""
    curves = curves_of(editor.stream, pack)
    numbers = np.asarray(editor.stream.frames, np.float32) / curves.scales
    numbers[:, 3:] -= np.median(numbers[:, 3:], axis=0)  # where a channel rests says nothing; how it moves does
    if len(numbers) > POINTS:
        numbers = numbers[np.linspace(0, len(numbers) - 1, POINTS).round().astype(int)]
    members = curves.groups
    groups = [
        {"name": name, "least": 2.0 if name in POSE else 0.3,
         "curves": [[round(float(v), 3) for v in numbers[:, i]] for i in members[name]]}
        for name in _names(curves)
    ]  # fmt: skip
    data = {"frames": len(editor.stream), "fps": float(editor.stream.fps), "groups": groups, "frame": editor.frame,
            "span": list(editor.span) if editor.span else None, "picked": editor.picked}  # fmt: skip
    return markup.element("mien-timeline", data)


def _frames(studio: Studio, session: Session, editor: Editor, changed: Stream | None = None, note: str = "") -> str:
    """The frame under the cursor: of the original, and of what is shown."""
    renderer = studio.renderer(session)
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


def _work(studio: Studio, session: Session, job: StudioJob, stream: Stream) -> str:
    render = write_panel(session, studio.renderer(session).frames(stream), stream, "render", job, Origin(stream))
    file = write_stream(session, stream, "edited.mien")
    session.keep("edit", [render, file])
    return (
        '<div class="m-result">'
        + markup.player([(render, "the edited stream")], sound=bool(stream.audio))
        + markup.links([(file, "edited.mien", "Download .mien"), (render, "edited.mp4", "Download the video")])
        + "</div>"
    )
