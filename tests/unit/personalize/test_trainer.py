"""The loop of tuning: which frames it draws, that windows teach as whole pictures do, and where it ends."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from factories.packs import tiny_pack
from mien.face import mesh as lm
from mien.face.masks import ClipRegions
from mien.personalize.generator_params import FullWeights, weights_for
from mien.personalize.losses import texture_loss
from mien.personalize.noise_schedule import LEAST, SLOW, noise_rates, steadiness, texture_places
from mien.personalize.options import NoiseOptions, TuningOptions
from mien.personalize.sampling import Batch, even_sampling, sample_frames, uniform_sampling
from mien.personalize.schedule import LAST_SHARE, Schedule
from mien.personalize.trainer import Trainer
from mien.personalize.training_data import TrainingData
from mien.runtime.monitor import UNWATCHED, StageMonitor

EACH = uniform_sampling(2)


def schedule_of(steps: int, windows_from: int | None = None) -> Schedule:
    """Pixels alone, two frames a step."""
    return Schedule(
        steps=steps, batch=2, resolution=64, low_steps=0, warm=2, seed=0, perceptual=0.0, locality=0.0,
        windows_from=windows_from,
    )  # fmt: skip


def test_rare_expressions_are_drawn_as_often_as_common_ones() -> None:
    random = np.random.RandomState(0)
    landmarks = random.rand(1, 478, 2).repeat(100, 0) * 64 + random.randn(100, 1, 2)  # the head moves: no expression
    landmarks[95:, :40, 1] += 5.0  # the mouth opens in five frames
    landmarks += random.randn(*landmarks.shape) * 1e-3
    probability = even_sampling(landmarks, groups=2)
    assert probability.sum() == pytest.approx(1.0)
    assert probability[95:].sum() == pytest.approx(0.5 * 0.05 + 0.5 * 0.5, abs=0.01)
    chosen = sample_frames(random, uniform_sampling(100), 10)
    assert np.array_equal(np.sort(chosen) // 10, np.arange(10)), "spread over the clip"
    assert even_sampling(landmarks[:1]).tolist() == [1.0]


def test_long_clips_and_more_effort_get_more_steps() -> None:
    options = TuningOptions(steps=60, passes=2.0, batch=4)
    cases = ((10,), (120,), (300,), (10, 2.0), (300, 0.5), (10, 0.1), (300, 1.0, 2))
    assert [options.for_clip(*case).steps for case in cases] == [60, 60, 150, 120, 75, 6, 300]


def test_a_schedule_is_shortened_to_the_time_that_is_left() -> None:
    schedule = replace(schedule_of(60), low_steps=40)
    assert schedule.shortened(5, 1.0, 100.0) == schedule
    short = schedule.shortened(5, 1.0, 25.0)
    assert (short.steps, short.low_steps) == (30, 20)
    assert short.shortened(10, 1.0, -1.0).steps == 10, "no time is left: no further step"
    assert short.shortened(10, 0.1, 90.0).steps == 30, "never longer"


def test_a_loop_ends_at_its_deadline() -> None:
    pack = tiny_pack()
    landmarks = np.random.RandomState(0).rand(2, 478, 2).astype(np.float32) * 64
    data = TrainingData.of(pack, np.zeros((2, 64, 64, 3), np.uint8), landmarks)
    done: list[int] = []
    monitor = StageMonitor(done.append, seconds=0.5)
    trainer = Trainer(FullWeights(pack.generator), data, 0.01, [], schedule_of(100_000), EACH, monitor)
    latents = torch.randn(2, pack.generator.num_ws, pack.generator.w_dim)
    begin = time.monotonic()
    trainer.run(lambda tuned, batch: (tuned.styles(latents[batch.index]), None))
    assert time.monotonic() - begin < 20
    assert sum(done) == 100_000, "the bar ends at its end"
    assert len(done) > 3


def taught(windows_from: int | None, steps: int = 60) -> tuple[float, bool]:
    """Teach the tiny generator one of its own pictures turned upside down; the distance at the end, and whether in windows."""
    pack = tiny_pack()
    generator = pack.generator
    generator.rgb_valid_from = 32  # the random generator's sums are no pictures
    random = np.random.RandomState(0)
    torch.manual_seed(0)
    latents = torch.randn(2, generator.num_ws, generator.w_dim)
    wanted = generator.synthesis(latents).flip(2)
    crops = ((wanted.clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy()
    landmarks = random.rand(2, 478, 2).astype(np.float32) * 64
    data = TrainingData.of(pack, crops, landmarks)
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count

    weights = FullWeights(generator)
    trainer = Trainer(weights, data, 0.01, [], schedule_of(steps, windows_from), EACH, StageMonitor(tick))
    seen: list[bool] = []

    def step(tuned: torch.nn.Module, batch: Batch) -> tuple[list[torch.Tensor], None]:
        seen.append(batch.window is not None)
        return tuned.styles(latents[batch.index]), None

    trainer.run(step)
    with torch.no_grad():
        error = (weights.generator.synthesis(latents) - wanted.clamp(-1, 1)).abs().mean()
    assert done == steps == len(seen)
    return float(error), all(seen)


def test_windows_teach_as_whole_pictures_do() -> None:
    start, _ = taught(None, 1)
    whole, windows = taught(None)
    assert not windows and whole < 0.7 * start
    _, windows = taught(128, 1)
    assert not windows, "the picture is smaller than windows are made for"
    parts, windows = taught(64)
    assert windows and parts < 0.8 * start


def test_rates_rise_to_their_full_value_and_fall_to_a_share_of_it() -> None:
    schedule = replace(schedule_of(100), warm=10)
    factors = [schedule.rate_factor(step) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and max(factors) == factors[9] > 0.97
    assert factors[9:] == sorted(factors[9:], reverse=True)
    assert factors[-1] == pytest.approx(LAST_SHARE, abs=1e-3)


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
    trainer = Trainer(weights, data, 0.01, [], schedule_of(8), EACH, UNWATCHED)
    latents = torch.randn(2, generator.num_ws, generator.w_dim)
    trainer.run(lambda tuned, batch: (tuned.styles(latents[batch.index]), None))
    tuned = weights.finish()[0]
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
    places = texture_places(ClipRegions(landmarks, 64), steady)[0, 0]
    assert float(places[:4, 4:28].min()) > 0.99 and float(places[:4, 36:60].max()) < 0.45
    assert float(places[30, 40]) == 1, "the face always has texture"


def test_texture_asks_how_strong_edges_are_and_not_where() -> None:
    random = torch.Generator().manual_seed(0)
    hair = torch.randn(1, 3, 1, 80, generator=random).expand(-1, -1, 64, -1) * 0.2  # strands from top to bottom
    here, beside = hair[..., 8:72], hair[..., 9:73]
    soft = F.avg_pool2d(here, (1, 9), 1, (0, 4))
    dots = torch.randn(1, 3, 64, 64, generator=random) * 0.2
    weight = torch.ones(1, 1, 16, 16)
    far = {
        name: float(texture_loss(x, here, weight)) for name, x in {"beside": beside, "soft": soft, "dots": dots}.items()
    }
    assert float(texture_loss(here, here, weight)) == 0.0
    assert far["beside"] < 0.4 * far["soft"], "moved by a pixel is nearer than blurred, which pixel losses turn round"
    assert float((beside - here).abs().mean()) > float((soft - here).abs().mean())
    assert far["dots"] > 2 * far["beside"], "dots are no strands"
    assert float(texture_loss(soft, here, torch.zeros(1, 1, 16, 16))) == 0.0
