"""The training step on tiny made-up data: every loss is finite, a step lowers the sum, a pack can be started from."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mien.errors import InputError
from mien.face import mesh as lm
from mien.face.gaze_warp import warp_gaze
from mien.face.measures import POINTS, expression_measures, gaze
from mien.nets.face_parser import FaceParser
from mien.nets.identity_net import IdentityNet
from mien.packs.pack import Pack
from mien.train import __main__ as commands
from mien.train.autoencoder.loop import AutoencoderOptions, _Loop, train
from mien.train.autoencoder.model_losses import AutoencoderTrainer
from mien.train.dataset import Faces
from mien.train.export_pack import export_pack
from mien.train.expression import expression_channels
from mien.train.networks import Networks, load_matching
from tolerances import FLOAT32_EXACT, FLOAT32_NETWORK


def test_a_step_teaches(faces: Faces) -> None:
    torch.manual_seed(0)
    nets = Networks.build(64)
    trainer = AutoencoderTrainer(nets, FaceParser(8), faces, 64, 0)
    optimiser = torch.optim.Adam(nets.parameters(), lr=1e-3)
    sums = []
    for _ in range(6):
        losses, fake, real, free = trainer.losses(4, 4)
        assert all(torch.isfinite(v) for v in losses.values())
        assert fake.shape == real.shape == (10, 3, 64, 64)
        assert free.shape == (2 + 2, 3, 64, 64) and free.requires_grad, "swaps and single channels, for the adversary"
        total = sum(losses.values())  # an untrained parser's measures are most of it
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        sums.append(float(total.detach()))
    assert np.mean(sums[-2:]) < np.mean(sums[:2])


def test_the_encoder_is_asked_for_the_channels_of_a_pasted_swap(faces: Faces) -> None:
    torch.manual_seed(0)
    nets = Networks.build(64)
    trainer = AutoencoderTrainer(nets, FaceParser(8), faces, 64, 0, identity=IdentityNet())
    losses, *_ = trainer.losses(4, 4)
    assert 0 <= float(losses["person"].detach()) <= 0.3
    picture = torch.rand(2, 3, 128, 128) * 2 - 1
    styles = nets.generator.styles(nets.encoder(picture))
    spread = [torch.ones(layer.shape[1]) for layer in styles]
    other = [layer + 1 for layer in styles]
    trainer.random.manual_seed(1)
    near = trainer.cycle_consistency(picture, styles, spread)
    trainer.random.manual_seed(1)
    far = trainer.cycle_consistency(picture, other, spread)
    assert 0 <= float(near.detach()) < float(far.detach())
    far.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in nets.encoder.parameters())


def test_smaller_pictures_are_kept_whole_or_not_at_all(face_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("mien.train.dataset.os.replace", killed)
        Faces(face_folder, 32)
    assert not (face_folder / "images_32.npy").exists()
    assert Faces(face_folder, 32).images[:20].std() > 10


def test_too_little_to_train_on_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no images.npy"):
        Faces(tmp_path, 128)
    assert app_run("channels", "--people", "999", "-o", tmp_path / "c") == (2, "must be 1 to 48")
    assert not (tmp_path / "c").exists()


def test_a_step_without_the_one_before_it_is_said(tmp_path: Path) -> None:
    options = AutoencoderOptions(size=64, resolution=64, minutes=0)
    with pytest.raises(InputError, match="parser holds no checkpoint.pt"):
        train(tmp_path / "data", tmp_path / "parser", tmp_path / "ae", options)
    (tmp_path / "ae").mkdir(exist_ok=True)
    torch.save({}, tmp_path / "ae" / "checkpoint.pt")
    with pytest.raises(InputError, match="parser holds no checkpoint.pt"):
        export_pack(
            tmp_path / "ae", tmp_path / "parser", None, tmp_path / "data", tmp_path / "p", resolution=64, name="p"
        )


def test_layers_that_are_no_numbers_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--layers takes numbers"):
        commands.channels(layers="6,x", out=tmp_path / "c")


def app_run(*arguments: object) -> tuple[int, str]:
    """Run `python -m mien.train`; its exit code and the end of its last line."""
    command = [sys.executable, "-m", "mien.train", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1].rstrip(".")
    return done.returncode, last[last.rfind("must") :]


def test_an_outlier_is_not_followed_and_not_remembered() -> None:
    """One gradient that is not finite must not end the training."""
    nets = SimpleNamespace(parameters=lambda: [weight])
    weight = torch.nn.Parameter(torch.ones(3))
    steps: list[float] = []
    optimiser = SimpleNamespace(zero_grad=lambda set_to_none: None, step=lambda: steps.append(1.0))
    loop = SimpleNamespace(
        optimiser=optimiser, nets=nets, usual_norm=None, workers=SimpleNamespace(average=lambda parameters: None)
    )
    for factor in (1.0, float("nan"), float("inf"), 1.0, 1000.0, 1.0):
        weight.grad = None
        _Loop._follow(loop, (weight * factor).sum())  # type: ignore[arg-type]
    assert len(steps) == 3 and math.isfinite(loop.usual_norm)


def test_rare_frames_are_the_ends_of_a_measure(faces: Faces) -> None:
    for clip, rare in zip(faces.clip_of, faces.rare, strict=True):
        measures = expression_measures(faces.get(clip, np.zeros(len(clip), bool)).points).numpy()
        assert len(rare) == 2 * measures.shape[1]
        for m in range(measures.shape[1]):
            low, high = (measures[np.searchsorted(clip, rare[2 * m + end]), m] for end in (0, 1))
            assert np.isclose(low, measures[:, m].min()) and np.isclose(high, measures[:, m].max())


def test_expression_channels_are_32_and_distinct() -> None:
    channels = expression_channels()
    assert len(channels) == len({(layer, index) for layer, index, _ in channels}) == 32


def test_a_larger_generator_starts_from_the_pack(mini: Pack) -> None:
    nets = Networks.build(256)
    load_matching(nets, Path("mini"))
    with torch.no_grad():
        small = mini.generator.synthesis(mini.people[:1])
        rows = torch.cat([mini.people[:1], torch.zeros(1, 14 - mini.generator.num_ws, 256)], 1)
        large = nets.generator.synthesis(rows, mini.resolution)
    assert torch.allclose(small, large, atol=FLOAT32_NETWORK)


def test_a_glance_moves_the_irises_and_nothing_else(faces: Faces) -> None:
    plain = np.zeros(2, bool)
    before = faces.get(np.array([0, 1]), plain)
    after = faces.get(np.array([0, 1]), plain, np.array([[0.1, 0.03], [-0.1, -0.03]]))
    moves = gaze(after.points) - gaze(before.points)
    np.testing.assert_allclose(moves, [[0.1, 0.03], [-0.1, -0.03]], atol=0.01)
    np.testing.assert_allclose(
        moves[:, 0], (expression_measures(after.points) - expression_measures(before.points))[:, 7], atol=FLOAT32_EXACT
    )
    others = list(range(7))
    assert torch.equal(expression_measures(after.points)[:, others], expression_measures(before.points)[:, others])
    eyes = ((before.label == 3) | (before.label == 4))[:, None].float()
    around = torch.nn.functional.max_pool2d(eyes, 5, 1, 2)
    moved = (after.image - before.image).abs().amax(1, keepdim=True)
    assert float((moved * (1 - around)).max()) == 0 < float((moved * eyes).max())
    column = lambda label: ((label == 4).float() * torch.arange(128)).sum((1, 2)) / (label == 4).sum((1, 2))
    assert [float(x) for x in (column(after.label) - column(before.label)).sign()] == [1, -1]


def test_a_shut_eye_does_not_glance(faces: Faces) -> None:
    batch = faces.get(np.array([0]), np.zeros(1, bool))
    points = batch.points[0].numpy().copy()
    lids = [POINTS.index(p) for eye in lm.EYES for p in eye]
    points[lids, 1] = points[lids, 1].mean()
    image = batch.image[0].permute(1, 2, 0).contiguous().numpy()
    seen = warp_gaze(image, batch.label[0].numpy(), points, 0.1)
    assert np.array_equal(seen[0], image) and np.array_equal(seen[2], points)


def test_gaze_channels_are_told_where_irises_are(faces: Faces) -> None:
    torch.manual_seed(0)
    nets = Networks.build(64)
    trainer = AutoencoderTrainer(nets, FaceParser(8), faces, 64, 0)
    places = np.array([[0.1, 0.0], [-0.1, 0.0], [0.0, 0.03], [0.0, -0.03]])
    points = faces.get(np.arange(4), np.zeros(4, bool), places).points
    styles = nets.generator.styles(nets.encoder(torch.rand(4, 3, 128, 128) * 2 - 1))
    seen = gaze(points) - gaze(points).mean(0)
    right = next(c[:2] for c in expression_channels() if c[2] == "gaze")
    supervised, far = trainer.gaze_supervision(styles, points)
    own, value = styles[right[0]][:, right[1]], 4.0 * seen[:, 0] + styles[right[0]][:, right[1]].mean()
    now, own, value = supervised[right[0]][:, right[1]].detach(), own.detach(), value.detach()
    assert all(min(abs(float(a - b)), abs(float(a - c))) < 1e-5 for a, b, c in zip(now, own, value, strict=True))
    assert any(abs(float(a - c)) < 1e-5 < abs(float(b - c)) for a, b, c in zip(now, own, value, strict=True))
    for turn, (layer, index, _) in enumerate(c for c in expression_channels() if c[2] == "gaze"):
        styles[layer] = styles[layer].detach().clone()
        styles[layer][:, index] = (4.0, 10.0)[turn % 2] * seen[:, turn % 2]
    assert float(trainer.gaze_supervision(styles, points)[1]) < 1e-6 < float(far.detach())


def test_a_channel_may_do_less_elsewhere_but_not_less_of_what_it_is_for(faces: Faces) -> None:
    torch.manual_seed(0)
    nets = Networks.build(64)
    trainer = AutoencoderTrainer(nets, FaceParser(8), faces, 64, 0)
    least = trainer.inside_change(8)
    assert least.shape == (32,) and bool((least > 0).all())
    batch = trainer.faces.get(np.arange(8), np.zeros(8, bool))
    styles = [layer.detach() for layer in nets.generator.styles(nets.encoder(batch.image))]

    def gain_wanted() -> float:
        """How a step along the gradient would change what one channel does to the whole picture, in shares."""
        gain = torch.ones((), requires_grad=True)
        made = nets.generator.synthesis_from_styles
        base = made(styles, 64).detach()
        stronger = lambda s, size: torch.cat([base, base + gain * (made(s, size)[len(base) :].detach() - base)])
        nets.generator.synthesis_from_styles = stronger  # type: ignore[method-assign]
        trainer.random.manual_seed(3)
        loss, _ = trainer.locality(styles, batch.label, 64)
        nets.generator.synthesis_from_styles = made  # type: ignore[method-assign]
        loss.backward()
        return -float(gain.grad or 0)

    assert gain_wanted() < -0.01  # nothing to keep: less of everything is a gain
    trainer.min_inside_change = 1e3 * least
    assert abs(gain_wanted()) < 1e-5  # all of it to keep: the share does not change with the gain


def test_what_a_channel_changes_is_not_what_bfloat16_rounds_away(faces: Faces) -> None:
    torch.manual_seed(0)
    nets = Networks.build(64)
    trainer = AutoencoderTrainer(nets, FaceParser(8), faces, 64, 0)
    batch = trainer.faces.get(np.arange(4), np.zeros(4, bool))
    styles = [layer.detach() for layer in nets.generator.styles(nets.encoder(batch.image))]
    shares = []
    for rounded in (False, True):
        trainer.random.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
            shares.append(float(trainer.locality(styles, batch.label, 64)[0].detach()))
    assert shares[0] == shares[1]
