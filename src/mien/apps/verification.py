"""What a video says of itself, read back: the sentence in its metadata, its content credentials, its invisible mark.

Each can be taken out, so that finding none of them says nothing; what is found says that the video is synthetic.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien.apps.provenance import SIGNABLE
from mien.media.metadata import read_comment
from mien.media.video import SYNTHETIC, Clip, read_video
from mien.media.watermark_detection import Detection, WatermarkDetector
from mien.runtime.progress import Progress

OURS = SYNTHETIC.split(":")[0] + ": rendered by mien"  # how the comment begins
_MADE_BY_MODELS = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia")


@dataclass(frozen=True)
class Credentials:
    """Content credentials (C2PA): the reader's verdict (`state`: Valid, Trusted or Invalid), who signed, and whether
    they say that a model made the video."""

    state: str
    issuer: str
    synthetic: bool


@dataclass(frozen=True)
class Verification:
    """What was found in a video. `comment`: its metadata's comment, None if it has none; `c2pa`: None if it has no
    content credentials, or `c2pa_read` is False: this kind of file, or an installation without the extra `provenance`,
    lets none be read."""

    comment: str | None
    c2pa: Credentials | None
    c2pa_read: bool
    watermark: Detection

    @property
    def synthetic(self) -> bool:
        """Whether anything found says that it is."""
        by_comment = self.comment is not None and self.comment.startswith(OURS)
        return by_comment or self.watermark.found or (self.c2pa is not None and self.c2pa.synthetic)

    def facts(self) -> dict[str, Any]:
        """The same for JSON."""
        mark: dict[str, Any] = {"found": self.watermark.found, "p_value": self.watermark.p_value}
        if self.watermark.stream_p_value is not None:
            mark["stream_p_value"] = self.watermark.stream_p_value
        if self.watermark.found:
            mark["frames"] = list(self.watermark.frames)
        signed = self.c2pa
        return {
            "synthetic": self.synthetic,
            "watermark": mark,
            "c2pa": signed and {"state": signed.state, "issuer": signed.issuer, "synthetic": signed.synthetic},
            "comment": self.comment,
        }


def verify(path: Path, stream_hash: str | None = None, progress: Progress | None = None) -> Verification:
    """Read a video's comment, content credentials and mark.

    `stream_hash`: also tell whether the mark is that of this stream (SHA-256 of its .mien file).
    Raises VideoError where it is no video that can be read.
    """
    clip = read_video(path)
    comment = read_comment(path)
    readable, credentials = _credentials(path)
    return Verification(comment, credentials, readable, _detect(clip, stream_hash, progress))


def _detect(clip: Clip, stream_hash: str | None, progress: Progress | None) -> Detection:
    detector = WatermarkDetector()
    if progress is None:
        for frame in clip:
            detector.add(frame)
        return detector.result(stream_hash)
    with progress.stage("verify", len(clip)) as tick:
        for frame in clip:
            detector.add(frame)
            tick(1)
    return detector.result(stream_hash)


def _credentials(path: Path) -> tuple[bool, Credentials | None]:
    """Whether content credentials can be read here, and what they are."""
    kind = SIGNABLE.get(path.suffix.lower())
    if kind is None:
        return False, None
    try:
        import c2pa
    except ImportError:
        return False, None
    try:
        with path.open("rb") as file, c2pa.Reader(kind, file) as reader:
            store = json.loads(reader.json())
    except c2pa.C2paError:  # none are there
        return True, None
    active = store["manifests"][store["active_manifest"]]
    issuer = active.get("signature_info", {}).get("issuer") or "unknown"
    said = json.dumps(active.get("assertions", []))
    made = any(kind in said for kind in _MADE_BY_MODELS)
    return True, Credentials(store.get("validation_state") or "Invalid", issuer, made)
