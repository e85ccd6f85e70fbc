"""The networks of FID and FVD, against the public ports' own code on the same random weights and inputs.

The expected numbers were made by running those ports (pytorch-fid's Inception over torchvision's blocks, and
piergiaj/pytorch-i3d) with the weights that `seeded` makes, which depend on the tensors' names alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from factories.clips import pictures
from factories.judges import seeded
from mien.errors import PackError
from mien.evaluate.evaluate import Options, evaluate
from mien.evaluate.metrics.fid import Fid, load_inception
from mien.evaluate.metrics.fvd import Fvd, load_i3d
from mien.evaluate.networks import MetricNetworks
from mien.media.video import write_video
from mien.nets.arcface import CurricularFace
from mien.nets.i3d import I3D, pad_same
from mien.nets.inception import Inception
from mien.nets.l2cs import L2CS
from mien.nets.libreface import LibreFace
from tolerances import FLOAT32_NETWORK, FLOAT64_DISTANCE

GAZE = [[129.97159, -79.84518]]
UNITS = [[4.61819, 0.00766, 0.77181, 5.0]]
CURRICULAR = [[-0.0028502, 0.0406807, -0.0173841, 0.0310062]]


@pytest.fixture(scope="module")
def inception() -> Inception:
    return seeded(Inception())


@pytest.fixture(scope="module")
def i3d() -> I3D:
    return seeded(I3D())


def test_inception_is_the_one_of_fid(inception: Inception) -> None:
    x = torch.from_numpy(np.random.default_rng(7).uniform(0, 1, (2, 3, 96, 80)).astype(np.float32))
    features = inception(2 * x - 1)
    assert features.shape == (2, 2048)
    expected = [[1.1618086, 0.4418486, 0.0519464, 0.0042449, 0.0], [1.1424983, 0.4605205, 0.0546336, 0.0039578, 0.0]]
    np.testing.assert_allclose(
        features[:, [0, 1, 500, 1000, 2047]], expected, rtol=FLOAT32_NETWORK, atol=FLOAT32_NETWORK
    )


def test_i3d_is_the_one_of_fvd(i3d: I3D) -> None:
    x = torch.from_numpy(np.random.default_rng(7).uniform(-1, 1, (1, 3, 10, 224, 224)).astype(np.float32))
    logits = i3d(x)
    assert logits.shape == (1, 400)
    expected = [[-2.7283771, 2.5532076, -0.8647504, 0.0642939, -1.8753606]]
    np.testing.assert_allclose(logits[:, [0, 1, 100, 200, 399]], expected, rtol=FLOAT32_NETWORK, atol=FLOAT32_NETWORK)


def test_padding_puts_the_odd_pixel_behind() -> None:
    x = torch.ones(1, 1, 4, 5, 6)
    assert pad_same(x, (2, 3, 3), (2, 2, 2)).shape == (1, 1, 4, 7, 7)
    padded = pad_same(torch.ones(1, 1, 1, 1, 6), (1, 1, 3), (1, 1, 2))[0, 0, 0, 0]
    assert padded.tolist() == [1] * 6 + [0]


def coarse(x: torch.Tensor) -> torch.Tensor:
    """Stands for a network: means over quarters of each image."""
    assert x.min() >= -1 and x.max() <= 1 and x.shape[1] == 3
    return nn.functional.adaptive_avg_pool2d(x.flatten(1, -3), 2).flatten(1)


def test_fid_and_fvd_of_the_same_are_nothing() -> None:
    same = np.stack(pictures(4, 64, 64))
    fid, other = Fid(coarse), Fid(coarse)
    fid.add(same, same)
    other.add(same, 255 - same)
    assert fid.value() == pytest.approx(0, abs=FLOAT64_DISTANCE) and (other.value() or 0) > 0.1
    clip = np.stack(pictures(24, 32, 32))
    fvd, other_fvd = Fvd(coarse), Fvd(coarse)
    fvd.add(clip[:20], clip[:20])
    assert fvd.value() is None, "one window has no covariance"
    fvd.add(clip[20:], clip[20:])
    assert fvd.value() == pytest.approx(0, abs=FLOAT64_DISTANCE)
    other_fvd.add(clip, clip[::-1].copy())
    assert (other_fvd.value() or 0) > 1e-3, "the order of frames counts"


def test_weights_are_read_by_name_and_checked(inception: Inception, tmp_path: Path) -> None:
    state = {**inception.state_dict(), "fc.weight": torch.zeros(1008, 2048)}  # a part that FID does not use
    torch.save(state, tmp_path / "inception.pth")
    again = load_inception(tmp_path / "inception.pth")
    assert all(
        (a == b).all() for a, b in zip(again.state_dict().values(), inception.state_dict().values(), strict=True)
    )
    with pytest.raises(PackError, match="is not an I3D network"):
        load_i3d(tmp_path / "inception.pth")
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(PackError):
        load_inception(tmp_path / "text.pth")


def test_evaluate_takes_them(inception: Inception, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", pictures(3, 64, 64), 25)
    result = evaluate(
        tmp_path / "a.mkv", tmp_path / "a.mkv", Options(size=64), networks=MetricNetworks(inception=inception)
    )
    assert result.values["fid"] == pytest.approx(0, abs=1e-3) and "fvd" in result.missing


def test_gaze_is_the_one_of_l2cs() -> None:
    """Against L2CS-Net's own code; the numbers were made as benchmarks/metric_parity.py makes them."""
    network = seeded(L2CS())
    for name in ("fc_yaw_gaze", "fc_pitch_gaze"):
        network.get_submodule(name).weight.mul_(0.02)  # so that more than one bin counts
    x = torch.from_numpy(np.random.default_rng(7).uniform(-1, 1, (1, 3, 448, 448)).astype(np.float32))
    np.testing.assert_allclose(network(x), GAZE, rtol=FLOAT32_NETWORK)


def test_action_units_are_those_of_libreface() -> None:
    """Against torchvision's ResNet-18 under LibreFace's head."""
    network = seeded(LibreFace())
    network.get_submodule("classifier.4").weight.mul_(0.1)
    x = torch.from_numpy(np.random.default_rng(7).uniform(-1, 1, (1, 3, 256, 256)).astype(np.float32))
    np.testing.assert_allclose(network(x)[:, :4], UNITS, rtol=FLOAT32_NETWORK)


def test_curricularface_is_irse_101() -> None:
    """The layout and the numbers of encoder4editing's IR-101, with fewer units."""
    network = seeded(CurricularFace(((64, 1), (128, 2), (256, 1), (512, 1))))
    x = torch.from_numpy(np.random.default_rng(7).uniform(-1, 1, (1, 3, 112, 112)).astype(np.float32))
    np.testing.assert_allclose(network.embed(x)[:, :4], CURRICULAR, rtol=FLOAT32_NETWORK, atol=1e-6)
