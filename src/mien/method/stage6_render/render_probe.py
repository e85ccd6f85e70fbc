"""What a stream's parameters do to the image, measured on the stream's own pack and person."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from mien.format.rate_control import measure_sensitivity
from mien.format.stream import Stream
from mien.media.images import psnr_from_mse, to_bytes
from mien.method.avatar import Avatar
from mien.method.stage6_render.render import BATCH
from mien.method.types import Motion
from mien.packs.pack import Pack
from mien.packs.resolve import Where, pack_for, tuned_generator
from mien.runtime.device import resolve_device

DEFAULT_PROBES = 3
LARGEST = 256
MOST_FRAMES, MOST_LARGE = 300, 40  # of a clip are rendered to see how good it is; of images above 256x256 on a CPU


class RenderProbe:
    """Renders changed curves of one stream, on the stream's own pack and person, to see what the changes do.

    Images larger than 256x256 are compared at 256x256. `tick` is called with the number of images rendered since the
    last call.

    Args:
        stream: what is about to be coded.
        pack: a name, a path or a loaded pack; by default the one that the stream names.
        person: as in `mien.method.stage6_render.render.render`.
        device: `auto`, `cpu`, `cuda`.

    Raises:
        PackError, StreamError: as `mien.method.stage6_render.render.render`.
    """

    def __init__(
        self, stream: Stream, *, pack: str | Pack | None = None, person: Where = None, device: str = "auto",
        tick: Callable[[int], None] = lambda frames: None,
    ) -> None:  # fmt: skip
        found = pack_for(stream, pack).to(resolve_device(device))
        self.tick = tick
        self._avatar = Avatar.of(stream, found, tuned_generator(stream, found, person))
        self._curves = np.asarray(stream.frames)
        slow = found.resolution > LARGEST and found.device.type == "cpu"
        most = min(len(stream), MOST_LARGE if slow else MOST_FRAMES)
        self._looked_at = np.unique(np.linspace(0, len(stream) - 1, most).round().astype(int))
        self._wanted: np.ndarray | None = None

    @torch.no_grad()
    def draw(self, parameters: np.ndarray) -> np.ndarray:
        """Parameters [N, 35] as images float32 [N, 3, H, W] in [-1, 1]."""
        images = []
        avatar = self._avatar
        for rows in np.array_split(parameters, range(BATCH, len(parameters), BATCH)):
            part = Motion.from_rows(rows, avatar.identity.device)
            styles = avatar.styles(avatar.flow.clamp(part.angles), part.alpha)
            drawn = avatar.generator.synthesis_from_styles(styles).clamp(-1, 1)
            if drawn.shape[-1] > LARGEST:
                drawn = F.interpolate(drawn, (LARGEST, LARGEST), mode="area")
            images.append(drawn.cpu().numpy())
            self.tick(len(part))
        return np.concatenate(images)

    def sensitivity(self, probes: int = DEFAULT_PROBES) -> np.ndarray:
        """Mean products of the changes of the image for changes of the parameters by 1, float [35, 35], measured at
        `probes` frames with 70 images each (`mien.format.rate_control.measure_sensitivity`). What R has to do with is
        0: it turns the crop in the clip's frame and does not change the crop itself."""
        return measure_sensitivity(self.draw, self._curves, probes)

    def psnr(self, frames: np.ndarray) -> np.ndarray:
        """PSNR in dB, at most 100, of renders of other curves [T, 35] against those of the stream's own. Every frame is
        looked at up to 300 of them (40 of images above 256x256 on a CPU), so many evenly spread ones of a longer clip:
        float [N]."""
        chosen = self._looked_at
        if self._wanted is None:
            self._wanted = np.concatenate([_bytes(self.draw(self._curves[part])) for part in _parts(chosen)])
        errors = [
            np.square(_bytes(self.draw(frames[part])).astype(np.float32) - self._wanted[first : first + len(part)])
            .reshape(len(part), -1)
            .mean(1)
            for first, part in zip(range(0, len(chosen), BATCH), _parts(chosen), strict=True)
        ]
        return psnr_from_mse(np.concatenate(errors))


def _parts(chosen: np.ndarray) -> list[np.ndarray]:
    return [chosen[first : first + BATCH] for first in range(0, len(chosen), BATCH)]


def _bytes(images: np.ndarray) -> np.ndarray:
    return to_bytes(torch.from_numpy(images))
