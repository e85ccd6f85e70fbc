"""What a video's metadata say."""

from __future__ import annotations

from pathlib import Path

import av

from mien.errors import VideoError


def read_comment(path: Path) -> str | None:
    """Return the tag `comment` of a video's container, None if there is none. Raises VideoError for no video."""
    try:
        # `file:` keeps FFmpeg from taking a name for an address, the whitelist playlists from the net.
        with av.open(f"file:{path.absolute()}", options={"protocol_whitelist": "file"}) as container:
            tags = {name.lower(): text for name, text in container.metadata.items()}
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(f"{path} is not a video that can be read.") from error
    return tags.get("comment")
