"""A suite's page: the table, stills of all methods side by side, and the metrics over time."""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import numpy as np

from mien.errors import MienError
from mien.evaluate.frames import Frame, count_frames, frames
from mien.evaluate.metrics import dlib_face
from mien.evaluate.metrics.facemesh import MEASURES
from mien.evaluate.registry import BY_KEY
from mien.evaluate.sides import Side
from mien.evaluate.suite import Result, Results, Suite, SuiteJob
from mien.evaluate.table import Cell, Column, Table, clips_of
from mien.media.side_by_side import side_by_side
from mien.media.still_images import IMAGE_SUFFIXES, write_image
from mien.runtime.files import atomic_path, write_text
from mien.runtime.progress import NoProgress

STILLS = 3  # moments of a clip that are shown
SIZE = 256
OVER_TIME = ("psnr", "l1", "ssim", "lpips", "efficientnet_distance", "id_loss", "id_loss_curricular", "pack_identity")
AXIS = {
    "pack_identity": "identity, cosine",
    "efficientnet_distance": "EfficientNet",
    "id_loss_curricular": "L_ID, Curr.Face",
}
# Headings of the page's tables, and how the keys of their columns begin; the first takes all others.
GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("", ()),
    ("By dlib, which nothing was fitted to, r over time", ("dlib_",)),
    ("EfficientNet-Lite0 (Lite1 is fitted)", ("efficientnet_",)),
    ("Face mesh, r over time (also fitted)", ("mesh_",)),
    ("Head pose, likeness, jitter", ("head_", "jitter", "pack_")),
)
# Colours that are told apart by people who do not see red and green.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#666666")

STYLE = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; margin: 0; color: #1d2329; background: #f5f6f8 }
main { max-width: 82rem; margin: 0 auto; padding: 2rem 1.5rem 4rem }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem } h2 { font-size: 1.15rem; margin: 0 0 .8rem }
section { background: #fff; border: 1px solid #e1e4e8; border-radius: 8px; padding: 1.2rem 1.3rem; margin: 1.2rem 0 }
.lead { color: #57606a; margin: 0; max-width: 60rem } .wide { overflow-x: auto }
table { border-collapse: collapse; white-space: nowrap; font-variant-numeric: tabular-nums; margin-bottom: 1.2rem }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid #eaecef }
thead th { border-bottom: 2px solid #57606a; font-weight: 600 } tbody tr:hover td { background: #f6f8fa }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff }
.best { font-weight: 700 } .second { text-decoration: underline; text-underline-offset: 3px }
small, .note { color: #6a737d; font-size: .86rem } .note { margin: .2rem 0 }
ul { margin: .3rem 0; padding-left: 1.2rem } img { max-width: 100%; display: block; margin: 0 0 .6rem; border-radius: 4px }
"""


def write_page(suite: Suite, table: Table, results: Results, folder: Path) -> Path:
    """Write `index.html` with its pictures into `folder`; returns its path. Files that cannot be read are left out."""
    note = html.escape(suite.note) or "Measured by mien evaluate."
    parts = [
        f"<h1>{html.escape(suite.name)}</h1><p class=lead>{note}</p>",
        _tables(suite, table),
        _gaps(table, results),
    ]
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for clip in suite.clips:
        jobs = [job for job in suite.jobs if job.clip == clip and results[job.method, job.clip].error is None]
        if not jobs:
            continue
        pictures = []
        for number, still in enumerate(_stills(jobs)):
            pictures.append((f"{clip}-{number}.jpg", f"{clip}, moment {number + 1}"))
            write_image(folder / "pictures" / pictures[-1][0], still)
        named = [(job.method, results[job.method, clip]) for job in jobs]
        if _plot_metrics(named, folder / "pictures" / f"{clip}-time.png"):
            pictures.append((f"{clip}-time.png", f"{clip}, metrics over time"))
        for kind, names in (("dlib", dlib_face.MEASURES), ("mesh", MEASURES)):
            if _plot_measures(kind, names, named, folder / "pictures" / f"{clip}-{kind}.png"):
                pictures.append((f"{clip}-{kind}.png", f"{clip}, measures of the face over time ({kind})"))
        images = "".join(f'<img src="pictures/{quote(name)}" alt="{html.escape(alt)}">' for name, alt in pictures)
        parts.append(f"<section><h2>{html.escape(clip)}</h2>{images}</section>")
    title = html.escape(suite.name)
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    page += '<meta name="viewport" content="width=device-width, initial-scale=1">'
    write_text(folder / "index.html", f"{page}<main>{''.join(parts)}</main></html>\n")
    return folder / "index.html"


def _tables(suite: Suite, table: Table) -> str:
    """Lay out the columns of the paper's own metrics first, then the others by `GROUPS`."""
    groups: dict[str, list[Column]] = {heading: [] for heading, _ in GROUPS}
    for column in table.columns:
        prefixes = [(heading, p) for heading, starts in GROUPS for p in starts if suite.layout == "metrics"]
        groups[next((h for h, prefix in prefixes if column.key.startswith(prefix)), "")].append(column)
    parts = []
    for heading, columns in groups.items():
        if not columns:
            continue
        head = "".join(f"<th>{html.escape(_short(column.label))}" for column in columns)
        rows = []
        for method in suite.methods:
            cells = "".join(_cell(column.cells.get(method)) for column in columns)
            rows.append(f"<tr><td>{html.escape(method)}<td>{clips_of(suite, table, method)}{cells}")
        parts.append(f"<h2>{heading}</h2>" if heading else "")
        parts.append(f"<div class=wide><table><thead><tr><th>method<th>clips{head}<tbody>{''.join(rows)}</table></div>")
    caption = "Means over clips with 95 % intervals; FID and FVD over all clips together."
    if suite.layout == "clips":
        caption = (
            f"{html.escape(BY_KEY[suite.columns[0]].label)}, {BY_KEY[suite.columns[0]].unit or 'a column a clip'}."
        )
    parts.append(f"<p class=note>{caption} <b>Bold</b>: best; <span class=second>underlined</span>: second best.</p>")
    return f"<section>{''.join(parts)}</section>"


def _short(label: str) -> str:
    """Shorten a column's label by what the heading above it says already."""
    for long, short in (
        ("mesh: ", ""),
        ("dlib: ", ""),
        (", r ", " "),
        ("head: ", ""),
        (" by the pack's network, cosine", ""),
    ):
        label = label.replace(long, short)
    return label.replace("mean error of all three", "head pose").replace(", mean error", ", °")


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "<td>–"
    kind = {1: "best", 2: "second"}.get(cell.place, "")
    half = "" if cell.half is None else f" <small>±{cell.half:.3g}</small>"
    return f'<td><span class="{kind}">{cell.mean:.4g}</span>{half}'


def _gaps(table: Table, results: Results) -> str:
    """List what could not be measured, and why."""
    lines = [
        f"<b>{html.escape(label)}</b> needs {_code(html.escape(why.removeprefix('needs ')))}"
        for label, why in table.missing.items()
    ]
    lines += [
        f"<b>{html.escape(m)}, {html.escape(c)}</b>: {html.escape(r.error)}" for (m, c), r in results.items() if r.error
    ]
    if not lines:
        return ""
    return f"<section><h2>Not measured</h2><ul class=note>{''.join(f'<li>{line}' for line in lines)}</ul></section>"


def _code(text: str) -> str:
    """Mark up what stands between backticks as code."""
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(text.split("`")))


def _stills(jobs: Sequence[SuiteJob]) -> list[Frame]:
    """Draw the reference and every method's output at a few moments, beside each other; a puppet's person first."""
    first = jobs[0]
    names = ["driver" if first.identity else "reference", *(job.method for job in jobs)]
    sources = [(first.reference, first.options.reference_panel)]
    sources += [(job.output, job.options.output_panel) for job in jobs]
    if first.identity is not None:
        names.insert(0, "identity")
    try:
        step = max(count_frames(first.reference) // (STILLS + 1), 1)
        sides = [Side(p, SIZE, step, k, progress=NoProgress()) for p, k in sources]
        videos = [list(islice(side, 1, STILLS + 1)) for side in sides]
        if first.identity is not None:
            videos.insert(0, [_portrait(first.identity, first.options.identity_panel)])
    except MienError:
        return []
    return list(side_by_side(videos, names, SIZE)) if all(videos) else []


def _portrait(path: Path, panel: int | None) -> Frame:
    from mien.evaluate.frames import resize
    from mien.media.still_images import read_image

    if path.suffix.lower() in IMAGE_SUFFIXES:
        image = read_image(path)
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        return resize(image[top : top + side, left : left + side], SIZE)
    return next(frames(path, size=SIZE, panel=panel))


def _plot_metrics(named: Sequence[tuple[str, Result]], path: Path) -> bool:
    """Plot the metrics that are taken frame by frame; returns False where there are none."""
    keys = [key for key in OVER_TIME if any(key in result.series for _, result in named)]
    if not keys:
        return False
    curves = []
    for key in keys:
        metric = BY_KEY[key]
        label = AXIS.get(key, f"{metric.label}, {metric.unit}".rstrip(", "))
        lines = [(method, result.series[key]) for method, result in named if key in result.series]
        curves.append((label, lines))
    _plot(curves, None, path)
    return True


def _plot_measures(kind: str, names: Sequence[str], named: Sequence[tuple[str, Result]], path: Path) -> bool:
    """Plot the measures `kind` (of `mesh` or `dlib`) of all outputs, and of the reference in black; False if none."""
    curves = []
    for measure in names:
        reference = next((result.series.get(f"reference_{kind}_{measure}") for _, result in named), None)
        lines = [(m, r.series[f"{kind}_{measure}"]) for m, r in named if f"{kind}_{measure}" in r.series]
        if reference and lines:
            curves.append((measure.replace("_", " "), [("reference", reference), *lines]))
    if curves:
        _plot(curves, "reference", path, columns=2)
    return bool(curves)


def _plot(
    curves: Sequence[tuple[str, Sequence[tuple[str, Sequence[float | None]]]]],
    black: str | None,
    path: Path,
    columns: int = 1,
) -> None:
    from matplotlib.figure import Figure

    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(12, 1.75 * rows + 0.7), layout="constrained")
    axes = np.asarray(figure.subplots(rows, columns, sharex=True, squeeze=False)).ravel()
    for axis, (label, lines) in zip(axes, curves, strict=False):
        colours = iter(COLOURS * (1 + len(lines) // len(COLOURS)))
        for name, values in lines:
            y = np.array([np.nan if v is None else v for v in values])
            if name == black:
                axis.plot(y, lw=2.2, color="black", alpha=0.75, label=name)
            else:
                axis.plot(y, lw=1.2, color=next(colours), label=name)
        axis.set_ylabel(label)
        axis.grid(color="0.92")
        axis.margins(x=0.01)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(curves) :]:
        axis.set_visible(False)
    for axis in axes[len(curves) - columns : len(curves)]:
        axis.set_xlabel("frames measured")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=len(names), frameon=False, fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
