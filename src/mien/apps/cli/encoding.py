"""Encoding with progress bars, and its work folder, for the commands that encode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.apps.cli.common import checked_device, pack_of, say_notes
from mien.errors import Interrupted
from mien.runtime.progress import RichProgress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mien.format.person import Person
    from mien.format.stream import Stream
    from mien.options import EncodeOptions
    from mien.runtime.stage_cache import StageCache

PREVIEW = "preview.png"  # in the work folder


class PreviewingProgress(RichProgress):
    """Bars, and pictures of the work so far in a PNG file of that `path`."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def picture(self, name: str, frames: NDArray[np.uint8]) -> None:
        """Write `frames [K, H, W, 3]` side by side; not those of the input, which the user has."""
        from mien.media.still_images import write_image

        if name != "input" and len(frames):
            write_image(self._path, frames.transpose(1, 0, 2, 3).reshape(frames.shape[1], -1, 3))
            self.say(f"a look at the work so far ({name}): {self._path}")


def encode_with_bars(
    clip: Path,
    pack: str,
    options: EncodeOptions,
    device: str,
    *,
    cache: StageCache | None = None,
    inversions: Path | None = None,
    person: Person | None = None,
) -> tuple[Stream, dict[str, Any]]:
    """Encode with progress bars; returns the stream with its sound, and the report."""
    from mien.media.video import probe

    where = checked_device(device)
    say_notes(probe(clip))  # what is wrong with a file is said before the networks are loaded
    from mien.api import encode_with_report

    progress = RichProgress() if cache is None else PreviewingProgress(cache.folder / PREVIEW)
    stream, report = encode_with_report(
        clip, options=options, pack=pack, person=person, device=where, inversions=inversions, progress=progress,
        cache=cache,
    )  # fmt: skip
    return stream, report.to_json()


@contextmanager
def resumable(
    clip: Path, output: Path, pack: str, device: str, options: EncodeOptions, also: str = ""
) -> Iterator[StageCache]:
    """The work folder of this very encode; Ctrl-C says that it is kept. `also`: what else its result depends on."""
    from mien.media.video import probe

    where = checked_device(device)
    probe(clip)  # a bad file is said before the networks are loaded
    from mien.packs.imagenet import TUNING_VARIANT, weights_file
    from mien.runtime.device import resolve_device
    from mien.runtime.stage_cache import encode_key, interval, work_folder

    key = encode_key(
        clip, pack_of(pack).fingerprint, str(resolve_device(where)), options.key() + also,
        imagenet=weights_file(TUNING_VARIANT) is not None,
    )  # fmt: skip
    with work_folder(output, key, interval()) as work:
        try:
            yield work
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; what was finished is kept in {work.folder}, and the same command goes on from there."
            ) from None
