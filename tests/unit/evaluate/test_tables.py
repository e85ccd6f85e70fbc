"""Every metric of the paper's tables: perfect for a clip against itself, the worst, or none, against noise."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from factories.judges import all_judges, fake_openface
from mien.apps.cli.cli import main
from mien.errors import InputError
from mien.evaluate.evaluate import Options, evaluate
from mien.evaluate.metrics import openface
from mien.evaluate.metrics.mouth import mouth_square, mouths
from mien.evaluate.networks import MetricNetworks
from mien.evaluate.registry import METRICS, PUPPETEERING, RESYNTHESIS, Metric, metrics_of
from mien.evaluate.result import Evaluation
from mien.face.mesh import LIPS_OUTER, canonical_face
from mien.media.still_images import write_image
from mien.media.video import write_video

SIZE = 128
FACE = cv2.resize(astronaut()[0:230, 110:340], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
OPTIONS = Options(size=SIZE)
# What a metric is for a clip against itself; the others are 1 where more is better, else 0.
PERFECT = {"psnr": 100.0}
IDENTITY = ("id_loss", "id_loss_curricular", "pack_identity")
OWN = ("jitter", "jitter_reference")  # of one clip, without another to be compared with


def frames(count: int = 24) -> list[np.ndarray]:
    """A face that turns and moves, with a mouth that is painted open and shut."""
    found = []
    for i in range(count):
        image = FACE.copy()
        cv2.ellipse(image, (56, 102), (11, 2 + 4 * (i % 4)), 0, 0, 360, (70, 25, 25), -1)
        matrix = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), 8 * np.sin(i / 4), 1.0)
        matrix[:, 2] += [3 * np.cos(i / 3), 2 * np.sin(i / 5)]
        found.append(cv2.warpAffine(image, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT))
    return found


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`face.mkv`, `worse.mkv` (the same, blurred and late), `noise.mkv`, `portrait.png`, and a FeatureExtraction."""
    folder = tmp_path_factory.mktemp("clips")
    moving = frames(27)
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8) for _ in range(24)]
    write_video(folder / "face.mkv", moving[:24], 25)
    write_video(folder / "worse.mkv", [cv2.GaussianBlur(f, (0, 0), 1.0) for f in moving[3:]], 25)
    write_video(folder / "noise.mkv", noise, 25)
    write_image(folder / "portrait.png", moving[0])
    fake_openface(folder / "bin")
    return folder


@pytest.fixture
def with_openface(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(clips / "bin"), prepend=":")


@pytest.fixture(scope="module")
def measured(clips: Path) -> dict[tuple[str, int], Evaluation]:
    """Both tables of the face against itself, against a worse one and against noise, with every judge."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(clips / "bin"), prepend=":")
        found = {}
        for name in ("face", "worse", "noise"):
            for table, identity in ((RESYNTHESIS, None), (PUPPETEERING, clips / "portrait.png")):
                output = clips / f"{name}.mkv"
                found[name, table] = evaluate(
                    clips / "face.mkv", output, OPTIONS, networks=all_judges(), identity=identity
                )
        return found


def by_networks(table: int) -> list[Metric]:
    """The table's metrics without those of the independent judges, which were not asked."""
    return [metric for metric in metrics_of(table) if not metric.judge]


@pytest.mark.parametrize("table", [RESYNTHESIS, PUPPETEERING])
def test_every_metric_of_a_clip_against_itself_is_perfect(measured: dict, table: int) -> None:
    same = measured["face", table]
    facts = same.to_json()
    assert (facts["frames"], facts["faces"]) == (24, 24)
    assert facts["not_measured"] == {m.key: "needs --judges" for m in metrics_of(table) if m.judge}
    assert set(facts["metrics"]) == {metric.key for metric in by_networks(table)}
    assert set(facts["also_fitted"]) == {m.key for m in metrics_of(table) if m.key.startswith(("mesh_", "pack_"))}
    for metric in by_networks(table):
        best = PERFECT.get(metric.key, 1.0 if metric.more_is_better else 0.0)
        if table == PUPPETEERING and metric.key in IDENTITY:
            assert same.values[metric.key] == pytest.approx(best, abs=0.1), "the portrait is another frame"
        elif metric.key not in OWN:
            assert same.values[metric.key] == pytest.approx(best, abs=1e-4), metric.key
    assert same.values["jitter"] == same.values["jitter_reference"]


@pytest.mark.parametrize("table", [RESYNTHESIS, PUPPETEERING])
def test_every_metric_is_worse_for_a_worse_clip_and_worst_for_noise(measured: dict, table: int) -> None:
    same, worse, noise = (measured[name, table] for name in ("face", "worse", "noise"))
    assert noise.faces == 0
    for metric in by_networks(table):
        if metric.key in OWN:
            continue
        sign = 1 if metric.more_is_better else -1
        if table == RESYNTHESIS or metric.key not in IDENTITY:  # a portrait is neither the one clip nor the other
            assert sign * worse.values[metric.key] < sign * same.values[metric.key] - 1e-4, metric.key
        if metric.key in noise.missing:
            assert "face" in noise.missing[metric.key], metric.key
        elif not metric.key.startswith("rho"):
            assert sign * noise.values[metric.key] < sign * worse.values[metric.key], metric.key
        else:  # by OpenFace, which says nothing of noise but that it is not the same
            assert abs(noise.values[metric.key]) < 0.3
    needs_a_face = {m.key for m in metrics_of(table) if m.key.startswith(("mesh_", "head_", "rho_au_l", "rho_gz_l"))}
    assert needs_a_face <= set(noise.missing)


def test_tables_hold_the_papers_columns() -> None:
    first = [m.key for m in metrics_of(RESYNTHESIS)][:10]
    assert first == ["l1", "lpips", "id_loss", "psnr", "ssim", "fid", "fvd", "rho_au", "rho_gz", "rho_pose"]
    assert [m.key for m in metrics_of(PUPPETEERING)][:5] == ["id_loss", "fid", "fvd", "fvd_m", "rho_au_gz"]
    assert len({metric.key for metric in METRICS}) == len({metric.label for metric in METRICS}) == len(METRICS)


def test_a_puppet_is_compared_with_its_portrait(clips: Path, tmp_path: Path) -> None:
    """Identity follows the portrait and not the driver; a portrait may be a video; noise is nobody."""
    networks = MetricNetworks(arcface=all_judges().arcface)
    alike = evaluate(clips / "worse.mkv", clips / "face.mkv", OPTIONS, networks=networks, identity=clips / "face.mkv")
    write_image(tmp_path / "other.png", 255 - FACE)
    other = evaluate(
        clips / "face.mkv", clips / "face.mkv", OPTIONS, networks=networks, identity=tmp_path / "other.png"
    )
    assert alike.values["id_loss"] < 0.1 and other.values["id_loss"] > 0.5
    assert "I3D" in alike.missing["fvd_m"] and "psnr" not in alike.to_json()["metrics"]
    write_image(tmp_path / "noise.png", np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    with pytest.raises(InputError, match="shows no face"):
        evaluate(clips / "face.mkv", clips / "face.mkv", OPTIONS, networks=networks, identity=tmp_path / "noise.png")


def test_inversions_stand_beside_the_real_frames(clips: Path) -> None:
    result = evaluate(clips / "face.mkv", clips / "worse.mkv", OPTIONS, inversions=clips / "worse.mkv")
    assert result.inversions is not None and result.inversions.values["psnr"] == 100 > result.values["psnr"]
    facts = result.to_json()
    assert facts["against_inversions"]["metrics"]["l1"] == 0 < facts["metrics"]["l1"]
    header, first = result.to_csv().splitlines()[:2]
    assert header.endswith("value_against_inversions") and first.endswith(",0.00000")
    assert "I_t      S_t" in result.to_text()


def test_the_mouths_square_stands_still_and_holds_the_mouth() -> None:
    mesh = canonical_face() * 60 + 128
    shaken = np.stack([mesh + [shift, 0, 0] for shift in (-2.0, 0.0, 2.0)] + [np.full_like(mesh, np.nan)])
    x, y, side = mouth_square(shaken) or (0, 0, 0)
    lips = mesh[LIPS_OUTER, :2]
    assert (x, y) == pytest.approx(tuple(lips.mean(0))) and side == pytest.approx(abs(mesh[33, 0] - mesh[263, 0]), 0.01)
    assert (np.abs(lips - [x, y]) < side / 2).all()
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, 0).repeat(3, 2)
    (cut,) = mouths([ramp], (x, y, side))
    assert cut.shape == (224, 224, 3) and cut[0, 0, 0] == pytest.approx(x - side / 2, abs=1.5)
    assert int(cut[:, -1].mean()) == pytest.approx(x + side / 2, abs=1.5)
    assert mouth_square(shaken[3:]) is None


@pytest.mark.usefixtures("with_openface")
def test_openface_is_run_where_it_is_on_the_path(clips: Path, tmp_path: Path) -> None:
    table = openface.extract(clips / "face.mkv")
    assert len(table["AU12_r"]) == 24 and openface.correlations(table, table)["rho_au_gz"] == 1
    wide = [np.concatenate([f, 255 - f], axis=1) for f in frames(4)]
    write_video(tmp_path / "wide.mkv", wide, 25)
    left, right = (openface.extract(tmp_path / "wide.mkv", panel) for panel in (0, 1))
    write_video(tmp_path / "left.mkv", frames(4), 25)
    assert (left["AU12_r"] == openface.extract(tmp_path / "left.mkv")["AU12_r"]).all()
    assert (left["AU12_r"] != right["AU12_r"]).all()
    # rho_AU+GZ is the mean over all nineteen columns, not of two means.
    other = openface.extract(clips / "noise.mkv")
    found = openface.correlations(table, other)
    assert found["rho_au_gz"] == pytest.approx((17 * found["rho_au"] + 2 * found["rho_gz"]) / 19)


def test_an_openface_that_fails_is_said(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / openface.PROGRAM
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    result = evaluate(clips / "face.mkv", clips / "face.mkv", Options(size=SIZE, step=9))
    assert "exit code 3" in result.missing["rho_au"] and "rho_au" not in result.values


def test_command(
    clips: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    arguments = ["evaluate", str(clips / "face.mkv"), str(clips / "worse.mkv"), "--size", str(SIZE), "--step", "5"]
    code = main([*arguments, "--puppeteering", str(clips / "portrait.png"), "--json", str(tmp_path / "a.json")])
    out, _ = capfd.readouterr()
    assert code == 0 and "FVD_M ↓" in out and "PSNR" not in out
    facts = json.loads((tmp_path / "a.json").read_text())
    assert {*facts["metrics"], *facts["not_measured"]} == {m.key for m in metrics_of(PUPPETEERING)}
    assert main([*arguments, "--inversions", str(clips / "worse.mkv")]) == 0
    assert "S_t" in capfd.readouterr().out
    for bad in (["--puppeteering", str(tmp_path / "no.png")], ["--inversions", str(tmp_path / "no.mkv")]):
        assert main([*arguments, *bad]) == 2
        assert capfd.readouterr().err.count("\n") == 1
