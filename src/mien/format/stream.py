"""`Stream`: one identity latent and 35 numbers a frame, and its file, `.mien` (docs/format.md is the specification).

A frame is 35 half floats in the order R, Y, P, alpha_0..alpha_31: roll, yaw and pitch in degrees, then the offsets of
the 32 StyleSpace channels (the paper, Sec. 3; 70 bytes a frame). `mien.format.container` frames the parts of the file,
`mien.format.sections` reads and writes what is in them, `mien.format.motion_codec` is the coded mode.
"""

from __future__ import annotations

import io
import os
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from mien.errors import StreamError
from mien.format import container, limits, motion_codec, sections
from mien.format.limits import PARAMETERS, check_limit
from mien.format.sections import Contents, Damage

__all__ = ["PARAMETERS", "Damage", "Stream", "read_frame"]


@dataclass(frozen=True, eq=False)
class Stream(Contents):
    """A talking-head clip as the paper sends it: L_ID, 32 channels V, and [R_t, Y_t, P_t, alpha_t] for each frame.

    Arrays are checked, copied and made read-only. Two streams are equal when their files are.

    Attributes:
        pack: SHA-256 fingerprint of the pack whose networks render it, 64 hexadecimal digits.
        pack_name: that pack's name, for people.
        resolution: side of the generator's images, pixels.
        fps: frames a second.
        channels: int16 [32, 2], the StyleSpace channels V as (layer, index).
        identity: float16 [num_ws, w_dim], the identity latent L_ID in W+.
        frames: float16 [T, 35], R, Y, P in degrees and alpha_0..31 in the units of the channels.
        person: SHA-256 of the `.person` file that holds the tuned weights (`mien.format.person`), 64 hexadecimal
            digits; empty when the stream needs none. Not together with `tuning`.
        person_name: that person's name, for people; empty when and only when `person` is.
        tuning: the tuned weights as their own codec wrote them; empty when there are none.
        placement: float32 [T, 3] or None: centre x, centre y and side of the crop in the clip's frame, as fractions of
            the frame's width, height and width, rounded to steps of 1/65536 of the range or finer.
        frame_size: width and height in pixels of the clip's frames, or None.
        audio: the clip's sound as an MP4 without picture (`mien.media.sound`); empty when there is none.
        coded: `frames` as `mien.format.motion_codec` wrote them, empty for the raw mode. Dropped when it is not of
            these frames, so `dataclasses.replace(stream, frames=...)` gives a raw stream.

    Raises:
        StreamError: a shape, a limit or a number that the format does not allow (non-finite ones among them).
    """

    def __post_init__(self) -> None:
        limits.pack_name(self.pack_name)
        limits.resolution(self.resolution)
        frames = limits.float16_array(self.frames, "frames", 2)
        check_limit(frames.shape[1] == PARAMETERS, f"a frame has {PARAMETERS} parameters, not {frames.shape[1]}")
        check_limit(
            1 <= len(frames) <= limits.MAX_FRAMES,
            f"it has {len(frames):,} frames; 1 to {limits.MAX_FRAMES:,} are allowed",
        )
        limits.person_name(self.person_name, bool(self.person))
        check_limit(not (self.person and self.tuning), "it has tuned weights twice, its own and a person's")
        fixed: dict[str, Any] = {
            "pack": limits.fingerprint(self.pack),
            "person": limits.fingerprint(self.person, what="person") if self.person else "",
            "fps": limits.frame_rate(self.fps),
            "channels": limits.channel_table(self.channels),
            "identity": limits.identity_latent(self.identity),
            "frames": frames,
            "tuning": bytes(self.tuning),
            "audio": bytes(self.audio),
        }
        if self.placement is not None:
            fixed["placement"] = limits.placement_track(self.placement, len(frames))
        if self.frame_size is not None:
            width, height = (int(side) for side in self.frame_size)
            most = limits.MAX_FRAME_SIDE
            check_limit(0 < width < most and 0 < height < most, "the clip's frame size is out of range")
            fixed["frame_size"] = (width, height)
        if self.coded:
            info = motion_codec.read_info(self.coded)
            if info.frames != len(frames) or info.crc != zlib.crc32(limits.half_bytes(frames)):
                fixed["coded"] = b""
        for key, value in fixed.items():
            object.__setattr__(self, key, value)

    def __eq__(self, other: object) -> bool:
        return self.to_bytes() == other.to_bytes() if isinstance(other, Stream) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.to_bytes())

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return float(len(self.frames) / self.fps)

    def require_pack(self, fingerprint: str, name: str) -> None:
        """Make sure that the stream was made with the pack of this fingerprint.

        Raises:
            StreamError: it was made with another one.
        """
        if self.pack != fingerprint.lower():
            raise StreamError(
                f"the stream was made with pack '{self.pack_name}' ({self.pack[:8]}), "
                f"and cannot be rendered with pack '{name}' ({fingerprint[:8]})."
            )

    def to_bytes(self) -> bytes:
        """The `.mien` file as bytes: the same stream always gives the same bytes."""
        return container.join(self._parts())

    @classmethod
    def from_bytes(cls, data: bytes) -> Stream:
        """The stream in the bytes of a `.mien` file.

        Raises:
            StreamError: see `load`.
        """
        name = "the stream"
        return _stream(sections.read(io.BytesIO(data), name), name)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the `.mien` file, whole or not at all; a file of that name is replaced only at the end.

        Raises:
            OutputError: it cannot be written there.
            MienError: the disk is full.
        """
        container.save(path, self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Stream:
        """Read a `.mien` file. Every length is checked before it is used and every part against its checksum.

        Raises:
            StreamError: no such file, an empty, foreign, truncated or damaged one, another version of the format, an
                unknown critical part, or a value out of range.
        """
        with container.opened(path) as (file, name):
            return _stream(sections.read(file, name), name)

    @classmethod
    def salvage(cls, path: str | os.PathLike[str]) -> tuple[Stream, tuple[Damage, ...]]:
        """Read what is left of a damaged `.mien` file, and says what is lost.

        A damaged frame gets the values of the last good one before it (the first good one where there is none before),
        so that time stays right. Frames beyond the end of a file that was cut short are left out. Damaged optional
        parts are dropped, and coded frames that are not whole become raw ones.

        Returns:
            The stream, and one `Damage` for each thing that is wrong; none for a sound file.

        Raises:
            StreamError: the prologue, the head or the identity latent is damaged, or no frame is left.
        """
        with container.opened(path) as (file, name):
            contents, damages = sections.salvage(file, name)
            return _stream(contents, name), tuple(damages)

    @staticmethod
    def inspect(path: str | os.PathLike[str]) -> dict[str, Any]:
        """What is in a `.mien` file, damaged parts included, as values that JSON can hold (for `mien info`).

        Keys: `version`, `pack`, `pack_name`, `person`, `person_name`, `resolution`, `fps` (text, a rational), `frames`,
        `seconds`, `coding` ("raw" or "coded"), `key_interval` (None in a raw file), `num_ws`, `w_dim`, `channels`,
        `frame_size`, `bytes` (see `accounting`), `rate` (see `rates`), `parts` (list of `tag`, `offset`, `length`,
        `critical`, `known`, `intact`), `damage` (list of `part`, `sentence`, `first`, `last`).

        Raises:
            StreamError: as `salvage`, and for a file that is cut short.
        """
        with container.opened(path) as (file, name):
            layout = container.scan(file, name)
            contents, damages = sections.salvage(file, name)
            stream = _stream(contents, name)
            entries = [sections.facts(file, entry) for entry in layout.parts]
            coded = next((container.read_payload(file, part) for part in layout.parts if part.tag == "CODE"), None)
        sizes = sections.accounting({entry["tag"]: entry["length"] for entry in entries}, len(stream), layout.size)
        return {
            "version": ".".join(map(str, layout.version)),
            "pack": stream.pack,
            "pack_name": stream.pack_name,
            "person": stream.person,
            "person_name": stream.person_name,
            "resolution": stream.resolution,
            "fps": str(stream.fps),
            "frames": len(stream),
            "seconds": stream.seconds,
            "coding": "raw" if coded is None else "coded",
            "key_interval": None if coded is None else motion_codec.read_info(coded).key_interval,
            "num_ws": stream.identity.shape[0],
            "w_dim": stream.identity.shape[1],
            "channels": stream.channels.tolist(),
            "frame_size": list(stream.frame_size) if stream.frame_size else None,
            "bytes": sizes,
            "rate": _rates(sizes, stream.seconds),
            "parts": entries,
            "damage": [vars(damage) for damage in damages],
        }

    def accounting(self) -> dict[str, Any]:
        """Bytes of the file, every one in exactly one of the first six.

        Returns:
            `header` (prologue, part headers, head, checksums), `identity`, `tuning`, `placement`, `audio`, `frames`;
            then `per_frame` (70 in a raw file, the mean in a coded one) and `total`.
        """
        written = self._parts()
        total = container.PROLOGUE_SIZE + sum(container.PART_HEADER_SIZE + len(part.payload) for part in written)
        return sections.accounting({part.tag: len(part.payload) for part in written}, len(self), total)

    def rates(self) -> dict[str, float]:
        """Bits per second at the clip's rate: `frames` alone, `with_identity`, `with_tuning`, and the `total` file."""
        return _rates(self.accounting(), self.seconds)

    def _parts(self) -> list[container.Part]:
        return sections.write(self)


def read_frame(path: str | os.PathLike[str], index: int) -> np.ndarray:
    """Frame `index` of a `.mien` file without reading the others.

    In a raw file that takes a seek and at most the 16 frames that share a checksum; in a coded one the block from the
    key frame before it is decoded.

    Returns:
        float16 [35]: R, Y, P, alpha_0..31.

    Raises:
        InputError: the file has no such frame.
        StreamError: as `Stream.load`, for what was read.
    """
    with container.opened(path) as (file, name):
        return sections.read_frame(file, name, index)


def _stream(contents: Contents, name: str) -> Stream:
    try:
        return Stream(**vars(contents))
    except StreamError as error:
        raise StreamError(str(error).replace("the stream", name, 1)) from error


def _rates(sizes: dict[str, Any], seconds: float) -> dict[str, float]:
    frames, identity, tuning = sizes["frames"], sizes["identity"], sizes["tuning"]
    sums = {
        "frames": frames,
        "with_identity": frames + identity,
        "with_tuning": frames + identity + tuning,
        "total": sizes["total"],
    }
    return {key: round(8 * size / seconds, 1) for key, size in sums.items()}
