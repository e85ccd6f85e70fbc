"""The second tab: somebody else does what the driver does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from mien.apps.provenance import Origin
from mien.apps.studio import markup
from mien.apps.studio.context import TOUR, Studio, sentence
from mien.apps.studio.job_queue import StudioJob
from mien.apps.studio.media import checked_clip, checked_image, checked_stream, person_stream, write_panel, write_stream
from mien.apps.studio.sessions import CLIPS, IMAGES, TAKEN_SECONDS, Session
from mien.errors import InputError
from mien.format.stream import Stream

MINE = "The clip I encoded"
FILE = "A .mien file"
VIDEO = "Another video"
STAGES = ("portrait", "driver", "render")
EMPTY = markup.empty(
    "The driver and the puppet will stand here",
    "Choose who is seen and who moves. The face on the shelf belongs to nobody: these people do not exist.",
)


def build(studio: Studio) -> dict[str, Any]:
    """The tab's components; returns those that others need."""
    gr.HTML(markup.lead("Let one face drive another", "The portrait keeps its identity and takes the driver's 35 "
                        "numbers a frame. Use portraits only of people who agreed to it."))  # fmt: skip
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            gr.HTML(markup.step(1, "Who is seen"))
            with gr.Tabs(elem_classes="m-inner"):
                with gr.Tab("From the shelf", id="shelf"):
                    shelf = gr.HTML(
                        "", elem_id="shelf", elem_classes="m-quiet",
                        js_on_load="element.addEventListener('pick', (e) => trigger('pick', e.detail));",
                    )  # fmt: skip
                with gr.Tab("A portrait", id="portrait"):
                    portrait = gr.Image(
                        label="Portrait", type="filepath", image_mode=None, sources=["upload", "webcam"], height=220,
                        elem_id="portrait", buttons=[],
                    )  # fmt: skip
                    learn = gr.Checkbox(False, label="Learn the portrait's look", elem_id="learn",
                                        info="More alike; takes a minute or so.")  # fmt: skip
            seen = gr.HTML(markup.note("The first of the shelf is chosen."), elem_classes="m-quiet")
            gr.HTML(markup.step(2, "Who moves"))
            choices = [MINE, TOUR, FILE, VIDEO]
            driver = gr.Radio(choices, value=TOUR, show_label=False, elem_id="driver", container=False)
            file = gr.File(label=".mien file", file_types=[".mien"], visible=False, height=110, elem_id="driver-file")
            clip = gr.Video(label="Video", sources=["upload", "webcam"], visible=False, height=200, elem_id="driver-clip",
                            buttons=[], webcam_options=gr.WebcamOptions(mirror=False))  # fmt: skip
            gr.HTML(markup.step(3, "How"))
            with gr.Row():
                strength = gr.Slider(
                    0, 3, 1, step=0.05, label="Strength of the motion", min_width=140, elem_id="strength"
                )
                smoothing = gr.Slider(0, 1, 0, step=0.02, label="Smoothing, seconds", min_width=140)
            with gr.Row():
                blink = gr.Checkbox(True, label="Take over the blinks", min_width=140)
                gaze = gr.Checkbox(True, label="Take over the gaze", min_width=140)
            motion = gr.Radio(
                [("The driver's own pose and expression", "absolute"), ("Only its changes", "relative")],
                value="absolute", label="Motion", elem_id="motion",
            )  # fmt: skip
            with gr.Row():
                run = gr.Button("Make them move", variant="primary", elem_id="puppeteer")
                stop = gr.Button("Stop", visible=False)
        with gr.Column(scale=6, min_width=320):
            out = gr.HTML(EMPTY, elem_classes="m-out", elem_id="puppet")
            to_edit = gr.Button("Edit the puppet's curves →", visible=False, elem_id="puppet-to-edit")

    def fill() -> tuple[str, Any]:
        """The shelf and the drivers, when the page comes up."""
        try:
            faces, drivers = studio.shelf, list(studio.drivers)
        except Exception as error:
            return markup.fault(sentence(error)), gr.skip()
        names = [MINE, *reversed(drivers), FILE, VIDEO]
        return markup.element("mien-shelf", {"faces": faces, "picked": 0}), gr.update(choices=names, value=names[1])

    def pick(event: gr.EventData, request: gr.Request) -> str:
        session = studio.session(request)
        index = int(event._data.get("index", 0))
        session.memory["person"] = min(max(index, 0), len(studio.shelf) - 1)
        session.memory.pop("portrait", None)
        return markup.note(f"Person {session.memory['person'] + 1} of the shelf is chosen.")

    def upload(path: str | None, request: gr.Request) -> tuple[Any, str]:
        session = None
        if path is None:
            studio.session(request).memory.pop("portrait", None)
            return None, markup.note("The shelf's person is chosen.")
        try:
            session = studio.session(request)
            own = studio.sessions.take(session, path, IMAGES)
            checked_image(own)
            session.memory["portrait"] = own
            return gr.skip(), markup.note("Your portrait is chosen.")
        except Exception as error:
            return None, markup.fault(sentence(error, session))

    def chosen(name: str) -> tuple[Any, Any]:
        return gr.update(visible=name == FILE), gr.update(visible=name == VIDEO)

    def puppeteer(
        name: str, file: str | None, clip: str | None, learn: bool, strength: float, smoothing: float, blink: bool,
        gaze: bool, motion: str, request: gr.Request,
    ) -> Iterator[tuple[Any, Any, Any, Any]]:  # fmt: skip
        session = None
        try:
            session = studio.session(request)
            own = session
            source = _driver(studio, session, name, file, clip)
            options = {"strength": float(strength), "smoothing": float(smoothing), "blink": bool(blink),
                       "gaze": bool(gaze), "relative": motion == "relative" or name == TOUR}  # fmt: skip
            job = StudioJob(studio.queue, session, lambda job: _work(studio, own, job, source, bool(learn), options))
            wanted = [s for s in STAGES if s != "portrait" or (learn and "portrait" in session.memory)]
            yield markup.working(job.state, wanted), gr.update(visible=False), gr.update(visible=True), gr.skip()
            for state in job.run():
                yield markup.working(state, wanted), gr.skip(), gr.skip(), gr.skip()
            yield job.result, gr.update(visible=True), gr.update(visible=False), gr.update(visible=True)
        except Exception as error:
            yield markup.fault(sentence(error, session)), gr.update(visible=True), gr.update(visible=False), gr.skip()

    def halt(request: gr.Request) -> None:
        job = studio.session(request).job
        if job is not None:
            job.cancel()

    shelf.pick(pick, None, seen, show_progress="hidden")
    portrait.upload(upload, portrait, [portrait, seen], show_progress="hidden")
    portrait.clear(upload, portrait, [portrait, seen], show_progress="hidden")
    driver.change(chosen, driver, [file, clip], show_progress="hidden")
    run.click(
        puppeteer, [driver, file, clip, learn, strength, smoothing, blink, gaze, motion], [out, run, stop, to_edit],
        show_progress="hidden", concurrency_limit=None,
    )  # fmt: skip
    stop.click(halt, None, None)
    return {"to_edit": to_edit, "driver": driver, "shelf": shelf, "fill": fill}


def _driver(studio: Studio, session: Session, name: str, file: str | None, clip: str | None) -> Any:
    """A stream, or a clip that is to be encoded first. Raises InputError with what is missing."""
    if name == MINE:
        if "encoded" not in session.memory:
            raise InputError("No clip is encoded yet: go to Encode first, or choose another driver.")
        return session.memory["encoded"].stream
    if name in studio.drivers:
        return studio.drivers[name]
    if name == FILE:
        if file is None:
            raise InputError("Choose the .mien file that is to drive.")
        return checked_stream(studio.sessions.take(session, file, (".mien",)), studio.pack)
    if clip is None:
        raise InputError("Choose the video that is to drive.")
    return checked_clip(studio.sessions.take(session, clip, CLIPS), 0.0, TAKEN_SECONDS / 2)


def _work(studio: Studio, session: Session, job: StudioJob, source: Any, learn: bool, options: dict[str, Any]) -> str:
    """The whole of it, in the job's thread; returns the result's HTML."""
    from mien.api import encode_with_report
    from mien.options import EncodeOptions
    from mien.reenact.puppeteer import puppeteer

    pack = studio.pack
    driver = (
        source
        if isinstance(source, Stream)
        else encode_with_report(source, options=EncodeOptions.untuned(), pack=pack, progress=job)[0]
    )
    portrait: Any
    if "portrait" in session.memory:
        portrait = checked_image(session.memory["portrait"])
    else:
        portrait = person_stream(pack, pack.people[session.memory.get("person", 0)], studio.blank)
    puppet = puppeteer(driver, portrait, pack=pack, tune_portrait=learn, progress=job, **options)
    renderer = studio.renderer(session)
    left = write_panel(session, renderer.frames(driver), driver, "driver", job, Origin(driver))
    right = write_panel(session, renderer.frames(puppet), puppet, "render", job, Origin(puppet, driver))
    file = write_stream(session, puppet, "puppet.mien")
    session.memory["puppet"] = puppet
    session.keep("puppet", [left, right, file])
    return (
        '<div class="m-result">'
        + markup.player([(left, "driver"), (right, "puppet")], sound=bool(puppet.audio))
        + markup.links([(right, "puppet.mp4", "Download the video"), (file, "puppet.mien", "Download .mien")])
        + markup.note("A rendered video: say so when you show it to others.")
        + "</div>"
    )
