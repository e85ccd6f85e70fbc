"""Pieces of the page's HTML: every text that comes from outside goes through `html.escape`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.apps.studio.job_queue import JobState
from mien.apps.studio.media import data_address
from mien.format.stream import Stream

STAGE_NAMES = {
    "align": "Finding and steadying the face",
    "invert": "Inverting every frame",
    "identity": "Choosing the identity",
    "tune": "Learning this person's look",
    "refine": "Refining",
    "refit": "Fitting each frame again",
    "pose": "Fitting yaw and pitch",
    "attributes": "Fitting 32 expression channels",
    "portrait": "Learning the portrait",
    "input": "Writing the input's panel",
    "driver": "Rendering the driver",
    "render": "Rendering",
    "learn": "Learning to drive this face",
    "evaluate": "Measuring",
}
PARTS = (  # of a file, and what they are
    ("frames", "the frames"),
    ("identity", "the identity latent"),
    ("tuning", "the person's tuned weights"),
    ("audio", "sound"),
    ("placement", "where the face was"),
    ("header", "header and checksums"),
)


def lead(title: str, text: str) -> str:
    """The head of a tab."""
    return f'<div class="m-lead"><h2>{escape(title)}</h2><p>{escape(text)}</p></div>'


def step(number: int, text: str) -> str:
    """The head of a numbered step."""
    return f'<div class="m-step"><b>{number}</b><span>{escape(text)}</span></div>'


def empty(title: str, text: str) -> str:
    """What stands where a result will be."""
    return f'<div class="m-empty"><div class="m-mark"></div><h3>{escape(title)}</h3><p>{escape(text)}</p></div>'


def fault(sentence: str) -> str:
    """A refusal or a failure, in a sentence."""
    return f'<div class="m-fault" role="alert">{escape(sentence)}</div>'


def note(sentence: str) -> str:
    return f'<div class="m-note">{escape(sentence)}</div>'


def working(state: JobState, wanted: Sequence[str]) -> str:
    """A job as it goes: its place in the queue, or its stages with bars."""
    if state.ahead:
        jobs = "one job is" if state.ahead == 1 else f"{state.ahead} jobs are"
        return (
            f'<div class="m-card" role="status"><h3>Waiting in line</h3><p>{jobs.capitalize()} before yours; one runs '
            'at a time. Keep this page open.</p><div class="m-bar"><i class="m-idle"></i></div></div>'
        )
    reached = {stage.name: stage for stage in state.stages}
    names = [*wanted, *(name for name in reached if name not in wanted)]
    rows = []
    for name in names:
        stage = reached.get(name)
        label = escape(STAGE_NAMES.get(name, name))
        if stage is None:
            rows.append(f'<li class="m-todo"><span>{label}</span><em></em></li>')
            continue
        if stage.ended is not None:
            rows.append(f'<li class="m-done"><span>{label}</span><em>{stage.seconds:.1f} s</em></li>')
            continue
        share = min(stage.done / stage.total, 1.0) if stage.total else 0.0
        count = f"{stage.done} of {stage.total}" if stage.total else ""
        if stage.total and 0 < stage.done < stage.total and stage.seconds > 2:
            left = stage.seconds / stage.done * (stage.total - stage.done)
            count += f", {left:.0f} s left" if left < 90 else f", {left / 60:.0f} min left"
        bar = f'<i style="width:{100 * share:.1f}%"></i>' if stage.total else '<i class="m-idle"></i>'
        rows.append(f'<li class="m-now"><span>{label}</span><em>{count}</em><div class="m-bar">{bar}</div></li>')
    said = "".join(note(sentence[:1].upper() + sentence[1:]) for sentence in state.said)
    return f'<div class="m-card" role="status"><ul class="m-stages">{"".join(rows)}</ul>{said}</div>'


def preview(state: JobState) -> str:
    """The pictures of a job so far, a strip for each kind."""
    strips = []
    labels = {"input": "input, steadied", "inverted": "as the network sees it", "35 numbers": "from 35 numbers a frame"}
    for name, frames in list(state.pictures.items()):
        images = "".join(f'<img alt="" src="{data_address(np.asarray(frame), 82)}">' for frame in frames)
        strips.append(f"<figure><div>{images}</div><figcaption>{escape(labels.get(name, name))}</figcaption></figure>")
    return f'<div class="m-card m-strips">{"".join(strips)}</div>' if strips else ""


def player(panels: Sequence[tuple[str, str]], *, sound: bool, wiper: bool = False) -> str:
    """Videos in step, beside each other or under a wiper: (address, caption) of each. Sound is the first one's."""
    data = escape(json.dumps([{"src": src, "caption": caption} for src, caption in panels]))
    flags = (" sound" if sound else "") + (" wiper" if wiper else "")
    return f"<mien-player{flags} panels='{data}'></mien-player>"


def links(entries: Iterable[tuple[str, str, str]]) -> str:
    """Downloads: (address, name, label)."""
    made = [
        f'<a class="m-get" href="{escape(address)}?download=1" download="{escape(name)}">{escape(label)}</a>'
        for address, name, label in entries
    ]
    return f'<div class="m-gets">{"".join(made)}</div>'


def accounting(stream: Stream) -> str:
    """Every byte of the stream's file, as a bar and a table, and the rates."""
    sizes, rates = stream.accounting(), stream.rates()
    total = sizes["total"]
    shares, rows = [], []
    for key, label in PARTS:
        size = sizes[key]
        if not size:
            continue
        shares.append(f'<i class="m-p-{key}" style="flex:{max(size / total, 0.004):.4f}"></i>')
        if key == "frames":
            label = f"{len(stream)} frames, {sizes['per_frame']:g} bytes each"
        rows.append(f'<tr><td><i class="m-p-{key}"></i>{escape(label)}</td><td>{size:,}</td></tr>')
    rows.append(f'<tr class="m-total"><td>the file</td><td>{total:,} bytes</td></tr>')
    text = f"{rates['frames'] / 1000:.1f} kbit/s for the frames at {float(stream.fps):g} a second"
    return (
        f'<div class="m-bytes"><div class="m-share">{"".join(shares)}</div>'
        f"<table>{''.join(rows)}</table><p>{text}</p></div>"
    )


def numbers(rows: Iterable[tuple[str, str]]) -> str:
    """A small row of figures: (value, label)."""
    made = "".join(f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>" for value, label in rows)
    return f'<div class="m-numbers">{made}</div>'


def chart(series: Sequence[NDArray[np.floating]], labels: Sequence[str], title: str, seconds: float) -> str:
    """Lines over time `[T]` as an inline picture that takes the page's colours; NaN is left out."""
    width, height, left = 330, 104, 52
    values = np.concatenate([np.asarray(one, float) for one in series])
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    lines: list[str] = []
    for i, one in enumerate(series):
        xs = left + (width - left - 6) * np.arange(len(one)) / max(len(one) - 1, 1)
        ys = 8 + (height - 30) * (high - np.asarray(one, float)) / (high - low)
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True) if np.isfinite(y))
        lines.append(f'<polyline class="m-l{i}" points="{points}"><title>{escape(labels[i])}</title></polyline>')
    marks = "".join(
        f'<text x="{left - 6}" y="{y:.0f}" text-anchor="end">{value:.3g}</text>'
        f'<line x1="{left}" x2="{width - 6}" y1="{y - 4:.0f}" y2="{y - 4:.0f}"/>'
        for y, value in ((12, high), (height - 18, low))
    )
    foot = f'<text x="{left}" y="{height - 2}">0 s</text><text x="{width - 6}" y="{height - 2}" text-anchor="end">'
    return (
        f'<figure class="m-chart"><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}">{marks}{"".join(lines)}{foot}{seconds:.1f} s</text></svg></figure>'
    )


def element(name: str, data: Any, **attributes: str) -> str:
    """A custom element of studio.js with its data."""
    extra = "".join(f' {key}="{escape(value)}"' for key, value in attributes.items())
    return f"<{name}{extra} data='{escape(json.dumps(data))}'></{name}>"
