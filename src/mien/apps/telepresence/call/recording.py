"""The other end's pictures and sound as one file."""

from __future__ import annotations

import shutil
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.apps.telepresence.outputs import VideoFile
from mien.media.join import join_sound


class CallRecording:
    """Records to `path` once both have ended: frames of `open` as an output, sound from `sound`, a WAV file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = Path(tempfile.mkdtemp(prefix=f".{path.stem}-", dir=path.parent))
        self.sound = self._folder / "sound.wav"
        self._video: VideoFile | None = None

    def open(self, fps: Fraction) -> CallRecording:
        """Take frames from now on; returns itself, as an output."""
        self._video = VideoFile(self._folder / f"video{self._path.suffix.lower()}", fps)
        return self

    def show(self, picture: NDArray[np.uint8], row: NDArray[np.float64], repeats: int) -> None:
        """See `Output.show`."""
        assert self._video is not None
        self._video.show(picture, row, repeats)

    def close(self, repeats: int) -> None:
        """See `Output.close`."""
        assert self._video is not None
        self._video.close(repeats)

    def finish(self) -> None:
        """Write the file, if anything was shown, and remove what it was made of. Raises MienError."""
        try:
            video = self._folder / f"video{self._path.suffix.lower()}"
            if video.is_file():
                join_sound(video, self.sound if self.sound.is_file() else None, self._path)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
