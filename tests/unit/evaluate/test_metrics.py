"""The metrics: the best for a clip against itself, the worst against noise, and the canonical values in between."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy import linalg
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from factories.clips import pictures
from mien.apps.cli.cli import main
from mien.errors import InputError, VideoError
from mien.evaluate.evaluate import Options, evaluate
from mien.evaluate.frames import frames
from mien.evaluate.metrics import facemesh, headpose, openface
from mien.evaluate.metrics.frechet import Moments, frechet_distance
from mien.evaluate.metrics.identity import similarity
from mien.evaluate.metrics.jitter import jitter
from mien.evaluate.metrics.l1 import l1
from mien.evaluate.metrics.lpips import lpips
from mien.evaluate.metrics.psnr import psnr
from mien.evaluate.metrics.ssim import ssim
from mien.evaluate.registry import NEEDS, RESYNTHESIS, metrics_of
from mien.face.mesh import canonical_face
from mien.media.images import MAX_PSNR_DB
from mien.media.still_images import write_image
from mien.media.video import write_video
from mien.nets.lpips import LPIPS
from tolerances import FLOAT32_EXACT, FLOAT64_DISTANCE, FLOAT64_EXACT

FACE = cv2.resize(astronaut()[0:230, 110:340], (192, 192), interpolation=cv2.INTER_CUBIC)


def noise(seed: int, size: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face that turns on the screen, without loss."""
    path = tmp_path_factory.mktemp("faces") / "faces.mkv"
    turned = [cv2.getRotationMatrix2D((96, 96), angle, 1.0) for angle in (-12, -4, 0, 6, 11)]
    write_video(path, [cv2.warpAffine(FACE, m, (192, 192), borderMode=cv2.BORDER_REFLECT) for m in turned], 25)
    return path


def test_pixels_against_the_canonical_implementations() -> None:
    for a, b in ((noise(0), noise(1)), (FACE, cv2.GaussianBlur(FACE, (0, 0), 2)), (FACE, FACE // 2)):
        assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b), abs=FLOAT64_EXACT)
        assert ssim(a, b) == pytest.approx(structural_similarity(a, b, channel_axis=2), abs=FLOAT64_EXACT)
        assert l1(a, b) == pytest.approx(np.abs(a.astype(int) - b.astype(int)).mean())
    assert (l1(FACE, FACE), psnr(FACE, FACE)) == (0, MAX_PSNR_DB) and ssim(FACE, FACE) == pytest.approx(1)
    black, white = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    assert (l1(black, white), psnr(black, white)) == (255, 0) and ssim(black, white) < 1e-3


def test_a_clip_against_itself_is_perfect(faces: Path) -> None:
    result = evaluate(faces, faces, Options(size=192))
    assert (result.frames, result.faces) == (5, 5)
    assert result.values["l1"] == 0 and result.values["psnr"] == MAX_PSNR_DB
    assert result.values["ssim"] == pytest.approx(1)
    for name in facemesh.MEASURES:
        assert result.values[f"mesh_{name}"] == pytest.approx(1), name
    for name in headpose.ANGLES:
        assert result.values[f"head_{name}"] == 0
    assert result.values["jitter"] == result.values["jitter_reference"] > 0


def test_noise_has_no_face_and_no_likeness(faces: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "noise.mkv", [noise(seed, 192) for seed in range(5)], 25)
    result = evaluate(faces, tmp_path / "noise.mkv", Options(size=192))
    assert result.faces == 0 and result.values["psnr"] < 10 and result.values["ssim"] < 0.05
    assert "face" in result.missing["mesh_yaw"] and "face" in result.missing["jitter"]


def test_nothing_stands_under_anothers_name(faces: Path) -> None:
    result = evaluate(faces, faces, Options(size=192))
    facts = result.to_json()
    table = [metric.key for metric in metrics_of(RESYNTHESIS)]
    for key in {*NEEDS} & {*table}:
        assert key not in facts["metrics"] and facts["not_measured"][key].startswith("needs ")
    assert {*facts["metrics"], *facts["not_measured"]} == {*table}
    assert "not measured: needs OpenFace's FeatureExtraction" in result.to_text()
    rows = {row["metric"]: row for row in csv.DictReader(io.StringIO(result.to_csv()))}
    assert list(rows) == table and rows["l1"]["value"] == "0.00000"
    assert rows["lpips"]["value"] == "" and "not measured" in rows["lpips"]["note"]


def test_mesh_measures_say_what_they_are_called() -> None:
    mesh = canonical_face() * 100 + 300
    base = facemesh.measures(mesh)
    assert base[4] == pytest.approx(0.5, abs=0.1) and abs(base[5]) < 0.1 and abs(base[7]) < 0.1

    def moved(points: list[int], x: float, y: float) -> np.ndarray:
        other = mesh.copy()
        other[points, :2] += [x, y]
        return facemesh.measures(other) - base

    def only(change: np.ndarray, *names: str) -> None:
        """The measures `names` rise; the others do not change."""
        for name, value in zip(facemesh.MEASURES, change, strict=True):
            assert (value > 0.01) if name in names else (abs(value) < 1e-9), (name, value)

    only(moved([14], 0, 10), "mouth_open")
    only(moved([61], -10, 0), "mouth_width")
    only(moved([145, 374], 0, 6), "eye_open")
    only(moved([105, 334], 0, -10), "brow")
    only(moved([468, 473], 4, 0), "gaze")
    only(moved([1], 10, 0), "yaw")
    only(moved([1], 0, 10), "pitch")
    c, s = np.cos(0.5), np.sin(0.5)
    turned = facemesh.measures(mesh[:, :2] @ np.array([[c, s], [-s, c]]))
    assert turned[7] - base[7] == pytest.approx(0.5)
    np.testing.assert_allclose(facemesh.measures(mesh * 3)[:4], base[:4])


def test_pearson() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 50))
    assert facemesh.pearson(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert facemesh.pearson(a, 3 * a + 1) == pytest.approx(1, abs=1e-12) and facemesh.pearson(a, -a) == pytest.approx(
        -1, abs=1e-12
    )
    b[7] = np.nan
    keep = np.isfinite(b)
    assert facemesh.pearson(a, b) == pytest.approx(np.corrcoef(a[keep], b[keep])[0, 1])
    assert facemesh.pearson(a, np.full(50, 0.1)) is None and facemesh.pearson(a[:2], b[:2]) is None


def test_head_pose_error_goes_the_short_way_round() -> None:
    assert headpose.mean_error(np.array([179.0, 0.0]), np.array([-179.0, 1.0])) == pytest.approx(1.5)
    assert headpose.mean_error(np.array([np.nan]), np.array([1.0])) is None


def test_jitter_is_blind_to_even_movement() -> None:
    mesh = canonical_face() * 100
    time = np.arange(10)[:, None, None]
    assert jitter(mesh + 2.0 * time) == pytest.approx(0, abs=FLOAT64_EXACT)
    unit = np.hypot(*(mesh[33] - mesh[263])[:2])
    shaken = np.repeat(mesh[None], 10, 0)
    shaken[::2, :, 0] += 1.0  # left and right by one pixel: a second difference of two
    assert jitter(shaken) == pytest.approx(100 * 2 / unit)
    shaken[4] = np.nan
    assert jitter(shaken) == pytest.approx(100 * 2 / unit)
    assert jitter(shaken[:2]) is None


def test_frechet_distance_is_the_canonical_one() -> None:
    """Against the formula with a matrix root, as FID and FVD are usually computed."""
    rng = np.random.default_rng(0)
    for count, dim in ((400, 24), (2000, 64), (20, 32)):  # the last has singular covariances
        a = rng.normal(size=(count, dim)) @ rng.normal(size=(dim, dim))
        b = rng.normal(size=(count, dim)) @ rng.normal(size=(dim, dim)) + 0.3
        x, y = Moments(), Moments()
        for part in np.array_split(a, 7):
            x.add(part)
        y.add(b)
        np.testing.assert_allclose(
            x.factor().T @ x.factor(), np.cov(a, rowvar=False), rtol=FLOAT64_EXACT, atol=FLOAT64_EXACT
        )
        step = a.mean(0) - b.mean(0)
        squares = linalg.eigvals(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
        root = np.sqrt(np.clip(squares, 0, None)).sum()
        canonical = step @ step + np.trace(np.cov(a, rowvar=False) + np.cov(b, rowvar=False)) - 2 * root
        if count > dim:
            usual = linalg.sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
            assert np.trace(usual) == pytest.approx(root)
        assert frechet_distance(x, y) == pytest.approx(canonical, rel=FLOAT64_DISTANCE)
        assert frechet_distance(x, x) == pytest.approx(0, abs=FLOAT64_DISTANCE * canonical)
    with pytest.raises(InputError):
        Moments().factor()


def test_lpips_is_zero_only_for_the_same() -> None:
    torch.manual_seed(0)
    network = LPIPS("alex").eval()
    a = np.stack([FACE[:64, :64], FACE[64:128, 64:128]])
    b = np.stack([noise(0, 64), noise(1, 64)])
    assert (lpips(network, a, a) == 0).all() and (lpips(network, a, b) > 1e-4).all()
    assert lpips(network, a, b).shape == (2,)


def test_identity_similarity_is_the_cosine() -> None:
    def network(images: torch.Tensor) -> torch.Tensor:
        assert images.min() >= -1 and images.max() <= 1 and images.shape[1] == 3
        return torch.nn.functional.normalize(images.mean((2, 3)), dim=1)

    red = np.zeros((1, 8, 8, 3), np.uint8)
    red[..., 0] = 255
    assert similarity(network, red, red) == pytest.approx(1)
    assert similarity(network, red, 255 - red) == pytest.approx(-1, abs=FLOAT32_EXACT)


def table(path: Path, count: int, seed: int, lost: int | None = None) -> Path:
    rng = np.random.default_rng(seed)
    names = list(dict.fromkeys(name for group in openface.COLUMNS.values() for name in group))
    with path.open("w") as file:
        file.write("frame, success, " + ", ".join(names) + "\n")
        for i in range(count):
            values = ", ".join(f"{v:.6f}" for v in (rng.normal(size=len(names)) if i != lost else np.zeros(len(names))))
            file.write(f"{i + 1}, {int(i != lost)}, {values}\n")
    return path


def test_openface_tables(tmp_path: Path) -> None:
    a = openface.read_table(table(tmp_path / "a.csv", 40, 1))
    b = openface.read_table(table(tmp_path / "b.csv", 41, 2, lost=3))
    assert openface.correlations(a, a) == {"rho_au": 1, "rho_gz": 1, "rho_pose": 1, "rho_au_gz": 1}
    keep = np.arange(40) != 3
    expected = np.mean([np.corrcoef(a[n][keep], b[n][:40][keep])[0, 1] for n in openface.COLUMNS["rho_au"]])
    assert openface.correlations(a, b)["rho_au"] == pytest.approx(expected)
    with pytest.raises(InputError, match="differ in length"):
        openface.correlations(a, openface.read_table(table(tmp_path / "c.csv", 50, 1)))
    (tmp_path / "d.csv").write_text("frame, success\n1, 1\n")
    with pytest.raises(InputError, match="no column"):
        openface.read_table(tmp_path / "d.csv")


def test_folders_panels_and_lengths(faces: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    with pytest.raises(VideoError, match="no images"):
        list(frames(folder))
    for i, image in enumerate(frames(faces, size=192)):
        write_image(folder / f"{i:03}.png", image)
    assert evaluate(faces, folder, Options(size=192)).values["psnr"] == MAX_PSNR_DB
    left, right = pictures(3, 64, 64), [255 - image for image in pictures(3, 64, 64)]
    wide = [np.concatenate([a, b], axis=1) for a, b in zip(left, right, strict=True)]
    write_video(tmp_path / "wide.mkv", wide, 25)
    for panel, side in enumerate((left, right)):
        found = list(frames(tmp_path / "wide.mkv", size=64, panel=panel))
        assert all((a == b).all() for a, b in zip(found, side, strict=True))
    with pytest.raises(InputError, match="panels"):
        list(frames(tmp_path / "wide.mkv", panel=2))
    write_video(tmp_path / "long.mkv", pictures(7, 64, 64), 25)
    with pytest.raises(InputError, match="2 more frames"):
        evaluate(faces, tmp_path / "long.mkv")
    write_video(tmp_path / "one_more.mkv", [*frames(faces, size=192), FACE], 25)
    assert evaluate(faces, tmp_path / "one_more.mkv", Options(size=192)).frames == 5


def test_command_writes_a_table_json_and_csv(faces: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(faces), str(faces), "--size", "192", "--step", "2"]
    code = main([*arguments, "--json", str(tmp_path / "a.json"), "--csv", str(tmp_path / "a.csv")])
    out, _ = capfd.readouterr()
    assert code == 0 and "PSNR ↑" in out and "100.000  dB" in out
    facts = json.loads((tmp_path / "a.json").read_text())
    assert facts["frames"] == 3 and facts["metrics"]["l1"] == 0
    assert (tmp_path / "a.csv").read_text().startswith("metric,value")
    assert main(["evaluate", str(faces), str(tmp_path / "missing.mp4")]) == 2
