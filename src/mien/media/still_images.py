"""Images in and out: upright, sRGB, 8 bits; and the frames of an animated WebP, which FFmpeg does not read."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np

from mien.errors import VideoError
from mien.media.frame_conversion import Converter, Frame, upright_size
from mien.runtime.files import atomic_path, check_output

PathLike = str | os.PathLike[str]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
HEIF_SUFFIXES = (".heic", ".heif", ".hif")
MOST_PIXELS = 300_000_000
MOST_ANIMATED_PIXELS = 100 * MOST_PIXELS  # of all pictures of an animation
LARGE_PIXELS = 50_000_000  # what is larger is halved as often as it takes
_opening = threading.Lock()


def check_file(path: Path) -> None:
    """Raise VideoError where there is no file with something in it that may be read."""
    try:
        if path.is_dir():
            raise VideoError(f"{path} is a folder, not a video or image.")
        if not path.exists():
            raise VideoError(f"{path} does not exist.")
        if not os.access(path, os.R_OK):
            raise VideoError(f"{path} cannot be read: permission denied.")
        if path.stat().st_size == 0:
            raise VideoError(f"{path} is empty.")
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror}.") from error


def read_image(path: PathLike) -> Frame:
    """Read an image as uint8 [H, W, 3] RGB: upright, its colour profile applied, transparency over white.

    Of an animation the first picture. More than `LARGE_PIXELS` are reduced. Raises VideoError when it is missing, no
    image, or has more than `MOST_PIXELS`.
    """
    path = Path(path)
    check_file(path)
    if path.suffix.lower() in HEIF_SUFFIXES:
        return _read_heif(path)
    with _open(path) as image:
        return _rgb(image)


def image_size(path: PathLike) -> tuple[int, int]:
    """Width and height as stored, without decoding. Raises VideoError as `read_image` does."""
    check_file(Path(path))
    with _open(Path(path)) as image:
        return image.size


def read_animation(path: PathLike) -> Iterator[tuple[float, Frame]]:
    """The pictures of an animated WebP, one at a time, each with the seconds at which it is shown; at the end the last
    once more, with the seconds at which it goes. None at all for any other file.

    Raises VideoError, also where all pictures together have more than `MOST_ANIMATED_PIXELS`.
    """
    path = Path(path)
    with path.open("rb") as file:
        head = file.read(21)
    if head[:4] != b"RIFF" or head[8:16] != b"WEBPVP8X" or not head[20] & 2:
        return
    with _open(path) as image:
        count, time = getattr(image, "n_frames", 1), 0.0
        if count * image.width * image.height > MOST_ANIMATED_PIXELS:
            raise VideoError(
                f"{path} has {count:,} pictures of {image.width}x{image.height} pixels, which is more than can be read: "
                "make a video of it."
            )
        for i in range(count):
            image.seek(i)
            picture = _rgb(image)
            yield time, picture
            time += max(float(image.info.get("duration", 0)) / 1000, 0.01)
        yield time, picture


def write_image(path: PathLike, image: Frame) -> None:
    """Write uint8 [H, W, 3] RGB to a PNG, JPEG or WebP file, all of it or none of it. Raises OutputError."""
    from PIL import Image

    check_output(path, IMAGE_SUFFIXES)
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(image)).save(temporary)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open with Pillow; everything that it can say about a bad image becomes a VideoError."""
    from PIL import Image

    try:
        with _opening, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # its own limit is half of ours
            try:
                opened = Image.open(path)
            finally:
                Image.MAX_IMAGE_PIXELS = usual
        with opened as image:
            pixels = image.width * image.height
            if pixels > MOST_PIXELS:
                raise VideoError(
                    f"{path} has {pixels / 1e6:,.0f} megapixels, and at most {MOST_PIXELS // 10**6} can be read: scale it down."
                )
            yield image
    except MemoryError as error:
        raise VideoError(f"{path} is too large for this machine's memory: scale it down.") from error
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise VideoError(f"{path} is not an image that can be read.") from error
    except Exception as error:
        if type(error).__module__.startswith(("PIL", "struct", "zlib")):
            raise VideoError(f"{path} is not an image that can be read.") from error
        raise


def _rgb(image: Any) -> Frame:
    from PIL import Image, ImageOps

    profile = image.info.get("icc_profile")
    factor = 1
    while image.width * image.height / factor**2 > LARGE_PIXELS:
        factor *= 2
    if factor > 1:
        image.draft("RGB", (image.width // factor, image.height // factor))  # a JPEG is decoded smaller
        while image.width * image.height > LARGE_PIXELS and image.mode in ("L", "RGB", "RGBA", "CMYK", "LA"):
            exif = image.getexif()
            image = image.reduce(2)
            image.info["exif"] = exif.tobytes()
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip
        grey = (np.asarray(upright).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    alpha = None
    if "A" in upright.getbands() or "transparency" in upright.info:
        upright = upright.convert("RGBA")
        alpha = upright.getchannel("A")
    upright = _in_srgb(upright, profile)
    if alpha is not None:
        upright = Image.composite(upright, Image.new("RGB", upright.size, (255, 255, 255)), alpha)
    return np.array(upright)


def _in_srgb(image: Any, profile: bytes | None) -> Any:
    """As an RGB image by its colour profile; as it is where it has none, or one that cannot be read."""
    from PIL import ImageCms

    if not profile:
        return image.convert("RGB")
    try:
        plain = image if image.mode in ("RGB", "CMYK", "L") else image.convert("RGB")
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        done = ImageCms.profileToProfile(
            plain, source, ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )  # fmt: skip
        return done if done is not None else plain.convert("RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image.convert("RGB")


def _read_heif(path: Path) -> Frame:
    """An HEIC image of one piece, by FFmpeg; one of tiles, as telephones write them, is named and not read."""
    tiles = f"{path} is an HEIC image that is stored in tiles, which cannot be read here: save it as JPEG or PNG first."
    try:
        with av.open(f"file:{path.absolute()}", options={"protocol_whitelist": "file"}) as container:
            streams = list(container.streams.video)
            if len(streams) != 1:
                raise VideoError(tiles if streams else f"{path} is not an image that can be read.")
            codec = streams[0].codec_context.name
            for frame in container.decode(streams[0]):
                return Converter(upright_size(frame, None, codec), None, codec)(frame)
    except (av.FFmpegError, ValueError, AttributeError) as error:
        raise VideoError(
            f"{path} is not an image that can be read: if it is HEIC, save it as JPEG or PNG first."
        ) from error
    raise VideoError(f"{path} is not an image that can be read.")
