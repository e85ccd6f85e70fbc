"""Prints the table of docs/metrics.md: each metric against its canonical implementation, on the same random networks.

    python benchmarks/metric_parity.py FOLDER

FOLDER holds what others publish, each as its repository or package has it: `pytorch-fid`, `pytorch-i3d`,
`PerceptualSimilarity`, `encoder4editing`, `L2CS-Net`, and `torchvision/models` of torchvision 0.9 (source files only:
nothing of it is built). Their code is run from there; none of it is part of mien. Needs the extra `test`.
"""

from __future__ import annotations

import io
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from factories.judges import seeded
from mien.evaluate.metrics.fid import Fid
from mien.evaluate.metrics.frechet import distance_of
from mien.evaluate.metrics.fvd import Fvd
from mien.evaluate.metrics.psnr import psnr
from mien.evaluate.metrics.ssim import ssim
from mien.media.images import to_float
from mien.nets.arcface import ArcFace, CurricularFace
from mien.nets.i3d import I3D
from mien.nets.inception import Inception
from mien.nets.l2cs import L2CS
from mien.nets.libreface import LibreFace
from mien.nets.lpips import LPIPS

RNG = np.random.default_rng(0)
Row = tuple[str, str, float, float]  # metric, whose implementation, ours, theirs


def pictures(count: int, size: int) -> np.ndarray:
    """Smooth random pictures uint8 [N, size, size, 3]."""
    coarse = torch.from_numpy(RNG.normal(size=(count, 3, 9, 9)).astype(np.float32))
    fine = nn.functional.interpolate(coarse, (size, size), mode="bicubic", align_corners=False)
    return (128 + 60 * fine).clamp(0, 255).permute(0, 2, 3, 1).numpy().astype(np.uint8)


def tensor(images: np.ndarray) -> Tensor:
    """[N, 3, H, W] in [-1, 1]."""
    return to_float(images)


def torchvision(folder: Path) -> None:
    """Stands in for the package: its models' source files and nothing else."""
    package, models = types.ModuleType("torchvision"), types.ModuleType("torchvision.models")
    package.__version__ = "0.9.1"  # type: ignore[attr-defined]
    package.__path__, models.__path__ = [], [str(folder / "torchvision" / "models")]
    package.models = models  # type: ignore[attr-defined]
    sys.modules |= {"torchvision": package, "torchvision.models": models, "torchvision.transforms": mock.MagicMock()}
    for name in ("alexnet", "vgg", "squeezenet", "resnet", "inception"):
        module = import_module(f"torchvision.models.{name}")
        vars(models).update({k: v for k, v in vars(module).items() if callable(v)})
        setattr(models, name, getattr(module, name, module))
    models.inception, models.resnet = (import_module(f"torchvision.models.{n}") for n in ("inception", "resnet"))  # type: ignore[attr-defined]


def theirs(folder: Path, repository: str, module: str) -> types.ModuleType:
    """A module of someone's repository, imported from there."""
    sys.path.insert(0, str(folder / repository))
    try:
        return import_module(module)
    finally:
        sys.path.pop(0)


def same_weights(target: nn.Module, source: nn.Module, rename: Callable[[str], str] = lambda name: name) -> nn.Module:
    """Our network's tensors in theirs; every tensor that theirs computes with must be there."""
    ours = source.state_dict()
    state = target.state_dict()
    for name, value in state.items():
        if rename(name) in ours:
            value.copy_(ours[rename(name)].reshape(value.shape))
        elif not name.endswith("num_batches_tracked") and not name.startswith(("fc.", "fc_finetune", "scaling_layer")):
            raise SystemExit(f"{name} of the canonical network has no counterpart")
    return target.eval().requires_grad_(False)


def pixels() -> Iterator[Row]:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    a, b = pictures(2, 128)
    yield "PSNR", "scikit-image", psnr(a, b), float(peak_signal_noise_ratio(a, b))
    yield "SSIM", "scikit-image", ssim(a, b), float(structural_similarity(a, b, channel_axis=2))


def perceptual(folder: Path) -> Iterator[Row]:
    sys.modules["lpips.trainer"] = types.ModuleType("lpips.trainer")  # it needs what only training has
    package = theirs(folder, "PerceptualSimilarity", "lpips")
    a, b = tensor(pictures(2, 96)).split(1)
    for kind in ("alex", "vgg"):
        ours = seeded(LPIPS(kind))  # type: ignore[arg-type]
        for weight in ours.lin:  # type: ignore[union-attr]
            weight.abs_()

        def rename(name: str) -> str:
            parts = name.split(".")
            if parts[0] == "net":
                return f"layers.{parts[2]}.{parts[3]}"
            return f"lin.{parts[1]}" if parts[0] == "lins" else f"lin.{parts[0].removeprefix('lin')}"

        canonical = package.LPIPS(net=kind, pretrained=False, pnet_rand=True, lpips=True, verbose=False)
        same_weights(canonical, ours, rename)
        yield f"LPIPS ({kind})", "richzhang/PerceptualSimilarity", float(ours(a, b)), float(canonical(a, b))


def fid(folder: Path) -> Iterator[Row]:
    package = "pytorch_fid"
    canonical = theirs(folder, "pytorch-fid/src", f"{package}.inception")
    formula = theirs(folder, "pytorch-fid/src", f"{package}.fid_score").calculate_frechet_distance
    ours = seeded(Inception())
    with (
        mock.patch.object(canonical, "load_state_dict_from_url", lambda *_, **__: {}),
        mock.patch.object(nn.Module, "load_state_dict", lambda *_, **__: None),
    ):
        network = canonical.fid_inception_v3()
        same_weights(network, ours)
        with mock.patch.object(canonical, "fid_inception_v3", lambda: network):
            extractor = canonical.InceptionV3().eval()
    a, b = pictures(8, 128), pictures(8, 128)
    judge = Fid(ours)
    judge.add(a, b)
    found = judge.features()
    assert found is not None
    with torch.no_grad():
        expected = [extractor((tensor(x) + 1) / 2)[0][:, :, 0, 0].numpy() for x in (a, b)]
    error = max(float(np.abs(x - y).max() / np.abs(y).max()) for x, y in zip(found, expected, strict=True))
    yield "Inception features, relative", "mseitzer/pytorch-fid", error, 0.0
    yield "FID", "mseitzer/pytorch-fid", *_frechet(found, expected, formula)


def fvd(folder: Path) -> Iterator[Row]:
    canonical = theirs(folder, "pytorch-i3d", "pytorch_i3d").InceptionI3d(400, in_channels=3)
    formula = theirs(folder, "pytorch-fid/src", "pytorch_fid.fid_score").calculate_frechet_distance
    ours = seeded(I3D())
    same_weights(canonical, ours)
    clips = [pictures(40, 96), pictures(40, 96)]  # four windows
    judge = Fvd(ours)
    judge.add(*clips)
    found = judge.features()
    assert found is not None
    expected = []
    for frames in clips:
        x = nn.functional.interpolate(tensor(frames), (224, 224), mode="bilinear", align_corners=False)
        windows = [x[i : i + 16].transpose(0, 1)[None] for i in range(0, len(x) - 15, 8)]
        with torch.no_grad():
            expected.append(torch.cat([canonical(w).mean(2) for w in windows]).numpy())
    error = max(float(np.abs(x - y).max() / np.abs(y).max()) for x, y in zip(found, expected, strict=True))
    yield "I3D logits, relative", "piergiaj/pytorch-i3d", error, 0.0
    yield "FVD", "piergiaj/pytorch-i3d, pytorch-fid's formula", *_frechet(found, expected, formula)


def _frechet(found: tuple[np.ndarray, ...], expected: list[np.ndarray], formula: Callable) -> tuple[float, float]:
    """Both distances, over the features that vary most: fewer than samples, so that the canonical matrix root is defined."""
    order = np.argsort(-expected[0].var(0))[: len(expected[0]) - 1]
    a, b = (np.ascontiguousarray(x[:, order]) for x in found)
    u, v = (x[:, order].astype(np.float64) for x in expected)
    canonical = formula(u.mean(0), np.cov(u, rowvar=False), v.mean(0), np.cov(v, rowvar=False))
    return float(distance_of([(a, b)]) or 0), float(canonical)


def identity(folder: Path) -> Iterator[Row]:
    loss = theirs(folder, "encoder4editing", "criteria.id_loss")
    ours = seeded(ArcFace())
    with (
        mock.patch.object(torch, "load", lambda *_, **__: {}),
        mock.patch.object(loss.Backbone, "load_state_dict", lambda *_, **__: None),
        redirect_stdout(io.StringIO()),
    ):  # it says that it loads
        canonical = loss.IDLoss()
    same_weights(canonical.facenet, ours)
    a, b = tensor(pictures(2, 256)).split(1)
    yield "L_ID", "omertov/encoder4editing", float(1 - (ours(a) * ours(b)).sum()), float(canonical(a, b, b)[0])
    judge = seeded(CurricularFace())
    backbone = same_weights(theirs(folder, "encoder4editing", "models.encoders.model_irse").IR_101(112), judge)
    x, y = tensor(pictures(2, 112)).split(1)
    mine = float(1 - (judge.embed(x) * judge.embed(y)).sum())  # type: ignore[operator]
    yield "L_ID by CurricularFace", "encoder4editing's IR-101", mine, float(1 - (backbone(x) * backbone(y)).sum())


def faces(folder: Path) -> Iterator[Row]:
    resnet = import_module("torchvision.models.resnet")
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    gaze = seeded(L2CS())
    for name in ("fc_yaw_gaze", "fc_pitch_gaze"):
        gaze.get_submodule(name).weight.mul_(0.02)  # so that more than one bin counts
    model = theirs(folder, "L2CS-Net", "l2cs.model").L2CS(resnet.Bottleneck, [3, 4, 6, 3], 90)
    same_weights(model, gaze)
    x = tensor(pictures(1, 448))
    first = model(((x + 1) / 2 - mean) / std)[0].softmax(1)
    angle = float((first * torch.arange(90)).sum() * 4 - 180)
    yield "gaze angle, degrees", "Ahmednull/L2CS-Net", float(gaze(x)[0, 0]), angle
    units = seeded(LibreFace())
    units.get_submodule("classifier.4").weight.mul_(0.1)
    encoder = nn.Sequential(*list(resnet.resnet18().children())[:-1])
    same_weights(encoder, units, lambda name: f"encoder.{name}")
    head = units.classifier
    x = tensor(pictures(1, 256))
    seen = encoder(((x[:, :, 16:-16, 16:-16] + 1) / 2 - mean) / std).flatten(1)
    canonical = 5 * head["4"](head["2"](head["0"](seen).relu())).sigmoid()  # type: ignore[index, operator]
    yield "AU01 intensity", "torchvision's ResNet-18, LibreFace's head", float(units(x)[0, 0]), float(canonical[0, 0])


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    torchvision(folder)
    print("| metric | canonical implementation | mien | canonical | difference |\n| --- | --- | --- | --- | --- |")
    worst = 0.0
    with torch.no_grad():
        for rows in (pixels(), perceptual(folder), fid(folder), fvd(folder), identity(folder), faces(folder)):
            for metric, whose, mine, canonical in rows:
                difference = abs(mine - canonical) / (abs(canonical) or 1.0)
                worst = max(worst, difference)
                print(f"| {metric} | {whose} | {mine:.7g} | {canonical:.7g} | {difference:.1e} |", flush=True)
    print(f"\nThe largest relative difference: {worst:.1e}")
    if worst > 1e-4:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
