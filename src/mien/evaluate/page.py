"""A suite's page: the table, stills of all methods side by side, and the pixel metrics over time."""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mien.compare import side_by_side
from mien.errors import MienError
from mien.evaluate.frames import Frame, count_frames, frames
from mien.evaluate.report import METRICS
from mien.evaluate.suite import Cell, Job, Suite
from mien.files import atomic_path, write_text
from mien.video import write_image

STILLS = 3  # moments of a clip that are shown
SIZE = 256
OVER_TIME = {"psnr": "PSNR, dB", "l1": "L1, of 255", "ssim": "SSIM"}

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; display: block; overflow-x: auto; white-space: nowrap }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ddd } th:first-child, td:first-child
{ text-align: left; position: sticky; left: 0; background: #fff } th { font-weight: 600 }
.best { font-weight: 700 } .second { text-decoration: underline } small { color: #777 } img { max-width: 100% }
"""


def write_page(
    suite: Suite,
    table: dict[str, dict[str, Cell]],
    results: dict[tuple[str, str], dict[str, Any]],
    folder: Path,
) -> Path:
    """Write `index.html` with its pictures into `folder`; returns its path. Files that cannot be read are left out."""
    parts = [f"<h1>{html.escape(suite.name)}</h1>", _table(suite, table)]
    failed = [(key, result["error"]) for key, result in results.items() if "error" in result]
    parts += [f"<p>{html.escape(method)}, {html.escape(clip)}: {html.escape(e)}</p>" for (method, clip), e in failed]
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for clip in suite.clips:
        parts.append(f"<h2>{html.escape(clip)}</h2>")
        jobs = [job for job in suite.jobs if job.clip == clip and "error" not in results[job.method, job.clip]]
        if not jobs:
            continue
        for number, still in enumerate(_stills(jobs)):
            name = f"pictures/{clip}-{number}.jpg"
            write_image(folder / name, still)
            parts.append(f'<p><img src="{quote(name)}" alt="{html.escape(clip)}, moment {number + 1}"></p>')
        name = f"pictures/{clip}-time.png"
        _plot([(job.method, results[job.method, clip]["series"]) for job in jobs], folder / name)
        parts.append(f'<p><img src="{quote(name)}" alt="{html.escape(clip)}, metrics over time"></p>')
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(suite.name)}</title>'
    write_text(folder / "index.html", f"{page}<style>{STYLE}</style>{''.join(parts)}</html>\n")
    return folder / "index.html"


def _table(suite: Suite, table: dict[str, dict[str, Cell]]) -> str:
    shown = [metric for metric in METRICS if any(metric.key in cells for cells in table.values())]
    head = "".join(f"<th>{html.escape(m.label)} {'↑' if m.more_is_better else '↓'}" for m in shown)
    rows = []
    for method in suite.methods:
        texts = []
        for metric in shown:
            cell = table[method].get(metric.key)
            if cell is None:
                texts.append("<td>-")
                continue
            kind = {1: "best", 2: "second"}.get(cell.place, "")
            half = "" if cell.half is None else f" <small>±{cell.half:.3g}</small>"
            texts.append(f'<td><span class="{kind}">{cell.mean:.4g}</span>{half}')
        rows.append(f"<tr><td>{html.escape(method)}{''.join(texts)}")
    note = "<p><small>Means over clips with 95 % intervals. Bold: best; underlined: second best.</small></p>"
    return f"<table><tr><th>method{head}{''.join(rows)}</table>{note}"


def _stills(jobs: Sequence[Job]) -> list[Frame]:
    """The reference and every method's output at a few moments, beside each other."""
    first = jobs[0]
    try:
        step = max(count_frames(first.reference) // (STILLS + 1), 1)
        sources = [(first.reference, first.options.reference_panel)]
        sources += [(job.output, job.options.output_panel) for job in jobs]
        videos = [list(islice(frames(p, size=SIZE, step=step, panel=k), 1, STILLS + 1)) for p, k in sources]
    except MienError:
        return []
    return list(side_by_side(videos, ["reference", *(job.method for job in jobs)], SIZE)) if all(videos) else []


def _plot(series: Sequence[tuple[str, dict[str, list[float]]]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2.2 * len(OVER_TIME)), layout="constrained")
    axes = figure.subplots(len(OVER_TIME), 1, sharex=True)
    for axis, (key, label) in zip(axes, OVER_TIME.items(), strict=True):
        for method, values in series:
            axis.plot(values[key], lw=1.2, label=method)
        axis.set_ylabel(label)
        axis.grid(color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(loc="center left", bbox_to_anchor=(1.005, 0.5), frameon=False, fontsize=8)
    axes[-1].set_xlabel("frames measured")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
