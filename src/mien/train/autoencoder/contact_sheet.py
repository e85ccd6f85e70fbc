"""A contact sheet of the autoencoder: what it makes of faces that it was not trained on."""

from __future__ import annotations

import numpy as np
import torch

from mien.media.images import psnr_from_mse
from mien.train.common import Run
from mien.train.dataset import SHOWN, Faces, resize
from mien.train.expression import swap_channels
from mien.train.networks import Networks


@torch.no_grad()
def contact_sheet(nets: Networks, faces: Faces, size: int, run: Run, name: str) -> float:
    """Write held-out faces and clip pairs, their renders and swaps; returns the PSNR of held-out faces in dB."""
    device = nets.generator.const.device
    get = lambda index: faces.get(np.asarray(index), np.zeros(len(index), bool)).to(device)
    held = get(faces.held_out[:64])
    target = resize(held.image, size)
    w = nets.encoder(held.image)
    image = nets.generator.synthesis(w, size)
    error = (image.clamp(-1, 1) - target).square().mean((1, 2, 3))
    psnr = float(psnr_from_mse(error.cpu(), peak=2).mean())
    clips = [faces.clip_of[number % len(faces.clip_of)] for number in range(SHOWN)]
    first = get([c[len(c) // 10] for c in clips])
    later = get([c[len(c) * 2 // 3] for c in clips])
    wa, wb = nets.encoder(first.image), nets.encoder(later.image)
    turned = nets.flow(wa, first.pose, later.pose)
    on = torch.ones(SHOWN, 4, dtype=torch.bool, device=device)
    styles_b = nets.generator.styles(wb)
    pair = nets.generator.synthesis_from_styles(swap_channels(nets.generator.styles(turned), styles_b, on), size)
    plain = nets.generator.synthesis(turned, size)
    own = nets.generator.styles(w[:SHOWN])
    drive = nets.generator.synthesis_from_styles(swap_channels(own, styles_b, on), size)
    turn = lambda yaw: nets.flow(w[:SHOWN], held.pose[:SHOWN], w.new_tensor([[yaw, 0.0]]).expand(SHOWN, 2))
    left, right = (nets.generator.synthesis(turn(yaw), size) for yaw in (-15.0, 15.0))
    show = lambda x: resize(x, size)
    run.contact_sheet(
        name, [target[:SHOWN], image[:SHOWN], left, right, drive, show(first.image), plain, pair, show(later.image)]
    )
    return psnr
