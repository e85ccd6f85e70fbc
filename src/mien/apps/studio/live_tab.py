"""The fourth tab: the visitor's camera drives a face, now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from mien.apps.studio import markup
from mien.apps.studio.context import Studio, sentence
from mien.apps.studio.job_queue import StudioJob
from mien.apps.studio.live_driver import LiveDriver
from mien.apps.studio.media import person_stream
from mien.apps.studio.sessions import Session
from mien.apps.telepresence.face import drawn_face, driven_face
from mien.errors import InputError
from mien.format.stream import Stream
from mien.method.live_motion import ReaderOptions

SHELF, MINE = "A face of the shelf", "The person I encoded"
STAGE = "learn"
EMPTY = markup.empty(
    "Your camera and the face will stand here",
    "Choose a face and let it be learned; then start the camera. The picture goes to the machine that runs this studio, "
    "and nowhere else; nothing of it is kept.",
)
Shown = tuple[Any, Any, Any]  # result, run button, stop button


def build(studio: Studio) -> dict[str, Any]:
    """Build the tab; returns the components that others need."""
    gr.HTML(markup.lead("Drive a face with your camera", "Look calm for the first three seconds: what you look like at rest is "
                        "learned in them. Use faces only of people who agreed to it."))  # fmt: skip
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            gr.HTML(markup.step(1, "Whose face"))
            source = gr.Radio([SHELF, MINE], value=SHELF, show_label=False, elem_id="live-source", container=False)
            shelf = gr.HTML("", elem_id="live-shelf", elem_classes="m-quiet",
                            js_on_load="element.addEventListener('pick', (e) => trigger('pick', e.detail));")  # fmt: skip
            gr.HTML(markup.step(2, "Get it ready"))
            with gr.Row():
                run = gr.Button("Learn this face", variant="primary", elem_id="live-learn")
                stop = gr.Button("Stop", visible=False)
        with gr.Column(scale=7, min_width=320):
            out = gr.HTML(EMPTY, elem_classes="m-out", elem_id="live")

    def load(request: gr.Request) -> str:
        """When the tab is opened: the shelf."""
        try:
            studio.session(request).memory.setdefault("live person", 0)
            return markup.element("mien-shelf", {"faces": studio.shelf, "picked": 0})
        except Exception as error:
            return markup.fault(sentence(error))

    def pick(event: gr.EventData, request: gr.Request) -> None:
        index = int(event._data.get("index", 0))
        studio.session(request).memory["live person"] = min(max(index, 0), len(studio.shelf) - 1)

    def learn(name: str, request: gr.Request) -> Iterator[Shown]:
        """Fit what drives the face, and show how far that is."""
        session = None
        try:
            session = studio.session(request)
            own, face = session, chosen_face(studio, session, name)
            job = StudioJob(studio.queue, session, lambda job: learn_face(studio, own, job, face))
            yield markup.working(job.state, [STAGE]), gr.update(visible=False), gr.update(visible=True)
            for state in job.run():
                yield markup.working(state, [STAGE]), gr.skip(), gr.skip()
            yield job.result, gr.update(visible=True), gr.update(visible=False)
        except Exception as error:
            yield markup.fault(sentence(error, session)), gr.update(visible=True), gr.update(visible=False)

    def cancel(request: gr.Request) -> None:
        job = studio.session(request).job
        if job is not None:
            job.cancel()

    quiet: dict[str, Any] = {"show_progress": "hidden"}
    shelf.pick(pick, None, None, **quiet)
    run.click(learn, source, [out, run, stop], concurrency_limit=None, **quiet)
    stop.click(cancel, None, None)
    return {"load": load, "shelf": shelf}


def chosen_face(studio: Studio, session: Session, name: str) -> Stream:
    """The stream of one frame whose face is meant. Raises InputError with what is missing."""
    if name == MINE:
        if "encoded" not in session.memory:
            raise InputError("No clip is encoded yet: go to Encode first, or take a face of the shelf.")
        encoded: Stream = session.memory["encoded"].stream
        return encoded
    return person_stream(studio.pack, studio.pack.people[session.memory.get("live person", 0)], studio.blank)


def learn_face(studio: Studio, session: Session, job: StudioJob, face: Stream) -> str:
    """Fit the reader of a face and keep its driver for the page; returns the HTML of the camera and the face.

    Runs in the job's thread. Raises FaceError, StreamError and PackError.
    """
    with job.stage(STAGE, ReaderOptions().renders) as tick:
        driven = driven_face(drawn_face(face, studio.pack_name), tick)
    session.memory["live"] = LiveDriver(driven)
    return markup.element("mien-live", {"address": f"/studio/live/{session.key}", "size": face.resolution})
