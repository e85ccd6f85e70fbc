"""The two clips of a comparison as square pictures: as they are, a panel of them, or the face cut out by stage 1."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from mien.errors import InputError
from mien.evaluate.frames import Frame, count_frames, frame_rate, frames, whole_frames
from mien.face.mesh import warp_crop
from mien.method.stage1_align.align import align
from mien.method.types import FaceTrack
from mien.runtime.progress import Progress


class Side:
    """One clip, a video or a folder of images.

    Where its frames are not square, and no panel of them is meant, its pictures are the crops I_t of stage 1: squeezed
    to a square, a face would have another width, other angles and another identity.
    """

    def __init__(
        self,
        path: str | Path,
        size: int,
        step: int,
        panel: int | None,
        *,
        beside: Side | None = None,
        progress: Progress,
    ) -> None:
        """Pictures of `size` x `size`, every `step`-th; `panel`: the square of a side-by-side clip. `beside`: a clip
        that this one is to be like, pixel for pixel; where its frames are of the same size, the same parts of them are
        cut out. Raises VideoError or InputError where it cannot be read, FaceError where no frame
        shows a face."""
        self._path, self._size, self._step, self._panel = path, size, step, panel
        self._track: FaceTrack | None = None
        self._theirs: FaceTrack | None = None
        frame_size = _frame_size(path)
        if panel is not None or frame_size[0] == frame_size[1]:
            return
        if beside is not None and beside._track is not None and beside._track.frame_size == frame_size:
            self._theirs = beside._track
        else:
            with progress.stage("align", count_frames(path)) as tick:
                self._track = align(whole_frames(path), frame_rate(path), size=size, tick=tick)

    def __iter__(self) -> Iterator[Frame]:
        """The pictures, uint8 `[size, size, 3]`, from the first one on."""
        if self._track is not None:
            return islice(iter(self._track.crops), 0, None, self._step)
        if self._theirs is not None:
            return islice(self._same_parts(self._theirs), 0, None, self._step)
        return frames(self._path, size=self._size, step=self._step, panel=self._panel)

    def _same_parts(self, track: FaceTrack) -> Iterator[Frame]:
        """What `track` cuts out of its frames, of ours; frames that it does not have are cut as its last one."""
        for number, frame in enumerate(whole_frames(self._path)):
            yield warp_crop(frame, track.quads[min(number, len(track) - 1)], self._size)


def _frame_size(path: str | Path) -> tuple[int, int]:
    """Width and height of a clip's frames. Raises VideoError or InputError where there are none."""
    first = next(whole_frames(path), None)
    if first is None:
        raise InputError(f"{path} has no frames.")
    return first.shape[1], first.shape[0]
