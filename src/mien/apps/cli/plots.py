"""Plots of what a clip became: the 35 curves of a stream, and the course of an alignment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mien.errors import InputError
from mien.format.stream import Stream
from mien.method.types import FaceTrack
from mien.runtime.files import atomic_path, check_output, read_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


PLOT_SUFFIXES = (".png", ".pdf", ".svg")
POSE = ("roll R", "yaw Y", "pitch P")
GRID: dict[str, Any] = {"color": "0.9", "linewidth": 0.8}


def plot_stream(
    stream: Stream,
    path: str | os.PathLike[str],
    attributes: Sequence[str] | None = None,
    scales: Sequence[float] | None = None,
) -> None:
    """Draw the 35 curves over time: one panel for the head pose, one for each attribute's channels.

    `attributes` names the attribute of each of the 32 channels and `scales` their units (as a pack's `channels` have
    them); without them the channels stand in the groups of eight, in raw units. Raises OutputError.
    """
    check_output(path, PLOT_SUFFIXES)
    frames = np.asarray(stream.frames, np.float32)
    seconds = np.arange(len(frames)) / float(stream.fps)
    alphas = frames[:, 3:] / (np.asarray(scales, np.float32) if scales is not None else 1.0)
    groups = _groups(attributes, alphas.shape[1])
    figure = _figure(1 + len(groups))
    axes = figure.axes
    _curves(axes[0], seconds, frames[:, :3], POSE, "head pose", "degrees")
    unit = "standard deviations" if scales is not None else "StyleSpace units"
    for axis, (name, members) in zip(axes[1:], groups.items(), strict=True):
        labels = [f"layer {stream.channels[i][0]}, {stream.channels[i][1]}" for i in members]
        _curves(axis, seconds, alphas[:, members], labels, name, unit)
    figure.suptitle(
        f"{len(frames)} frames, {stream.seconds:.1f} s, pack {stream.pack_name}: {frames.shape[1]} numbers a frame",
        fontsize=11,
    )
    _save(figure, path)


def plot_alignment(facts: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw what `mien align --json` wrote: angles, the crop's place and size, the registration's residual.

    Grey bands are frames whose face was out of sight, ticks at the bottom the key frames. Raises OutputError,
    and InputError when `facts` is something else.
    """
    check_output(path, PLOT_SUFFIXES)
    try:
        if facts["frames"] != len(facts["roll"]) or not facts["roll"] or not 0 < facts["fps"] < np.inf:
            raise ValueError("an alignment has frames, and a rate")
        seconds = np.arange(len(facts["roll"])) / float(facts["fps"])
        quads = np.asarray(facts["quads"], float).reshape(len(seconds), 4, 2)
        angles = np.array([facts[name] for name in ("roll", "yaw", "pitch")], float).T.reshape(len(seconds), 3)
        residual = np.array(facts["residual"], float).reshape(len(seconds), 1)
        unseen = np.array([facts["bridged"], facts["lost"]], bool).reshape(2, len(seconds)).any(0)
        keys = np.unique(np.array(facts["key_frame"], int))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError("this JSON was not written by `mien align --json`.") from error
    figure = _figure(4)
    axes = figure.axes
    centre = quads.mean(1)
    side = np.hypot(*(quads[:, 3] - quads[:, 0]).T)[:, None]
    _curves(axes[0], seconds, angles, POSE, "head pose", "degrees")
    _curves(axes[1], seconds, centre - centre[:1], ("x", "y"), "crop's centre", "pixels from frame 0")
    _curves(axes[2], seconds, side - side[:1], ("side",), "crop's size", "pixels from frame 0")
    _curves(axes[3], seconds, residual, ("residual",), "registration", "grey levels")
    for axis in axes:
        axis.plot(keys / float(facts["fps"]), np.zeros(len(keys)), "|", color="0.4", ms=6, transform=_foot(axis))
        for time in seconds[unseen]:
            axis.axvspan(time, time + 1 / float(facts["fps"]), color="0.85", lw=0)
    figure.suptitle(f"alignment: {len(seconds)} frames, {len(keys)} key frames, {int(unseen.sum())} without a face")
    _save(figure, path)


def alignment_facts(alignment: FaceTrack, fps: Fraction) -> dict[str, Any]:
    """What `mien align --json` writes: an alignment without its pictures, as values that JSON can hold."""
    lists = ("roll", "yaw", "pitch", "key_frame", "residual", "bridged", "lost", "cuts", "quads")
    values = {name: getattr(alignment, name) for name in lists}
    return {
        "frames": len(alignment),
        "fps": float(fps),
        "size": alignment.size,
        "frame_size": list(alignment.frame_size),
        **{name: _json_list(value) for name, value in values.items()},
    }


def _json_list(values: NDArray[Any]) -> list[Any]:
    if values.dtype.kind != "f":
        return values.tolist()
    # JSON has no NaN: what is not known is null.
    rounded = np.round(values.astype(float), 4).astype(object)
    rounded[~np.isfinite(values)] = None
    return rounded.tolist()


def plot_file(source: str | os.PathLike[str], path: str | os.PathLike[str], channels: Sequence[Any] = ()) -> None:
    """Draw a `.mien` file, or the JSON of an alignment. `channels`: a pack's (`attribute`, `scale`), if it is at hand.

    Raises InputError or StreamError when `source` is neither, OutputError.
    """
    check_output(path, PLOT_SUFFIXES)
    if Path(source).suffix.lower() == ".json":
        try:
            plot_alignment(json.loads(read_text(source)), path)
        except (OSError, ValueError) as error:
            raise InputError(f"{source} is not a JSON file that can be read.") from error
        return
    stream = Stream.load(source)
    places = {(c.layer, c.index): c for c in channels}
    known = [places.get((int(layer), int(index))) for layer, index in stream.channels]
    if known and all(known):
        plot_stream(stream, path, [c.attribute for c in known if c], [c.scale for c in known if c])
    else:
        plot_stream(stream, path)


def _groups(attributes: Sequence[str] | None, count: int) -> dict[str, list[int]]:
    if attributes is None:
        return {
            f"channels {i} to {min(i + 8, count) - 1}": list(range(i, min(i + 8, count))) for i in range(0, count, 8)
        }
    return {name: [i for i, a in enumerate(attributes) if a == name] for name in dict.fromkeys(attributes)}


def _figure(panels: int) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 1.0 + 1.75 * panels), layout="constrained")
    axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
    axes[-1].set_xlabel("seconds")
    return figure


def _curves(
    axis: Axes, seconds: NDArray[Any], values: NDArray[Any], labels: Sequence[str], title: str, unit: str
) -> None:
    """Curves `values [T, K]` in one panel, their names beside it in the order of their last values."""
    from matplotlib import colormaps

    colours = colormaps["tab10" if values.shape[1] <= 10 else "tab20"]
    order = np.argsort(-np.nan_to_num(values[-1]), kind="stable")
    # A clip of one frame has no line to draw, so it gets dots.
    style: dict[str, Any] = {"marker": "o", "ms": 3} if len(seconds) == 1 else {}
    for i in order:
        axis.plot(seconds, values[:, i], color=colours(i % colours.N), lw=1.1, label=labels[i], **style)
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axis.set_ylabel(unit, fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(**GRID)
    axis.axhline(0, color="0.6", lw=0.8, zorder=0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(x=0.005)
    columns = 1 if len(labels) <= 8 else 2
    axis.legend(loc="center left", bbox_to_anchor=(1.005, 0.5), fontsize=7, frameon=False, ncols=columns)


def _foot(axis: Axes) -> Any:
    """Coordinates with seconds across and the panel's height up."""
    return axis.get_xaxis_transform()


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    figure.align_ylabels()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
