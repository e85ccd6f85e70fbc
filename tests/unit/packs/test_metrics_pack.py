"""`mien models pull metrics`: the judges' official files, read by content, into one pack; each may be missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from factories import checkpoints as official
from mien.apps.cli.cli import main
from mien.errors import MienError, PackError
from mien.evaluate.networks import gather
from mien.nets import irse
from mien.nets.arcface import ArcFace, CurricularFace
from mien.nets.i3d import I3D
from mien.nets.l2cs import L2CS
from mien.nets.libreface import LibreFace
from mien.packs import zoo
from mien.packs.convert import metric_networks
from mien.packs.pack import Pack

# The same layouts with fewer units: the real files fill gigabytes.
FEW: irse.Units = ((64, 1), (128, 1), (256, 1), (512, 1))


def state(network: nn.Module) -> dict[str, Tensor]:
    """Small random weights under the official names; variances above 0."""
    with torch.no_grad():
        return {
            name: torch.rand(t.shape).mul_(0.02).add_(1.0 if name.endswith("running_var") else -0.01)
            if t.is_floating_point()
            else t
            for name, t in network.state_dict().items()
        }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Official files of the smaller judges, by their roles, each wrapped as its authors wrap it."""
    folder = tmp_path_factory.mktemp("official")
    torch.manual_seed(0)
    curricular = state(CurricularFace(FEW))
    trees = {
        "lpips-alex": official.heads("alex"),
        "alexnet": official.backbone("alex"),
        "curricularface": {f"module.{name}": t for name, t in curricular.items()},
        "action-units": {"model": state(LibreFace()), "epoch": 3},
        "gaze": state(L2CS()) | {"fc_finetune.weight": torch.zeros(3, 2051)},
        "i3d": state(I3D()),
    }
    found = {}
    for role, tree in trees.items():
        found[role] = folder / zoo.METRICS[role].name
        torch.save(tree, found[role])
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty MIEN_HOME, and no network: a proxy where nothing listens."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    return tmp_path


def test_files_in_a_folder_become_the_pack_that_evaluate_finds(
    files: dict[str, Path], home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    any_hash = {role: replace(remote, sha256=(), git_blob="") for role, remote in zoo.METRICS.items()}
    pulled = zoo.pull("metrics", files["i3d"].parent, files=any_hash)  # nobody is there to accept a licence
    assert pulled.path == home / "packs" / "metrics.safetensors" and any("pt_inception" in why for why in pulled.notes)
    pack = Pack.load("metrics")
    assert set(pack.networks) == {"lpips_alex", "curricularface", "i3d", "gaze", "action_units"}
    expected = torch.load(files["gaze"], weights_only=True)["fc_yaw_gaze.weight"]
    assert (pack.networks["gaze"].state_dict()["fc_yaw_gaze.weight"] == expected).all()
    found = gather()
    assert None not in (found.lpips, found.curricularface, found.i3d, found.gaze, found.action_units)
    assert (found.inception, found.arcface) == (None, None)
    assert main(["models", "verify", "metrics"]) == 0
    out = capfd.readouterr().out
    assert "i3d: kinetics400, answers [1, 400]" in out and "gaze: l2cs, answers [1, 2]" in out
    assert (
        "action_units: libreface, answers [1, 12]" in out
        and "cannot be measured with it: FID, LPIPS by VGG16, L_ID" in out
    )
    assert any(line.startswith("metrics") and "at hand" in line for line in zoo.listing())
    with pytest.raises(PackError, match="no generator"):
        _ = pack.generator


def test_without_a_network_it_is_one_sentence(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "pull", "metrics", "--yes"]) == 1
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and "could not be downloaded" in err and "pull metrics` again" in err
    assert main(["models", "pull", "metrics"]) == 1
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and "were not accepted" in err
    assert not (home / "packs" / "metrics.safetensors").exists()


def test_another_file_under_a_judges_name_is_refused(files: dict[str, Path], home: Path) -> None:
    with pytest.raises(PackError, match="is not LibreFace's network of action units"):
        metric_networks.convert_judges({"action-units": files["gaze"]}, home / "m.safetensors")
    with pytest.raises(PackError, match="is not an L2CS-Net"):
        metric_networks.convert_judges({"gaze": files["action-units"]}, home / "m.safetensors")
    with pytest.raises(PackError, match="none of the judges' files"):
        metric_networks.convert_judges({"alexnet": files["alexnet"]}, home / "m.safetensors")
    with pytest.raises(PackError, match="not one of the files"):
        metric_networks.convert_judges({"e4e": files["alexnet"]}, home / "m.safetensors")
    assert not (home / "m.safetensors").exists()


def test_a_damaged_metrics_pack_is_not_passed_over(home: Path) -> None:
    (home / "packs").mkdir()
    (home / "packs" / "metrics.safetensors").write_bytes(b"half")
    with pytest.raises(MienError, match="cannot be read as a pack"):
        gather()


def test_every_file_says_where_it_comes_from_and_what_it_may_be_used_for() -> None:
    assert set(zoo.METRICS) == set(metric_networks.ROLES)
    for role, remote in zoo.METRICS.items():
        assert remote.urls and remote.page and remote.licence and remote.optional, role
        assert all(url.startswith("https://") for url in remote.urls)
        assert all(len(hash_) == 64 for hash_ in remote.sha256)


def test_networks_answer_as_they_say() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        units = LibreFace().eval()(x)
        assert units.shape == (2, 12) and 0 <= units.min() and units.max() <= 5
        few = ArcFace(FEW, squeeze=False, affine=False).eval()(x)
    torch.testing.assert_close(few.norm(dim=1), torch.ones(2))
