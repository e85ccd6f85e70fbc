"""What a stream's parameters do to the image, measured on the stream's own pack and person."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from .packs.delta import apply_delta
from .packs.pack import Pack
from .render import BATCH, pack_for, stream_channels
from .stages.attributes import add_channels
from .stages.tune import pose_latents
from .stream import Stream
from .transcode import measure_sensitivity

DEFAULT_PROBES = 3
LARGEST = 256


def stream_sensitivity(
    stream: Stream, *, pack: str | Pack | None = None, device: str = "auto", probes: int = DEFAULT_PROBES,
    tick: Callable[[int], None] = lambda frames: None,
) -> np.ndarray:  # fmt: skip
    """Mean products of the changes of the rendered image in [-1, 1] for changes of the parameters by 1.

    Images larger than 256x256 are compared at 256x256.

    Args:
        stream: what is about to be coded.
        pack: a name, a path or a loaded pack; by default the one that the stream names.
        device: `auto`, `cpu`, `cuda`.
        probes: at how many frames of the clip it is measured; each takes 70 images.
        tick: called with the number of images rendered since the last call.

    Returns:
        float [35, 35], see `mien.transcode.measure_sensitivity`. What R has to do with is 0: it turns the crop in the
        clip's frame and does not change the crop itself.

    Raises:
        PackError, StreamError: as `mien.render.render`.
    """
    from .encode import resolve_device

    found = pack_for(stream, pack).to(resolve_device(device))
    generator = apply_delta(found.generator, stream.tuning) if stream.tuning else found.generator
    channels = stream_channels(stream, found)
    identity = torch.from_numpy(np.asarray(stream.identity, np.float32)).to(found.device)

    @torch.no_grad()
    def draw(parameters: np.ndarray) -> np.ndarray:
        images = []
        for part in torch.from_numpy(parameters.astype(np.float32)).to(found.device).split(BATCH):
            styles = generator.styles(pose_latents(found.flow, identity, found.flow.clamp(part[:, 1:3])))
            drawn = generator.synthesis_from_styles(add_channels(styles, channels, part[:, 3:]))
            drawn = drawn.clamp(-1, 1)
            if drawn.shape[-1] > LARGEST:
                drawn = F.interpolate(drawn, (LARGEST, LARGEST), mode="area")
            images.append(drawn.cpu().numpy())
            tick(len(part))
        return np.concatenate(images)

    return measure_sensitivity(draw, stream.frames, probes)
