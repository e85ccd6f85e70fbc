"""Which pack, which channels and whose weights draw a stream."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np

from mien.errors import PackError, StreamError
from mien.format.person import Person, find_person
from mien.format.stream import Stream
from mien.format.weights_codec import apply_delta
from mien.nets.generator import Generator
from mien.packs.pack import Pack

Where = Person | str | Path | None  # a person, its file, or a folder to look in


def pack_for(stream: Stream, pack: str | Pack | None, size: int | None = None) -> Pack:
    """Find the pack that made the stream, with pictures of `size`, by default the stream's own.

    Raises PackError where it is not here or does not draw that size, StreamError where it is another.
    """
    try:
        found = pack if isinstance(pack, Pack) else Pack.load(pack) if pack else Pack.named(stream.pack_name)
    except PackError as error:
        raise PackError(f"this stream needs the pack {stream.pack_name!r} ({stream.pack[:8]}): {error}") from error
    stream.require_pack(found.fingerprint, found.name)
    if stream.resolution not in found.generator.sizes or stream.identity.shape != (
        found.generator.num_ws,
        found.generator.w_dim,
    ):
        raise StreamError("the stream's identity latent does not fit its pack's generator")
    widths = [layer.width for layer in found.generator.layers]
    for layer, index in np.asarray(stream.channels).tolist():
        if not (0 <= layer < len(widths) and 0 <= index < widths[layer]):
            raise StreamError(f"the stream names a StyleSpace channel ({layer}, {index}) that its pack does not have")
    return found.at(size or stream.resolution)


def tuned_generator(stream: Stream, pack: Pack, person: Where = None) -> Generator:
    """The generator that draws the stream: the pack's with the weights that the stream carries, or its person's.

    Where the pack's pictures are larger than the stream's, what only they need is as in the pack: it was not learned.
    `person`: see `find_person`. Raises StreamError and PackError as that does, StreamError for weights that do not fit.
    """
    found = find_person(stream, person)
    if found is not None:
        found.require_pack(pack.fingerprint, pack.name)
    blob, size = (stream.tuning, stream.resolution) if found is None else (found.tuning, found.resolution)
    if not blob:
        return pack.generator
    if size not in pack.generator.sizes:
        raise StreamError(
            f"the weights were learned in pictures of {size} pixels, which is more than {pack.resolution}"
        )
    learned = apply_delta(pack.generator.at(size), blob)
    if pack.resolution == size:
        return learned
    whole = copy.deepcopy(pack.generator)
    whole.load_state_dict(learned.state_dict(), strict=False)
    return whole


def stream_channels(stream: Stream, pack: Pack) -> tuple:
    """The stream's own channel table; attribute names and scales are the pack's where it knows the channel."""
    known = {(c.layer, c.index): c for c in pack.channels}
    table = np.asarray(stream.channels).tolist()
    if all((layer, index) in known for layer, index in table):
        return tuple(known[(layer, index)] for layer, index in table)
    first = pack.channels[0]
    return tuple(known.get((x, y), replace(first, layer=x, index=y, attribute="other", scale=1.0)) for x, y in table)
