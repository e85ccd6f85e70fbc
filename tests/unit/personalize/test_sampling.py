"""Which frames a training step draws."""

from __future__ import annotations

import numpy as np
import pytest

from mien.personalize.sampling import even_sampling, sample_frames, uniform_sampling


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
