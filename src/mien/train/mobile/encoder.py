"""Train the encoder of `ffhq-mobile` into W+: e4e's idea (Tov et al. 2021), a base code and small offsets a row.

Two phases. `train_on_pairs`: exact pairs of latent and picture that the generator drew, the picture spoilt as real
frames are. `train_on_faces`: pictures of faces without a latent, by what the generator makes of the encoder's answer.
"""

from __future__ import annotations

import math
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.errors import InputError
from mien.face.mesh import FaceMesh, rigid_quad, warp_crop
from mien.media.images import psnr_from_mse, to_float
from mien.media.video import read_video
from mien.method.likeness import LikenessLoss, LikenessWeights
from mien.nets.encoders import INPUT_SIZE, Encoder, EncoderConfig
from mien.nets.mobile_stylegan import MobileGenerator
from mien.packs.pack import Pack
from mien.train.common import Run
from mien.train.mobile.samples import read, shards_of

COARSE_ROWS, MIDDLE_ROWS = 7, 6  # up to 16x16, up to 64x64; the rest from the finest features
EMA_DECAY = 0.998
HELD_FACES = 64  # faces of the second phase that are kept aside
OFFSET_WEIGHT = 0.1  # of the mean squared offset, in standard deviations of W, beside the error in W


@dataclass(frozen=True)
class EncoderTraining:
    """How one phase is trained: Adam at `rate`, falling along a cosine."""

    steps: int
    batch: int
    rate: float
    seed: int = 0


PAIRS = EncoderTraining(steps=2200, batch=20, rate=1e-3)
FACES = EncoderTraining(steps=700, batch=4, rate=2e-4)


@dataclass(frozen=True)
class Losses:
    """Weights of the second phase: of how alike the pictures are, of offsets from the base code and of the base code from
    the centre of W (both in standard deviations of W, squared)."""

    likeness: LikenessWeights = field(default_factory=LikenessWeights)
    offsets: float = 0.03
    centre: float = 0.003


def spoil(image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """What cameras, codecs and a crop's jitter do to a picture, drawn at random; uint8 RGB [S, S, 3]."""
    size, chance = len(image), random.random
    if chance() < 0.8:
        turn = cv2.getRotationMatrix2D(((size - 1) / 2,) * 2, random.normal(0, 1.2), 1 + random.normal(0, 0.025))
        turn[:, 2] = turn[:, 2] + random.normal(0, 0.014 * size, 2)
        image = cv2.warpAffine(image, turn, (size, size), borderMode=cv2.BORDER_REFLECT_101)  # type: ignore[assignment]
    if chance() < 0.4:
        image = cv2.GaussianBlur(image, (0, 0), random.uniform(0.3, 1.3))  # type: ignore[assignment]
    light = image.astype(np.float32) / 255
    if chance() < 0.7:
        light = np.clip(light * random.uniform(0.8, 1.2) + random.uniform(-0.08, 0.08), 0, 1) ** random.uniform(
            0.8, 1.25
        )
    if chance() < 0.5:
        light = light * (1 + random.normal(0, 0.05, 3))
    if chance() < 0.3:
        light = light + random.normal(0, random.uniform(0, 0.03), light.shape)
    image = (np.clip(light, 0, 1) * 255).astype(np.uint8)
    if chance() < 0.12:  # something in front of the face
        colour = tuple(int(v) for v in random.integers(0, 256, 3))
        place = (int(random.integers(0, size)), int(random.integers(int(0.4 * size), size)))
        axes = (int(random.integers(size // 20, size // 5)), int(random.integers(size // 20, size // 5)))
        cv2.ellipse(image, place, axes, float(random.uniform(0, 180)), 0, 360, colour, -1)
    if chance() < 0.5:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(30, 95))])
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)  # type: ignore[assignment]
    return image


def new_encoder(w_mean: Tensor, num_ws: int) -> Encoder:
    """An encoder whose features are those of `mini`'s and whose answer is the centre of W `[D]`."""
    encoder = Encoder(EncoderConfig(num_ws, len(w_mean), 32, COARSE_ROWS, MIDDLE_ROWS))
    own, known = encoder.state_dict(), Pack.load("mini").encoder.state_dict()
    for name, value in known.items():
        if name in own and own[name].shape == value.shape and ".out." not in name and name != "w_mean":
            own[name].copy_(value)
    for head in (encoder.coarse, encoder.middle, encoder.fine):
        torch.nn.init.normal_(head.out.weight, std=1e-3)
        torch.nn.init.zeros_(head.out.bias)
    encoder.w_mean.copy_(w_mean.expand(num_ws, -1))
    return encoder


class _Loop:
    """Adam with a cosine rate and an average of the weights, resumed from its folder."""

    def __init__(self, encoder: Encoder, out: Path, options: EncoderTraining) -> None:
        self.encoder, self.options, self.run = encoder, options, Run(out)
        # The first features are faces' edges and need no change.
        for part in (encoder.stem, encoder.blocks[0], encoder.down[0]):
            part.requires_grad_(False)
        self.trained = [p for p in encoder.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(self.trained, lr=options.rate, betas=(0.9, 0.99))
        self.average = {name: value.clone() for name, value in encoder.state_dict().items()}
        self.step = 0
        if (kept := self.run.load()) is not None:
            encoder.load_state_dict(kept["encoder"])
            self.optimiser.load_state_dict(kept["optimiser"])
            self.average, self.step = kept["ema"], kept["step"]

    def take(self, loss: Tensor) -> None:
        """One step down `loss`."""
        share = self.step / self.options.steps
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.rate * min(1, self.step / 100) * (0.02 + 0.49 * (1 + math.cos(math.pi * share)))
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 2.0)
        self.optimiser.step()
        self.step += 1
        keep = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.encoder.state_dict().items():
                self.average[name].lerp_(value, 1 - keep)

    def save(self, **figures: float) -> None:
        state = {name: value.clone() for name, value in self.encoder.state_dict().items()}
        self.run.save(encoder=state, optimiser=self.optimiser.state_dict(), ema=self.average, step=self.step)
        self.run.log(self.step, **figures)

    def random(self) -> np.random.Generator:
        return np.random.default_rng((self.options.seed, self.step))

    def finished(self) -> Encoder:
        self.encoder.load_state_dict(self.average)
        return self.encoder.eval().requires_grad_(False)


def train_on_pairs(encoder: Encoder, data: Path, out: Path, options: EncoderTraining = PAIRS) -> Encoder:
    """First phase, on the shards in `data` (the first is held out). Resumes from `out`. Raises InputError where there are
    fewer than two."""
    held, *parts = list(read(shards_of(data)))
    mean = encoder.w_mean[0]
    spread = torch.from_numpy(held.w.std(0))
    loop = _Loop(encoder, out, options)
    while loop.step < options.steps:
        random = loop.random()
        picks = [(part, int(random.integers(len(part)))) for part in random.choice(parts, options.batch)]  # type: ignore[arg-type]
        images = to_float(np.stack([spoil(part.images[i], random) for part, i in picks]))
        w = torch.from_numpy(np.stack([part.w[i] for part, i in picks]))
        base, offsets = encoder.split(images)
        error = ((base[:, None] + offsets - (w - mean)[:, None]) / spread).square().mean()
        loop.take(error + OFFSET_WEIGHT * (offsets / spread).square().mean())
        if loop.step % 100 == 0 or loop.step == options.steps:
            with torch.no_grad():
                answer = encoder(to_float(held.images))
                held_error = ((answer - torch.from_numpy(held.w)[:, None]) / spread).square().mean()
            loop.save(error=float(error.detach()), held_out=float(held_error))
    return loop.finished()


def read_faces(archive: Path) -> list[NDArray[np.uint8]]:
    """The pictures of a .tar of faces in FFHQ framing, uint8 RGB at the encoder's input size. Raises InputError where it
    cannot be read."""
    faces = []
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and member.size and (file := tar.extractfile(member)) is not None:
                    image = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)
                    if image is not None:
                        small = cv2.resize(image, (INPUT_SIZE, INPUT_SIZE), interpolation=cv2.INTER_AREA)
                        faces.append(np.ascontiguousarray(small[:, :, ::-1]))
    except (OSError, tarfile.TarError) as error:
        raise InputError(f"{archive} cannot be read as a .tar of faces: {error}.") from error
    return faces  # type: ignore[return-value]


def read_clips(folder: Path, every: int = 8) -> list[NDArray[np.uint8]]:
    """Every so many frames of the .mp4 clips in a folder, cropped to FFHQ framing, at the encoder's input size. Raises
    InputError where there are none, VideoError for one that cannot be read."""
    paths = sorted(folder.glob("*.mp4"))
    if not paths:
        raise InputError(f"{folder} holds no .mp4 clips.")
    mesh, faces = FaceMesh(), []
    for path in paths:
        for number, frame in enumerate(read_video(path)):
            found = mesh(frame) if number % every == 0 else []
            if found:
                faces.append(warp_crop(frame, rigid_quad(found[0]), INPUT_SIZE))
    return faces


def require_faces(faces: list[NDArray[np.uint8]]) -> None:
    """Raise InputError where there are no `faces` beside those that the second phase holds out."""
    if len(faces) <= HELD_FACES:
        raise InputError(f"{len(faces)} faces were found, and {HELD_FACES} are held out: there are none to train on.")


def train_on_faces(
    encoder: Encoder,
    generator: MobileGenerator,
    judges: Pack,
    faces: list[NDArray[np.uint8]],
    spread: Tensor,
    out: Path,
    options: EncoderTraining = FACES,
    weights: Losses | None = None,
) -> Encoder:
    """Second phase. `judges`: a pack with a landmark reader and an identity network; `spread [D]`: of W; `faces`: the
    last `HELD_FACES` are held out. Resumes from `out`. Raises InputError where there are no others."""
    require_faces(faces)
    weights = weights or Losses()
    loop = _Loop(encoder, out, options)
    held = to_float(np.stack(faces[-HELD_FACES:]))
    while loop.step < options.steps:
        random = loop.random()
        picks = [faces[int(i)] for i in random.integers(0, len(faces) - HELD_FACES, options.batch)]
        target = to_float(np.stack(picks))
        seen = to_float(np.stack([spoil(image, random) if random.random() < 0.5 else image for image in picks]))
        base, offsets = encoder.split(seen)
        image = generator.synthesis(encoder.w_mean + base[:, None] + offsets, INPUT_SIZE)
        loss = (
            LikenessLoss(judges, target, weights.likeness)(image)
            + weights.offsets * (offsets / spread).square().mean()
            + weights.centre * (base / spread).square().mean()
        )
        loop.take(loss)
        if loop.step % 50 == 0 or loop.step == options.steps:
            with torch.no_grad():
                made = torch.cat([generator.synthesis(encoder(part), INPUT_SIZE) for part in held.split(8)])
                error = (made.clamp(-1, 1) - held).square().mean((1, 2, 3))
                psnr = psnr_from_mse(error.cpu(), peak=2).mean()
            loop.run.contact_sheet(f"held_{loop.step:05d}", [held[:8], made[:8]])
            loop.save(loss=float(loss.detach()), psnr=float(psnr))
    return loop.finished()
