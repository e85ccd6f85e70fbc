"""The loop of tuning: windows teach as whole pictures do, and it ends at its deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor

from factories.packs import tiny_pack
from factories.training import quick_schedule
from mien.nets.generator import Generator
from mien.personalize.generator_params import FullWeights, weights_for
from mien.personalize.sampling import Batch, uniform_sampling
from mien.personalize.schedule import Schedule
from mien.personalize.trainer import Trainer
from mien.personalize.training_data import TrainingData
from mien.runtime.monitor import StageMonitor
from mien.runtime.resumable_loop import State

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


def test_what_an_earlier_run_took_counts_towards_the_deadline() -> None:
    pack = tiny_pack()
    landmarks = np.random.RandomState(0).rand(2, 478, 2).astype(np.float32) * 64
    data = TrainingData.of(pack, np.zeros((2, 64, 64, 3), np.uint8), landmarks)
    latents = torch.randn(2, pack.generator.num_ws, pack.generator.w_dim)

    class Kept:
        """The state after so many steps, then after each."""

        def __init__(self, state: State | None = None) -> None:
            self.states = [] if state is None else [state]

        def load(self) -> State | None:
            return self.states[-1] if self.states else None

        def offer(self, state: Callable[[], State]) -> None:
            self.states.append(state())

    def run(kept: Kept, seconds: float) -> int:
        monitor = StageMonitor(lambda count: None, kept, seconds)
        trainer = Trainer(FullWeights(pack.generator), data, 0.01, [], quick_schedule(100_000), EACH, monitor)
        trainer.run(lambda tuned, batch: (tuned.styles(latents[batch.index]), None))
        return len(kept.states)

    first = Kept()
    assert run(first, 1.0) > 5
    last, late = first.states[-1], first.states[len(first.states) * 4 // 5]
    assert float(last["note.seconds"]) > float(late["note.seconds"]) > 0.1
    again = Kept(late)
    assert run(again, 1.0) < len(first.states), "not the whole second once more"
    spent = Kept({**late, "note.seconds": np.array(50.0)})
    assert run(spent, 1.0) <= 3, "nothing is left"


def taught(windows_from: int | None, steps: int = 60) -> tuple[float, bool]:
    """Teach the tiny generator one of its own pictures turned upside down; the distance at the end, and whether in
    windows."""
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
    seen: dict[int, bool] = {}

    def step(tuned: torch.nn.Module, batch: Batch) -> tuple[list[torch.Tensor], None]:
        seen[batch.step] = batch.window is not None
        return tuned.styles(latents[batch.index]), None

    trainer.run(step)
    with torch.no_grad():
        error = (weights.generator.synthesis(latents) - wanted.clamp(-1, 1)).abs().mean()
    assert done == steps == len(seen)
    return float(error), all(seen.values())


def test_windows_teach_as_whole_pictures_do() -> None:
    start, _ = taught(None, 1)
    whole, windows = taught(None)
    assert not windows and whole < 0.7 * start
    _, windows = taught(128, 1)
    assert not windows, "the picture is smaller than windows are made for"
    parts, windows = taught(64)
    assert windows and parts < 0.8 * start


@pytest.mark.parametrize("size", [None, 20_000])
def test_threads_share_the_frames_of_a_step(size: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    # In float32: what bfloat16 rounds away depends on how many frames are computed together.
    monkeypatch.setattr("mien.personalize.trainer.autocast_bf16", lambda device: nullcontext())
    # By one way of convolving: which one is faster depends on how many frames are computed together, too.
    monkeypatch.setattr("mien.nets.convolution._worth_transforming", lambda x, weight: False)
    pack = tiny_pack()
    random = np.random.RandomState(0)
    crops = random.randint(0, 255, (6, 64, 64, 3)).astype(np.uint8)
    data = TrainingData.of(pack, crops, random.rand(6, 478, 2).astype(np.float32) * 64)
    schedule = Schedule(steps=5, batch=4, resolution=64, low_steps=0, warm=2, seed=0, perceptual=0.3)

    def train(threads: int) -> tuple[Tensor, set[int]]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            weights = weights_for(pack.generator, size)
            torch.manual_seed(0)
            latents = torch.randn(6, pack.generator.num_ws, pack.generator.w_dim, requires_grad=True)
            counts: set[int] = set()

            def step(tuned: Generator, batch: Batch) -> tuple[list[Tensor], Tensor]:
                counts.add(len(batch.index))
                return tuned.styles(latents[batch.index]), latents[batch.index].square().mean()

            more = [([latents], 0.1)]
            trainer = Trainer(weights, data, 0.01, more, schedule, uniform_sampling(6), StageMonitor())
            trainer.run(
                step,
                lambda tuned, batch: tuned.get_parameter("blocks.0.bias").square().mean() if size is None else None,
            )
            return latents.detach(), counts
        finally:
            torch.set_num_threads(before)

    one, of_one = train(1)
    two, of_two = train(2)
    again, _ = train(2)
    assert of_one == {4} and of_two == {2}
    torch.testing.assert_close(one, two, atol=2e-3, rtol=1e-2)
    assert torch.equal(two, again), "the same, whichever thread was first"
