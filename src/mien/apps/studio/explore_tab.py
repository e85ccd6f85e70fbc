"""The last tab: what each channel does to a face, and two videos under a wiper with their figures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from mien.apps.studio import markup
from mien.apps.studio.channel_faces import face_html, sliders_html
from mien.apps.studio.context import Studio, sentence
from mien.apps.studio.job_queue import StudioJob
from mien.apps.studio.media import checked_clip
from mien.apps.studio.sessions import CLIPS, Session
from mien.errors import InputError


def build(studio: Studio) -> dict[str, Any]:
    """Build the tab; returns the components that others need."""
    with gr.Tabs(elem_classes="m-inner"):
        with gr.Tab("Channels", id="channels"):
            shelf, load, channels = _channels(studio)
        with gr.Tab("Compare", id="compare"):
            _compare(studio)
    return {"shelf": shelf, "load": load, "channels": channels}


def _channels(studio: Studio) -> tuple[Any, Any, list[Any]]:
    gr.HTML(markup.lead("What the 35 numbers do", "Yaw, pitch, and the 32 channels of the generator that carry expression. "
                        "Move one: the face follows, and the region that it changes is lit."))  # fmt: skip
    with gr.Row():
        with gr.Column(scale=5, min_width=300):
            face = gr.HTML("", elem_id="explored", elem_classes="m-quiet")
            gr.HTML(markup.step(1, "Whose face"))
            shelf = gr.HTML("", elem_id="explore-shelf", elem_classes="m-quiet",
                            js_on_load="element.addEventListener('pick', (e) => trigger('pick', e.detail));")  # fmt: skip
        with gr.Column(scale=7, min_width=320):
            gr.HTML(markup.step(2, "Move the channels"))
            sliders = gr.HTML(markup.note("Drawing what each channel moves…"), elem_id="sliders", elem_classes="m-quiet",
                              js_on_load="element.addEventListener('slide', (e) => trigger('slide', e.detail));")  # fmt: skip
    regions: dict[str, Any] = {}

    def load(request: gr.Request) -> tuple[str, str, str]:
        """When the tab is opened: the sliders with their regions, drawn once for all visitors."""
        try:
            if "sliders" not in regions:
                regions["sliders"] = sliders_html(studio)
            shelf_html = markup.element("mien-shelf", {"faces": studio.shelf, "picked": 0})
            studio.session(request).memory.pop("explore", None)
            return regions["sliders"], shelf_html, face_html(studio, 0, np.zeros(34, np.float32), -1)
        except Exception as error:
            return markup.fault(sentence(error)), "", ""

    def slide(event: gr.EventData, request: gr.Request) -> Any:
        session = studio.session(request)
        values = np.zeros(34, np.float32)
        given = event._data.get("values") or []
        for i, value in enumerate(given[:34]):
            if isinstance(value, int | float) and np.isfinite(value):
                values[i] = np.clip(value, -40, 40)
        touched = int(event._data.get("touched", -1))
        person = session.memory.get("explore", {}).get("person", 0)
        session.memory["explore"] = {"person": person, "values": values}
        return face_html(studio, person, values, touched if -1 <= touched < 34 else -1)

    def pick(event: gr.EventData, request: gr.Request) -> Any:
        session = studio.session(request)
        person = min(max(int(event._data.get("index", 0)), 0), len(studio.shelf) - 1)
        values = session.memory.get("explore", {}).get("values", np.zeros(34, np.float32))
        session.memory["explore"] = {"person": person, "values": values}
        return face_html(studio, person, values, -1)

    sliders.slide(slide, None, face, trigger_mode="always_last", show_progress="hidden", concurrency_limit=8)
    shelf.pick(pick, None, face, show_progress="hidden")
    return shelf, load, [sliders, shelf, face]


def _compare(studio: Studio) -> None:
    gr.HTML(markup.lead("Compare two videos", "Of the same length and framing, one over the other with a wiper. "
                        "Measuring them takes a moment; what needs networks that are not here says so."))  # fmt: skip
    with gr.Row():
        with gr.Column(scale=4, min_width=300):
            mine = gr.Button("My clip and its render", elem_id="compare-mine")
            with gr.Row():
                reference = gr.File(label="Reference", file_types=list(CLIPS), height=120, min_width=130)
                output = gr.File(label="Output", file_types=list(CLIPS), height=120, min_width=130)
            both = gr.Button("Compare these two", elem_id="compare-files")
            measure = gr.Button("Measure them", variant="primary", visible=False, elem_id="measure")
        with gr.Column(scale=7, min_width=320):
            out = gr.HTML(
                markup.empty("The wiper will stand here", "Take your clip and its render, or two videos of your own."),
                elem_classes="m-out", elem_id="wiper",
            )  # fmt: skip
            figures = gr.HTML("", elem_classes="m-out", elem_id="figures")

    def shown(session: Session, paths: tuple[Path, Path], names: tuple[str, str]) -> tuple[Any, ...]:
        addresses = [session.offer(path, f"{name}.mp4") for path, name in zip(paths, names, strict=True)]
        session.keep("compare", addresses)
        session.memory["compare"] = paths
        panels = list(zip(addresses, names, strict=True))
        return markup.player(panels, sound=False, wiper=True), gr.update(visible=True), ""

    def take_mine(request: gr.Request) -> tuple[Any, ...]:
        session = None
        try:
            session = studio.session(request)
            if "encoded" not in session.memory:
                raise InputError("No clip is encoded yet on this page.")
            encoded = session.memory["encoded"]
            copies = []
            for address in (encoded.input, encoded.render):
                copies.append(session.path(".mp4"))
                shutil.copyfile(session.offered[address.rpartition("/")[2]][0], copies[-1])
            return shown(session, (copies[0], copies[1]), ("input", "render"))
        except Exception as error:
            return markup.fault(sentence(error, session)), gr.skip(), gr.skip()

    def take_files(first: str | None, second: str | None, request: gr.Request) -> tuple[Any, ...]:
        session = None
        try:
            session = studio.session(request)
            if first is None or second is None:
                raise InputError("Choose both videos.")
            paths = (studio.sessions.take(session, first, CLIPS), studio.sessions.take(session, second, CLIPS))
            for path in paths:
                checked_clip(path)
            return shown(session, paths, ("reference", "output"))
        except Exception as error:
            return markup.fault(sentence(error, session)), gr.skip(), gr.skip()

    def measured(request: gr.Request) -> Iterator[str]:
        session = None
        try:
            session = studio.session(request)
            paths = session.memory.get("compare")
            if paths is None:
                raise InputError("Choose two videos first.")
            job = StudioJob(studio.queue, session, lambda job: measure_html(studio, job, paths))
            yield markup.working(job.state, ["evaluate"])
            for state in job.run():
                yield markup.working(state, ["evaluate"])
            yield job.result
        except Exception as error:
            yield markup.fault(sentence(error, session))

    mine.click(take_mine, None, [out, measure, figures], show_progress="hidden")
    both.click(take_files, [reference, output], [out, measure, figures], show_progress="hidden")
    measure.click(measured, None, figures, show_progress="hidden", concurrency_limit=None)


def measure_html(studio: Studio, job: StudioJob, paths: tuple[Path, Path]) -> str:
    """Evaluate two videos: a table and series over time as HTML."""
    from mien.evaluate.evaluate import evaluate
    from mien.evaluate.judges import JudgeModels
    from mien.evaluate.networks import gather

    clip = checked_clip(paths[0])
    result = evaluate(*paths, networks=gather(studio.pack_name), judges=JudgeModels.installed(), progress=job)
    seconds = result.frames / float(clip.fps)
    titles = {"psnr": "PSNR, dB", "ssim": "SSIM", "l1": "L1, of 255"}
    charts = [markup.chart([result.series[k]], [t], t, seconds) for k, t in titles.items() if k in result.series]
    for name, title in (("mouth_open", "mouth opening"), ("eye_open", "eye opening"), ("yaw", "yaw")):
        both = [result.series.get(f"{side}mesh_{name}") for side in ("reference_", "")]
        if all(one is not None for one in both):
            title = f"{title}: reference and output"
            charts.append(
                markup.chart([one for one in both if one is not None], ["reference", "output"], title, seconds)
            )
    rows, unknown = [], []
    for metric in result.metrics:
        label = escape(f"{metric.label} {'↑' if metric.more_is_better else '↓'}")
        if metric.key in result.values:
            value = f"{result.values[metric.key]:.3f} {metric.unit}"
            rows.append(f"<tr><td>{label}</td><td>{escape(value)}</td></tr>")
        elif metric.key in result.missing:
            why = f"<small>not measured: needs {escape(result.missing[metric.key])}</small>"
            unknown.append(f"<tr><td>{label}<br>{why}</td></tr>")
    head = f'<p class="m-note">{result.frames} frames, {result.faces} with a face in both.</p>'
    keys = '<div class="m-keys"><span><i></i>reference, or the figure alone</span><span><i></i>output</span></div>'
    table = f'<table class="m-metrics">{"".join(rows)}</table>'
    if unknown:
        table += (
            f"<details><summary>{len(unknown)} metrics were not measured, and why</summary>"
            f'<table class="m-metrics">{"".join(unknown)}</table></details>'
        )
    return f'<div class="m-card">{keys}<div class="m-charts">{"".join(charts)}</div>{head}{table}</div>'
