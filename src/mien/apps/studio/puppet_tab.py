"""The second tab: somebody else does what the driver does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from mien.apps.provenance import Origin
from mien.apps.studio import markup
from mien.apps.studio.context import TOUR, Studio, sentence
from mien.apps.studio.job_queue import StudioJob
from mien.apps.studio.media import checked_clip, checked_image, checked_stream, person_stream, write_panel, write_stream
from mien.apps.studio.sessions import CLIPS, IMAGES, TAKEN_SECONDS, Session
from mien.errors import InputError
from mien.format.stream import Stream
from mien.media.video import Clip

if TYPE_CHECKING:
    from mien.reenact.options import PuppetOptions

MINE = "The clip I encoded"
FILE = "A .mien file"
VIDEO = "Another video"
ABSOLUTE, RELATIVE = "absolute", "relative"
STAGES = ("portrait", "driver", "render")
EMPTY = markup.empty(
    "The driver and the puppet will stand here",
    "Choose who is seen and who moves. The face on the shelf belongs to nobody: these people do not exist.",
)
Shown = tuple[Any, Any, Any, Any]  # result, run button, stop button, button to the editor


@dataclass(frozen=True)
class SeenControls:
    """Who is seen."""

    shelf: Any
    portrait: Any
    learn: Any
    note: Any


@dataclass(frozen=True)
class DriverControls:
    """Who moves."""

    name: Any
    file: Any
    clip: Any


@dataclass(frozen=True)
class MotionControls:
    """How the motion is taken over."""

    strength: Any
    smoothing: Any
    blink: Any
    gaze: Any
    motion: Any


def build(studio: Studio) -> dict[str, Any]:
    """The tab's components; returns those that others need."""
    gr.HTML(markup.lead("Let one face drive another", "The portrait keeps its identity and takes over the driver's "
                        "motion. Use portraits only of people who agreed to it."))  # fmt: skip
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            seen, driver, motion = _seen_controls(), _driver_controls(), _motion_controls()
            with gr.Row():
                run = gr.Button("Make them move", variant="primary", elem_id="puppeteer")
                stop = gr.Button("Stop", visible=False)
        with gr.Column(scale=6, min_width=320):
            out = gr.HTML(EMPTY, elem_classes="m-out", elem_id="puppet")
            to_edit = gr.Button("Edit the puppet's curves →", visible=False, elem_id="puppet-to-edit")

    actions = Actions(studio)
    quiet: dict[str, Any] = {"show_progress": "hidden"}
    seen.shelf.pick(actions.pick, None, seen.note, **quiet)
    seen.portrait.upload(actions.upload, seen.portrait, [seen.portrait, seen.note], **quiet)
    seen.portrait.clear(actions.upload, seen.portrait, [seen.portrait, seen.note], **quiet)
    driver.name.change(shown_inputs, driver.name, [driver.file, driver.clip], **quiet)
    inputs = [driver.name, driver.file, driver.clip, seen.learn, motion.strength, motion.smoothing, motion.blink,
              motion.gaze, motion.motion]  # fmt: skip
    run.click(actions.run, inputs, [out, run, stop, to_edit], concurrency_limit=None, **quiet)
    stop.click(actions.stop, None, None)
    return {"to_edit": to_edit, "driver": driver.name, "shelf": seen.shelf, "motion": motion.motion,
            "fill": actions.fill}  # fmt: skip


def _seen_controls() -> SeenControls:
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
    note = gr.HTML(markup.note("The first of the shelf is chosen."), elem_classes="m-quiet")
    return SeenControls(shelf, portrait, learn, note)


def _driver_controls() -> DriverControls:
    gr.HTML(markup.step(2, "Who moves"))
    choices = [MINE, TOUR, FILE, VIDEO]
    name = gr.Radio(choices, value=TOUR, show_label=False, elem_id="driver", container=False)
    file = gr.File(label=".mien file", file_types=[".mien"], visible=False, height=110, elem_id="driver-file")
    clip = gr.Video(label="Video", sources=["upload", "webcam"], visible=False, height=200, elem_id="driver-clip",
                    buttons=[], webcam_options=gr.WebcamOptions(mirror=False))  # fmt: skip
    return DriverControls(name, file, clip)


def _motion_controls() -> MotionControls:
    gr.HTML(markup.step(3, "How"))
    with gr.Row():
        strength = gr.Slider(0, 3, 1, step=0.05, label="Strength of the motion", min_width=140, elem_id="strength")
        smoothing = gr.Slider(0, 1, 0, step=0.02, label="Smoothing, seconds", min_width=140)
    with gr.Row():
        blink = gr.Checkbox(True, label="Take over the blinks", min_width=140)
        gaze = gr.Checkbox(True, label="Take over the gaze", min_width=140)
    motion = gr.Radio(
        [("The driver's own pose and expression", ABSOLUTE), ("Only its changes", RELATIVE)],
        value=ABSOLUTE, label="Motion", elem_id="motion",
    )  # fmt: skip
    return MotionControls(strength, smoothing, blink, gaze, motion)


def shown_inputs(name: str) -> tuple[Any, Any]:
    """Which of the driver's inputs are shown."""
    return gr.update(visible=name == FILE), gr.update(visible=name == VIDEO)


class Actions:
    """What the tab's components call."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def fill(self) -> tuple[str, Any, Any]:
        """The shelf, the drivers and the kind of motion that the pack asks for, when the page comes up."""
        studio = self._studio
        try:
            faces, drivers = studio.shelf, list(studio.drivers)
        except Exception as error:
            return markup.fault(sentence(error)), gr.skip(), gr.skip()
        names = [MINE, *reversed(drivers), FILE, VIDEO]
        motion = ABSOLUTE if studio.pack.channels_absolute else RELATIVE
        shelf = markup.element("mien-shelf", {"faces": faces, "picked": 0})
        return shelf, gr.update(choices=names, value=names[1]), motion

    def pick(self, event: gr.EventData, request: gr.Request) -> str:
        """A person of the shelf is chosen."""
        session = self._studio.session(request)
        index = int(event._data.get("index", 0))
        session.memory["person"] = min(max(index, 0), len(self._studio.shelf) - 1)
        session.memory.pop("portrait", None)
        return markup.note(f"Person {session.memory['person'] + 1} of the shelf is chosen.")

    def upload(self, path: str | None, request: gr.Request) -> tuple[Any, str]:
        """A portrait is uploaded, or taken back where there is no path."""
        studio, session = self._studio, None
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

    def run(
        self, name: str, file: str | None, clip: str | None, learn: bool, strength: float, smoothing: float, blink: bool,
        gaze: bool, motion: str, request: gr.Request,
    ) -> Iterator[Shown]:  # fmt: skip
        """Make the puppet, and show how far the work is."""
        studio, session = self._studio, None
        try:
            session = studio.session(request)
            own = session
            source = _driver(studio, session, name, file, clip)
            # The tour is made of changes from rest.
            relative = motion == RELATIVE or name == TOUR
            options = puppet_options(bool(learn), float(strength), float(smoothing), bool(blink), bool(gaze), relative)
            job = StudioJob(studio.queue, session, lambda job: make_puppet(studio, own, job, source, options))
            wanted = [s for s in STAGES if s != "portrait" or (learn and "portrait" in session.memory)]
            yield markup.working(job.state, wanted), gr.update(visible=False), gr.update(visible=True), gr.skip()
            for state in job.run():
                yield markup.working(state, wanted), gr.skip(), gr.skip(), gr.skip()
            yield job.result, gr.update(visible=True), gr.update(visible=False), gr.update(visible=True)
        except Exception as error:
            yield markup.fault(sentence(error, session)), gr.update(visible=True), gr.update(visible=False), gr.skip()

    def stop(self, request: gr.Request) -> None:
        """End the work that the session waits for."""
        job = self._studio.session(request).job
        if job is not None:
            job.cancel()


def puppet_options(
    learn: bool, strength: float, smoothing: float, blink: bool, gaze: bool, relative: bool
) -> PuppetOptions:
    """What the controls say; `smoothing` in seconds. Raises InputError for a value out of range."""
    from mien.reenact.options import PuppetOptions
    from mien.reenact.retarget import RetargetOptions

    options = replace(PuppetOptions.mien(), retargeting=RetargetOptions(relative, strength, smoothing, blink, gaze))
    return options if learn else replace(options, tuning=None)


def _driver(studio: Studio, session: Session, name: str, file: str | None, clip: str | None) -> Stream | Clip:
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


def make_puppet(studio: Studio, session: Session, job: StudioJob, source: Stream | Clip, options: PuppetOptions) -> str:
    """Encode the driver if it is a clip, make the puppet and render both; returns the result's HTML.

    Runs in the job's thread.
    """
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
    puppet = puppeteer(driver, portrait, options=options, pack=pack, progress=job)
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
