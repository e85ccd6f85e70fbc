"""The third tab: the 35 curves on a time line, bent, and the frame under the cursor before and after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from mien.apps.provenance import Origin
from mien.apps.studio import markup
from mien.apps.studio.context import Studio, sentence
from mien.apps.studio.editor import (
    ACTIONS,
    ATTRIBUTES,
    EditForm,
    Editor,
    attributes_of,
    fields_of,
    frames_html,
    timeline,
)
from mien.apps.studio.job_queue import StudioJob
from mien.apps.studio.media import checked_stream, write_panel, write_stream
from mien.apps.studio.sessions import Session
from mien.editing.curves import curves_of
from mien.editing.operations import Operation, edit
from mien.errors import InputError
from mien.format.stream import Stream

EMPTY = markup.empty(
    "No stream is open",
    "Open the clip you encoded, your last puppet, the example or a .mien file; its 35 curves will stand here by attribute.",
)
NOT_OPEN = "Open a stream first."
QUIET: dict[str, Any] = {"show_progress": "hidden"}


@dataclass(frozen=True)
class EditWidgets:
    """The tab's components: buttons that open a stream, the time line and the frames, the form, and its buttons."""

    encoded: Any
    puppet: Any
    example: Any
    file: Any
    said: Any
    line: Any
    frames: Any
    panel: Any  # holds the form; hidden until a stream is open
    form: tuple[Any, ...]  # in the order of `EditForm`
    apply: Any
    undo: Any
    redo: Any
    render: Any
    out: Any

    @property
    def shown(self) -> list[Any]:
        """What every handler that changes the stream fills, in this order (`EditHandlers.view`)."""
        what, start, end = self.form[0], self.form[-2], self.form[-1]
        return [self.line, self.frames, self.panel, self.undo, self.redo, start, end, what, self.said]


def build(studio: Studio) -> dict[str, Any]:
    """Build the tab; returns the components that others need."""
    widgets = _lay_out()
    handlers = EditHandlers(studio, widgets)
    shown, form = widgets.shown, widgets.form
    widgets.encoded.click(handlers.open_encoded, None, shown, **QUIET)
    widgets.puppet.click(handlers.open_puppet, None, shown, **QUIET)
    widgets.example.click(handlers.open_example, None, shown, **QUIET)
    widgets.file.upload(handlers.open_file, widgets.file, shown, **QUIET)
    what, action, factor, shift, degrees, seconds, *_, start, end = form
    widgets.line.scrub(handlers.scrub, None, widgets.frames, trigger_mode="always_last", concurrency_limit=8, **QUIET)
    widgets.line.span(handlers.mark, None, [start, end], trigger_mode="always_last", **QUIET)
    widgets.line.pick(handlers.pick, None, [what, widgets.line], **QUIET)
    seen = [what, *form[2:9]]
    for component in (action, what):
        component.input(handlers.show_fields, [action, what], seen, **QUIET)
    for slider in (factor, shift, degrees, seconds):
        slider.release(handlers.preview, set(form), widgets.frames, trigger_mode="always_last", **QUIET)
    widgets.apply.click(handlers.apply, set(form), shown, **QUIET)
    widgets.undo.click(handlers.undo, None, shown, **QUIET)
    widgets.redo.click(handlers.redo, None, shown, **QUIET)
    widgets.render.click(handlers.render, None, widgets.out, concurrency_limit=None, **QUIET)
    return {"open_encoded": handlers.open_encoded, "open_puppet": handlers.open_puppet, "shown": shown}


def _lay_out() -> EditWidgets:
    gr.HTML(markup.lead("Bend the curves", "Drag on the curves to move through the clip, drag on the ruler above them "
                        "to mark a stretch. Every edit can be undone, and the result is an ordinary .mien file."))  # fmt: skip
    with gr.Row(elem_classes="m-open"):
        encoded = gr.Button("The clip I encoded", size="sm", elem_id="open-encoded", min_width=130)
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
            with gr.Column(visible=False) as panel:
                form = _form()
                apply = gr.Button("Apply", variant="primary", elem_id="apply")
                with gr.Row():
                    undo = gr.Button("Undo", size="sm", interactive=False, elem_id="undo", min_width=70)
                    redo = gr.Button("Redo", size="sm", interactive=False, min_width=70)
                    render = gr.Button("Render and save", size="sm", elem_id="render-edit", min_width=120)
    out = gr.HTML("", elem_classes="m-out", elem_id="edited")
    return EditWidgets(
        encoded, puppet, example, file, said, line, frames, panel, form, apply, undo, redo, render, out
    )  # fmt: skip


def _form() -> tuple[Any, ...]:
    """The form's components in the order of `EditForm`."""
    what = gr.CheckboxGroup(list(ATTRIBUTES), value=["mouth"], label="Which curves", elem_id="what")
    action = gr.Dropdown(list(ACTIONS), value=ACTIONS[0], label="What to do", elem_id="does", filterable=False)
    factor = gr.Slider(0, 3, 1.5, step=0.05, label="Factor: 0 freezes, 1 changes nothing", elem_id="factor")
    shift = gr.Slider(-3, 3, 1, step=0.1, label="Along the attribute's own motion", visible=False, elem_id="shift")
    degrees = gr.Slider(-30, 30, 0, step=1, label="Degrees", visible=False)
    seconds = gr.Slider(0, 2, 0.3, step=0.05, label="Over how many seconds", visible=False)
    to = gr.Number(0, label="Copy to second", minimum=0, step=0.1, visible=False)
    weight = gr.Slider(0, 1, 0.5, step=0.05, label="How much of the other", visible=False)
    other = gr.File(label="The other .mien file", file_types=[".mien"], visible=False, height=110)
    with gr.Row():
        start = gr.Number(0, label="From second", minimum=0, step=0.1, min_width=80, elem_id="from")
        end = gr.Number(0, label="To second", minimum=0, step=0.1, min_width=80, elem_id="until")
    return what, action, factor, shift, degrees, seconds, to, weight, other, start, end


class EditHandlers:
    """What the tab does when something is clicked. Each visitor's `Editor` lies in the session's memory."""

    def __init__(self, studio: Studio, widgets: EditWidgets) -> None:
        self._studio, self._widgets = studio, widgets

    def view(self, session: Session, message: str = "") -> tuple[Any, ...]:
        """Return new values of `EditWidgets.shown`."""
        editor: Editor = session.memory["editor"]
        pack = self._studio.pack
        names = attributes_of(curves_of(editor.stream, pack))
        return (
            timeline(editor, pack), frames_html(self._studio.renderer(session), editor), gr.update(visible=True),
            gr.update(interactive=editor.at > 0), gr.update(interactive=editor.at < len(editor.versions) - 1),
            *editor.span_seconds(), gr.update(choices=names, value=editor.picked), message,
        )  # fmt: skip

    def fault(self, error: Exception, session: Session | None) -> tuple[Any, ...]:
        """Leave everything of `EditWidgets.shown` as it is, and say what is wrong."""
        return (*[gr.skip()] * (len(self._widgets.shown) - 1), markup.fault(sentence(error, session)))

    def open_encoded(self, request: gr.Request) -> tuple[Any, ...]:
        """Open the clip that was encoded on this page."""
        return self._open("encoded", request)

    def open_puppet(self, request: gr.Request) -> tuple[Any, ...]:
        """Open the puppet that was made last on this page."""
        return self._open("puppet", request)

    def open_example(self, request: gr.Request) -> tuple[Any, ...]:
        """Open a ready-made driver."""
        return self._open("example", request)

    def _open(self, name: str, request: gr.Request) -> tuple[Any, ...]:
        session = None
        try:
            session = self._studio.session(request)
            if name == "example":
                return self._opened(list(self._studio.drivers.values())[-1], session)
            found = session.memory.get(name)
            if found is None:
                raise InputError(
                    f"{'No clip is encoded' if name == 'encoded' else 'No puppet is made'} yet on this page."
                )
            return self._opened(found.stream if name == "encoded" else found, session)
        except Exception as error:
            return self.fault(error, session)

    def open_file(self, path: str | None, request: gr.Request) -> tuple[Any, ...]:
        """Open an upload."""
        session = None
        try:
            session = self._studio.session(request)
            if path is None:
                raise InputError("Choose a .mien file.")
            return self._opened(self._read(session, path), session)
        except Exception as error:
            return self.fault(error, session)

    def _opened(self, stream: Stream, session: Session) -> tuple[Any, ...]:
        session.memory["editor"] = Editor([stream], frame=len(stream) // 2)
        return self.view(session, markup.note(f"{len(stream)} frames, {stream.seconds:.1f} s."))

    def _read(self, session: Session, upload: str) -> Stream:
        return checked_stream(self._studio.sessions.take(session, upload, (".mien",)), self._studio.pack)

    def scrub(self, event: gr.EventData, request: gr.Request) -> Any:
        """Show the frame that the cursor was moved to."""
        session = self._studio.session(request)
        editor: Editor | None = session.memory.get("editor")
        if editor is None:
            return gr.skip()
        editor.seek(int(event._data.get("frame", 0)))
        return frames_html(self._studio.renderer(session), editor)

    def mark(self, event: gr.EventData, request: gr.Request) -> tuple[Any, Any]:
        """Take over the stretch that was marked on the ruler."""
        editor: Editor | None = self._studio.session(request).memory.get("editor")
        if editor is None:
            return gr.skip(), gr.skip()
        editor.mark(int(event._data.get("start", 0)), int(event._data.get("end", len(editor.stream))))
        return editor.span_seconds()

    def pick(self, event: gr.EventData, request: gr.Request) -> tuple[Any, Any]:
        """Take over the attribute that was chosen on the time line."""
        editor: Editor | None = self._studio.session(request).memory.get("editor")
        name = str(event._data.get("name"))
        if editor is None or name not in attributes_of(curves_of(editor.stream, self._studio.pack)):
            return gr.skip(), gr.skip()
        editor.picked = [name]
        return [name], timeline(editor, self._studio.pack)

    def show_fields(self, action: str, what: list[str]) -> tuple[Any, ...]:
        """Show the fields that the action takes."""
        return tuple(gr.update(visible=seen) for seen in fields_of(action, what))

    def preview(self, given: dict[Any, Any], request: gr.Request) -> Any:
        """Show the frame as it would be, while a slider moves."""
        session = self._studio.session(request)
        editor: Editor | None = session.memory.get("editor")
        if editor is None:
            return gr.skip()
        try:
            changed = edit(editor.stream, self._operations(given, session, editor)[1], pack=self._studio.pack)
        except Exception:
            return gr.skip()
        if len(changed) != len(editor.stream):
            return gr.skip()
        return frames_html(self._studio.renderer(session), editor, changed, "not applied yet")

    def _operations(self, given: dict[Any, Any], session: Session, editor: Editor) -> tuple[EditForm, list[Operation]]:
        form = EditForm.of([given[component] for component in self._widgets.form])
        return form, form.operations(editor.stream.seconds, lambda upload: self._read(session, upload))

    def apply(self, given: dict[Any, Any], request: gr.Request) -> tuple[Any, ...]:
        """Do what the form asks for."""
        session = None
        try:
            session = self._studio.session(request)
            editor: Editor = session.memory["editor"]
            form, operations = self._operations(given, session, editor)
            editor.picked = list(form.what)
            editor.push(edit(editor.stream, operations, pack=self._studio.pack), form.action)
            many = "s" if editor.at != 1 else ""
            return self.view(session, markup.note(f"Done: {form.action.lower()}. {editor.at} edit{many} so far."))
        except Exception as error:
            return self.fault(error, session)

    def undo(self, request: gr.Request) -> tuple[Any, ...]:
        """Go one edit back."""
        return self._move(-1, request)

    def redo(self, request: gr.Request) -> tuple[Any, ...]:
        """Go one edit forward."""
        return self._move(1, request)

    def _move(self, step: int, request: gr.Request) -> tuple[Any, ...]:
        session = self._studio.session(request)
        editor: Editor | None = session.memory.get("editor")
        if editor is None:
            return self.fault(InputError(NOT_OPEN), session)
        editor.move(step)
        return self.view(session, markup.note(f"{editor.at} of {len(editor.versions) - 1} edits."))

    def render(self, request: gr.Request) -> Iterator[Any]:
        """Render what is shown, as a job."""
        session = None
        try:
            session = own = self._studio.session(request)
            editor: Editor | None = session.memory.get("editor")
            if editor is None:
                raise InputError(NOT_OPEN)
            job = StudioJob(self._studio.queue, session, lambda job: _render(self._studio, own, job, editor.stream))
            yield markup.working(job.state, ["render"])
            for state in job.run():
                yield markup.working(state, ["render"])
            yield job.result
        except Exception as error:
            yield markup.fault(sentence(error, session))


def _render(studio: Studio, session: Session, job: StudioJob, stream: Stream) -> str:
    render = write_panel(session, studio.renderer(session).frames(stream), stream, "render", job, Origin(stream))
    file = write_stream(session, stream, "edited.mien")
    session.keep("edit", [render, file])
    return (
        '<div class="m-result">'
        + markup.player([(render, "the edited stream")], sound=bool(stream.audio))
        + markup.links([(file, "edited.mien", "Download .mien"), (render, "edited.mp4", "Download the video")])
        + "</div>"
    )
