"""Where noise constants learn, and how fast."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from factories.packs import tiny_pack
from factories.training import quick_schedule
from mien.face import mesh as lm
from mien.face.masks import ClipRegions
from mien.personalize.generator_params import weights_for
from mien.personalize.noise_schedule import LEAST, SLOW, noise_rates, steadiness
from mien.personalize.options import NoiseOptions
from mien.personalize.sampling import uniform_sampling
from mien.personalize.trainer import Trainer
from mien.personalize.training_data import TrainingData
from mien.runtime.monitor import UNWATCHED

EACH = uniform_sampling(2)


@pytest.mark.parametrize("size", [None, 20_000])
@pytest.mark.parametrize("noise", [True, False])
def test_noise_constants_learn_where_nothing_moves(size: int | None, noise: bool) -> None:
    pack = tiny_pack(noise=True)
    generator = pack.generator
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith(("noise_const", "noise_strength")):
                parameter.fill_(float(name.endswith("noise_strength")))
    crops = np.random.RandomState(0).randint(0, 255, (1, 64, 64, 3)).astype(np.uint8).repeat(2, 0)
    landmarks = (lm.canonical_face()[None, :, :2] * 15 + [32, 30]).repeat(2, 0).astype(np.float32)
    data = TrainingData.of(pack, crops, landmarks)
    weights = weights_for(generator, size, noise=NoiseOptions() if noise else None)
    trainer = Trainer(weights, data, 0.01, [], quick_schedule(8), EACH, UNWATCHED)
    latents = torch.randn(2, generator.num_ws, generator.w_dim)
    trainer.run(lambda tuned, batch: (tuned.styles(latents[batch.index]), None))
    tuned = weights.export()[0]
    largest = [n for n in tuned.tunable_names() if n.endswith("noise_const")][-1]
    learned = tuned.get_parameter(largest)
    rates = noise_rates(ClipRegions(landmarks, 64), steadiness(crops))[0, 0]
    at = lambda i: float(rates[tuple(landmarks[0, i, ::-1].round().astype(int))])
    for place, name in ((159, "a lid"), (386, "a lid"), (152, "the chin"), (18, "below the lower lip")):
        assert at(place) == pytest.approx(SLOW), name
    assert at(13) == at(14) == 1, "lips and what is between them are free"
    assert bool(learned.any()) == noise
    if noise:
        moved = lambda where: float(learned[where].detach().abs().mean())
        assert 0 < moved(rates < SLOW + 1e-3) < 2 * SLOW * moved(rates == 1), "eyes and jaw learn slowly"


@pytest.mark.parametrize(("side", "alone"), [(256, False), (512, True)])
def test_noise_constants_leave_plain_backgrounds_of_large_pictures_alone(side: int, alone: bool) -> None:
    random = np.random.RandomState(0)
    faint, strong = (random.randint(128 - a, 129 + a, (1, side, side, 3)) for a in (1, 40))
    crops = np.where(np.arange(side)[:, None] < side // 2, strong, faint).astype(np.uint8).repeat(3, 0)
    share = steadiness(crops)[0, 0]
    assert float(share[:, 4:28].min()) > 0.9, "strands of hair"
    assert (float(share[:, 36:60].max()) < 0.2) == alone, "a level up or down, which stays all the same"


def test_noise_constants_leave_what_moves_to_the_weights() -> None:
    random = np.random.RandomState(0)
    still = random.randint(0, 255, (1, 128, 128, 3)).repeat(8, 0)
    moving = random.randint(0, 255, (8, 128, 128, 3))
    crops = np.where(np.arange(128)[:, None] < 64, still, moving).astype(np.uint8)
    steady = steadiness(crops)
    share = steady[0, 0]
    assert share.shape == (64, 64)
    assert float(share[:, 4:28].min()) > 0.9, "the left half stays"
    assert float(share[:, 36:60].max()) < 0.3, "of the right half an eighth is left of its energy by chance"
    landmarks = (lm.canonical_face()[None, :, :2] * 15 + [32, 30]).repeat(8, 0).astype(np.float32)
    rates = noise_rates(ClipRegions(landmarks, 64), steady)[0, 0]
    assert float(rates[:4, 4:28].min()) > 0.99
    assert LEAST <= float(rates[:4, 36:60].max()) < 0.45
