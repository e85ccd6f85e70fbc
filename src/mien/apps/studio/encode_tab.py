"""The first tab: a clip becomes a stream, and one sees what it lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from mien.apps.provenance import Origin
from mien.apps.studio import markup
from mien.apps.studio.context import EXAMPLES, Studio, sentence
from mien.apps.studio.job_queue import StudioJob
from mien.apps.studio.media import checked_clip, input_panels, write_panel, write_stream
from mien.apps.studio.sessions import CLIPS, MEGABYTE, TAKEN_SECONDS, UPLOAD_BYTES, Session
from mien.errors import InputError
from mien.format.stream import Stream
from mien.options import EncodeOptions

STAGES = ("align", "invert", "identity", "tune", "pose", "attributes", "refine", "refit", "input", "render")
TUNING = ("tune", "refine", "refit")  # of these stages, those that only tuning has
EXAMPLE = EXAMPLES / "clip.mp4"
NOT_AT_ALL, QUICKLY, THOROUGHLY = "Not at all", "Quickly", "Thoroughly"
QUICK_SIZE = 256  # pixels
LEARNING = {NOT_AT_ALL: None, QUICKLY: 0.2, THOROUGHLY: 1.0}  # effort of tuning and refinement (`EncodeOptions.effort`)
QUIET: dict[str, Any] = {"show_progress": "hidden"}
EMPTY = markup.empty(
    "Your clip and its render will stand here",
    "Left what came in, right what is left of it after it went through one latent and 35 numbers a frame.",
)


@dataclass(frozen=True)
class Encoded:
    """What the tab leaves to the others: the stream, and the addresses of both panels."""

    stream: Stream
    input: str
    render: str


@dataclass(frozen=True)
class EncodeWidgets:
    """The tab's components: the clip and what is said of it, how much of it and how, and the result."""

    clip: Any
    clip_note: Any
    example: Any
    start: Any
    seconds: Any
    learn: Any
    sound: Any
    run: Any
    stop: Any
    out: Any
    strips: Any
    onward: Any
    to_puppet: Any
    to_edit: Any


def build(studio: Studio) -> dict[str, Any]:
    """Build the tab; returns the components that others need."""
    w = _lay_out()
    handlers = EncodeHandlers(studio)
    w.clip.upload(handlers.take_upload, w.clip, [w.clip, w.clip_note], **QUIET)
    w.clip.stop_recording(handlers.take_upload, w.clip, [w.clip, w.clip_note], **QUIET)
    w.clip.clear(handlers.forget, None, None)
    w.example.click(handlers.take_example, None, [w.clip, w.clip_note], **QUIET)
    w.run.click(handlers.encode, [w.start, w.seconds, w.learn, w.sound], [w.out, w.strips, w.run, w.stop, w.onward],
                concurrency_limit=None, **QUIET)  # fmt: skip
    w.stop.click(handlers.stop, None, None)
    return {"to_puppet": w.to_puppet, "to_edit": w.to_edit}


def _lay_out() -> EncodeWidgets:
    gr.HTML(markup.lead("Encode a clip", "One face, talking or pulling faces. It is found, steadied, and turned into "
                        "one identity and 35 numbers for each frame."))  # fmt: skip
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            gr.HTML(markup.step(1, "Choose a clip"))
            clip = gr.Video(
                label="Clip", sources=["upload", "webcam"], elem_id="clip", buttons=[],
                webcam_options=gr.WebcamOptions(mirror=False),
            )  # fmt: skip
            clip_note = gr.HTML(
                markup.note(f"MP4, MOV, MKV or WebM up to {UPLOAD_BYTES // MEGABYTE} MB. One person, face in sight."),
                elem_classes="m-quiet",
            )
            example = gr.Button("No clip at hand? Take the example", size="sm", visible=EXAMPLE.is_file(),
                                elem_id="example")  # fmt: skip
            gr.HTML(markup.step(2, "Say how much of it"))
            with gr.Row():
                start = gr.Number(0, label="From second", minimum=0, maximum=600, step=0.5, min_width=90)
                seconds = gr.Slider(0.2, TAKEN_SECONDS, 3, step=0.1, label="Seconds", min_width=150, elem_id="seconds")
            learn = gr.Radio(
                list(LEARNING), value=QUICKLY, label="Learn this person's look", elem_id="learn",
                info="More alike, but takes a minute or several, and the learned weights travel in the file.",
            )  # fmt: skip
            sound = gr.Checkbox(True, label="Keep the sound")
            gr.HTML(markup.step(3, "Encode"))
            with gr.Row():
                run = gr.Button("Encode", variant="primary", elem_id="encode")
                stop = gr.Button("Stop", visible=False, elem_id="stop-encode")
        with gr.Column(scale=7, min_width=320):
            out = gr.HTML(EMPTY, elem_classes="m-out", elem_id="encoded")
            strips = gr.HTML("", elem_classes="m-quiet", elem_id="strips")
            with gr.Row(visible=False) as onward:
                to_puppet = gr.Button("Let it drive someone else →", elem_id="to-puppet")
                to_edit = gr.Button("Edit its 35 curves →", elem_id="to-edit")
    return EncodeWidgets(
        clip, clip_note, example, start, seconds, learn, sound, run, stop, out, strips, onward, to_puppet, to_edit
    )  # fmt: skip


class EncodeHandlers:
    """What the tab does when something is clicked. A visitor's clip lies in the session's memory as `clip`."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def take_upload(self, path: str | None, request: gr.Request) -> tuple[Any, str]:
        """Look at an upload as soon as it is here: new values of the clip and of its note."""
        if path is None:
            return None, markup.note("")
        session = None
        try:
            session = self._studio.session(request)
            _remember(session, self._studio.sessions.take(session, path, CLIPS))
            whole = checked_clip(session.memory["clip"])
            length = float(whole.frame_count / whole.fps)
            facts = f"{length:.1f} s, {whole.size[0]}×{whole.size[1]}, {float(whole.fps):g} frames a second"
            return gr.skip(), markup.note(facts + (", with sound." if whole.has_audio else ", without sound."))
        except Exception as error:
            if session is not None:
                session.memory.pop("clip", None)
            return None, markup.fault(sentence(error, session))

    def take_example(self, request: gr.Request) -> tuple[Any, str]:
        """Take the example as the clip."""
        session = self._studio.session(request)
        own = session.path(".mp4")
        shutil.copyfile(EXAMPLE, own)
        _remember(session, own)
        return None, markup.note("The example is chosen: a person who does not exist. Press Encode.")

    def encode(
        self, start: float, seconds: float, learn: str, sound: bool, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        """Encode the clip as a job: new values of result, previews, both buttons and the way on."""
        session = None
        busy = (gr.update(visible=False), gr.update(visible=True), gr.update(visible=False))
        try:
            session = own = self._studio.session(request)
            if "clip" not in session.memory:
                raise InputError("Choose a clip first, or take the example.")
            span = min(max(float(seconds or 3), 0.2), TAKEN_SECONDS)
            clip = checked_clip(session.memory["clip"], max(float(start or 0), 0.0), span)
            options = encode_options(learn, bool(sound), self._studio.pack.generator.sizes)
            work = lambda job: _work(self._studio, own, job, clip, options)
            job = StudioJob(self._studio.queue, session, work)
            wanted = [s for s in STAGES if options.tuning is not None or s not in TUNING]
            yield markup.working(job.state, wanted), "", *busy
            drawn = 0
            for state in job.run():
                news = len(state.pictures) > drawn
                drawn = len(state.pictures)
                pictures = markup.preview(state) if news else gr.skip()
                yield markup.working(state, wanted), pictures, *[gr.skip()] * 3
            yield job.result, "", gr.update(visible=True), gr.update(visible=False), gr.update(visible=True)
        except Exception as error:
            said = markup.fault(sentence(error, session))
            yield said, "", gr.update(visible=True), gr.update(visible=False), gr.skip()

    def forget(self, request: gr.Request) -> None:
        """Remove the clip that was taken back."""
        _forget(self._studio.session(request))

    def stop(self, request: gr.Request) -> None:
        """Stop what runs."""
        job = self._studio.session(request).job
        if job is not None:
            job.cancel()


def _remember(session: Session, path: Path) -> None:
    _forget(session)
    session.memory["clip"] = path


def _forget(session: Session) -> None:
    old = session.memory.pop("clip", None)
    if old is not None and session.job is None:  # a job may be reading it
        old.unlink(missing_ok=True)


def encode_options(learn: str, sound: bool, sizes: tuple[int, ...]) -> EncodeOptions:
    """The options of an encode by the tab's choices, one of `LEARNING` and whether sound is kept, for a generator that
    draws pictures of `sizes`: a quick result is one of 256 pixels where it can be. Raises InputError."""
    if learn not in LEARNING:
        raise InputError(f"a person is learned {', '.join(LEARNING)}: {learn!r} is none of these.")
    effort = LEARNING[learn]
    if effort is None:
        return EncodeOptions.of(tune=False, sound=sound)
    size = QUICK_SIZE if learn == QUICKLY and QUICK_SIZE in sizes else None
    return EncodeOptions.of(effort=effort, sound=sound, size=size)


def _work(studio: Studio, session: Session, job: StudioJob, clip: Any, options: EncodeOptions) -> str:
    """Encode and render, in the job's thread; returns the result's HTML."""
    from mien.api import encode_with_report

    stream, report = encode_with_report(clip, options=options, pack=studio.pack, progress=job)
    panels = write_panel(session, input_panels(clip, stream), stream, "input", job)
    made = write_panel(session, studio.renderer(session).frames(stream), stream, "render", job, Origin(stream))
    file = write_stream(session, stream, "clip.mien")
    session.memory["encoded"] = Encoded(stream, panels, made)
    session.keep("encode", [panels, made, file])
    facts = report.to_json()
    figures = [
        (f"{len(stream)}", "frames"),
        (f"{facts['psnr']['resynthesis']:.1f} dB", "render against input"),
        (f"{facts['seconds']['total']:.0f} s", "to encode"),
    ]
    if report.unreliable:
        figures.append((str(len(report.unreliable)), "frames that fit poorly"))
    return (
        '<div class="m-result">'
        + markup.player([(panels, "input"), (made, "from 35 numbers a frame")], sound=bool(stream.audio))
        + markup.numbers(figures)
        + markup.links([(file, "clip.mien", "Download .mien"), (made, "render.mp4", "Render as video")])
        + markup.accounting(stream)
        + "</div>"
    )
