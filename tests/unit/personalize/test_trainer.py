"""The loop of tuning: windows teach as whole pictures do, and it ends at its deadline."""

from __future__ import annotations

import time

import numpy as np
import torch

from factories.packs import tiny_pack
from factories.training import quick_schedule
from mien.personalize.generator_params import FullWeights
from mien.personalize.sampling import Batch, uniform_sampling
from mien.personalize.trainer import Trainer
from mien.personalize.training_data import TrainingData
from mien.runtime.monitor import StageMonitor

EACH = uniform_sampling(2)


def test_a_loop_ends_at_its_deadline() -> None:
    pack = tiny_pack()
    landmarks = np.random.RandomState(0).rand(2, 478, 2).astype(np.float32) * 64
    data = TrainingData.of(pack, np.zeros((2, 64, 64, 3), np.uint8), landmarks)
    done: list[int] = []
    monitor = StageMonitor(done.append, seconds=0.5)
    trainer = Trainer(FullWeights(pack.generator), data, 0.01, [], quick_schedule(100_000), EACH, monitor)
    latents = torch.randn(2, pack.generator.num_ws, pack.generator.w_dim)
    begin = time.monotonic()
    trainer.run(lambda tuned, batch: (tuned.styles(latents[batch.index]), None))
    assert time.monotonic() - begin < 20
    assert sum(done) == 100_000, "the bar ends at its end"
    assert 3 <= len(done) < 100_000, "some steps, and the rest at once"


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
    trainer = Trainer(weights, data, 0.01, [], quick_schedule(steps, windows_from), EACH, StageMonitor(tick))
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
