"""Compact tuned weights: the bytes, what a hostile file can do with them, and that training meets the size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from factories.packs import tiny_pack
from mien.errors import StreamError
from mien.format import lowrank
from mien.format.weights_codec import apply_delta, tunable
from mien.personalize.generator_params import CompactWeights, FullWeights, weights_for
from tolerances import FLOAT32_EXACT

SHAPES = [(1, 4, 4, 4), (16,), (16, 16, 3, 3), (3, 16, 1, 1), (3,), (8, 8), (32, 16, 3, 3)]


def numbers(rank: int, spread: float, seed: int = 0) -> list[np.ndarray]:
    random = np.random.RandomState(seed)
    return [np.rint(random.laplace(0, spread, p.shape)).astype(np.int64) for p in lowrank.pieces(SHAPES, rank)]


@pytest.mark.parametrize(("rank", "spread"), [(1, 0.2), (4, 3.0), (200, 60.0), (7, 9000.0)])
def test_numbers_come_back_as_they_were(rank: int, spread: float) -> None:
    wanted = numbers(rank, spread)
    codes = np.arange(len(wanted), dtype=np.uint8) * 9 + 1
    plan, values = lowrank.unpack_numbers(SHAPES, lowrank.pack_numbers(rank, codes, wanted))
    assert plan == lowrank.pieces(SHAPES, rank)
    for value, integers, code in zip(values, wanted, codes.tolist(), strict=True):
        np.testing.assert_array_equal(value, (integers * lowrank.STEPS[code]).astype(np.float32))


def test_a_large_rank_writes_tensors_whole_and_never_more_numbers_than_weights() -> None:
    for rank in (1, 5, 40, lowrank.MAX_RANK):
        assert sum(p.size for p in lowrank.pieces(SHAPES, rank)) <= sum(int(np.prod(s)) for s in SHAPES)
    assert all(not p.factor for p in lowrank.pieces(SHAPES, lowrank.MAX_RANK))
    assert lowrank.rank_for(SHAPES, 500) < lowrank.rank_for(SHAPES, 2000)


def test_bytes_stay_near_the_entropy() -> None:
    symbols = numbers(40, 3.0)
    bits = 0.0
    for array in symbols:
        _, counts = np.unique(array, return_counts=True)
        bits += float((counts * np.log2(counts.sum() / counts)).sum())
    blob = lowrank.pack_numbers(40, np.full(len(symbols), 9, np.uint8), symbols)
    assert len(blob) * 8 < 1.06 * bits + 1200


def test_broken_bytes_are_refused_or_read_and_nothing_else() -> None:
    blob = lowrank.pack_numbers(4, np.full(len(lowrank.pieces(SHAPES, 4)), 30, np.uint8), numbers(4, 3.0))
    random = np.random.RandomState(1)
    refused = 0
    for _ in range(150):
        data = bytearray(blob)
        for _ in range(random.randint(1, 4)):
            data[random.randint(4, 40 if random.rand() < 0.5 else len(data))] = random.randint(256)
        if random.rand() < 0.3:
            data = data[: random.randint(len(data))]
        try:
            _, values = lowrank.unpack_numbers(SHAPES, bytes(data))
            assert all(np.isfinite(v).all() for v in values)
        except StreamError:
            refused += 1
    assert refused > 50
    with pytest.raises(StreamError, match="another generator"):
        lowrank.unpack_numbers([*SHAPES, (8,)], blob)


def test_the_difference_of_zeros_is_no_difference() -> None:
    base = tiny_pack().generator
    generator, blob = CompactWeights(base, 4000).export()
    assert len(blob) < 200
    for a, b in zip(tunable(base), tunable(generator), strict=True):
        assert torch.equal(a, b)


def test_gradients_of_compact_weights_are_autograds() -> None:
    base = tiny_pack().generator
    weights = CompactWeights(base, 3000)
    torch.manual_seed(0)
    for value in weights._values:
        value.data.normal_()
    placed = weights.materialize()
    gradients = [torch.randn_like(w) for w in placed]
    weights.backward(gradients)
    before = [p.detach() for p in tunable(base)]
    leaves = [v.detach().requires_grad_() for v in weights._values]
    composed = lowrank.compose(before, weights.plan, leaves, lowrank.sign_tensors(weights.plan, base.device))
    wanted = torch.autograd.grad(composed, leaves, gradients)
    for a, b in zip(placed, composed, strict=True):
        torch.testing.assert_close(a, b, atol=FLOAT32_EXACT, rtol=FLOAT32_EXACT)
    assert any(p.factor for p in weights.plan)
    for value, gradient in zip(weights._values, wanted, strict=True):
        assert value.grad is not None
        torch.testing.assert_close(value.grad, gradient, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [None, 3000, 9000])
def test_training_lowers_the_loss_and_meets_the_size(size: int | None) -> None:
    """What `finish` gives is what the bytes give, within the size that was asked for, and nearer to the target."""
    base, target = tiny_pack().generator, tiny_pack(1).generator
    torch.manual_seed(0)
    w = torch.randn(4, base.num_ws, base.w_dim)
    wanted = target.synthesis(w).detach()
    weights = weights_for(base, size)
    parameters = [p for group in weights.groups for p in group.tensors]
    optimiser = torch.optim.Adam(parameters, lr=0.02)
    for step in range(30):
        placed = weights.materialize()
        loss = (weights.generator.synthesis(w) - wanted).square().mean()
        optimiser.zero_grad()
        weights.backward(torch.autograd.grad(loss, placed, allow_unused=True))
        weights.after_step(step, 30)
        optimiser.step()
    generator, blob = weights.export()
    assert size is None or 0.7 * size < len(blob) <= size
    before = float((base.synthesis(w) - wanted).square().mean())
    after = float((generator.synthesis(w) - wanted).square().mean())
    assert after < 0.8 * before
    again = apply_delta(base, blob)
    assert all(torch.equal(a, b) for a, b in zip(generator.parameters(), again.parameters(), strict=True))
    for (name, a), (_, b) in zip(base.named_parameters(), generator.named_parameters(), strict=True):
        assert (".affine." in name) == torch.equal(a, b), name
    # Going on from the bytes begins with just these weights.
    resumed = weights_for(base, size, blob)
    resumed.materialize()
    with torch.no_grad():
        torch.testing.assert_close(
            resumed.generator.synthesis(w), generator.synthesis(w), atol=FLOAT32_EXACT, rtol=FLOAT32_EXACT
        )
    assert isinstance(resumed, FullWeights) == (size is None)
