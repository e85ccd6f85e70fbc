"""A Pack: everything that was learned, in one safetensors file.

The file holds the tensors of each network under its prefix (`generator.`, `encoder.`, `flow.`, `identity.`,
`parser.`, ...) and one JSON text in the safetensors metadata under `mien`: the networks' shapes, the 32 channels and
the card. Nothing in it can run code. The fingerprint is the SHA-256 of the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mien.errors import MienError, PackError
from mien.nets.e4e import ReStyleLoop
from mien.nets.face_parser import FaceParser, LandmarkReader
from mien.nets.generator import Generator
from mien.nets.lpips import LPIPS
from mien.nets.perceptual import ParserPerceptual, PerceptualNetwork, SeparatePerceptual
from mien.nets.styleflow import HeadPoseFlow
from mien.nets.stylespace import Channel
from mien.packs.registry import BUILDERS
from mien.runtime.memory_format import channels_last

FORMAT = 1
# Embedded packs, and from which resolution the pictures of their generators are valid: their files do not say so.
EMBEDDED = {"mini": 128}


@dataclass(frozen=True)
class StageSizes:
    """Sides, in pixels, of the pictures that stages 3 to 5 look at (a generator that is smaller is looked at as it
    is)."""

    identity: int = 128
    pose: int = 64
    attributes: int = 128


@dataclass
class Pack:
    """All networks of one resolution and their constants.

    `networks` maps a slot of `BUILDERS` to a module in evaluation mode without gradients. Slots may be missing (an
    official pack made from some files only): `need` says so in one sentence.

    `channels_absolute`: whether a channel's value means the same on every person; if not, only its changes carry over
    from one person to another.
    """

    name: str
    networks: dict[str, nn.Module]
    configs: dict[str, dict[str, Any]]
    channels: tuple[Channel, ...]
    card: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = "0" * 64
    channels_absolute: bool = True
    stage_sizes: StageSizes = StageSizes()

    @property
    def generator(self) -> Generator:
        return self.need("generator")  # type: ignore[return-value]

    @property
    def encoder(self) -> nn.Module:
        """Callable: images `[N, 3, H, W]` in [-1, 1] -> `w_plus [N, num_ws, w_dim]`. Without an encoder of its own, a
        pack answers with ReStyle's loop through its generator."""
        if "encoder" not in self.networks and "restyle" in self.networks:
            return ReStyleLoop(self.need("restyle"), self.generator)  # type: ignore[arg-type]
        return self.need("encoder")

    @property
    def flow(self) -> HeadPoseFlow:
        return self.need("flow")  # type: ignore[return-value]

    @property
    def identity(self) -> nn.Module:
        """Callable: images `[N, 3, H, W]` in [-1, 1] -> unit vectors `[N, E]`."""
        return self.need("identity")

    @property
    def parser(self) -> nn.Module:
        """Callable: images `[N, 3, H, W]` in [-1, 1] -> a tuple whose first entry is parsing logits `[N, K, h, w]`."""
        return self.need("parser")

    @property
    def perceptual(self) -> PerceptualNetwork:
        """LPIPS, or the features of a parser that was trained with landmarks where the pack holds no LPIPS."""
        for slot in ("lpips_alex", "lpips_vgg"):
            if slot in self.networks:
                return SeparatePerceptual(cast(LPIPS, self.networks[slot]), self.landmark_reader)
        if self.landmark_reader is None:
            self.need("lpips_alex")
        return ParserPerceptual(cast(FaceParser, self.need("parser")))

    @property
    def landmark_reader(self) -> LandmarkReader | None:
        """The network that reads landmarks off images with a gradient; None where the pack's parser cannot."""
        parser = self.networks.get("parser")
        return parser if isinstance(parser, LandmarkReader) else None

    @property
    def has_people(self) -> bool:
        """Whether there are `people`."""
        return "people" in self.networks or "mapping" in self.networks

    @property
    def people(self) -> Tensor:
        """Latents of other people, `[M, L, D]`: stored ones, or drawn with a fixed seed from the mapping network."""
        if "people" in self.networks:
            return self.networks["people"].w_plus  # type: ignore[return-value]
        mapping = self.need("mapping")
        z = torch.randn(32, self.generator.w_dim, generator=torch.Generator().manual_seed(0)).to(self.device)
        with torch.no_grad():
            return mapping(z)[:, None].expand(-1, self.generator.num_ws, -1)

    @property
    def resolution(self) -> int:
        return self.generator.resolution

    def need(self, slot: str) -> nn.Module:
        """The network in `slot`; raises PackError where the pack does not hold it."""
        if slot not in self.networks:
            raise PackError(f"the pack {self.name!r} has no {slot} network: convert one into it (mien models convert)")
        return self.networks[slot]

    def at(self, size: int | None) -> Pack:
        """The pack with its pictures at another size (None: its own). Raises PackError for one that its generator does
        not draw."""
        if size is None or size == self.resolution:
            return self
        try:
            generator = self.generator.at(size)
        except ValueError:
            sizes = ", ".join(map(str, self.generator.sizes))
            raise PackError(f"the pack {self.name!r} draws pictures of {sizes} pixels, not of {size}.") from None
        return replace(self, networks=self.networks | {"generator": generator})

    def to(self, device: str | torch.device) -> Pack:
        """Move all networks to a device, in place; returns the pack."""
        for network in self.networks.values():
            network.to(device)
        return self

    @property
    def device(self) -> torch.device:
        return self.generator.device

    def save(self, path: str | Path, *, half: bool = True) -> None:
        """Write the pack, whole or not at all. `half`: floating tensors as float16 (the embedded pack does).

        Raises PackError where a number is too large for that.
        """
        tensors: dict[str, Tensor] = {}
        for slot, network in self.networks.items():
            for name, tensor in network.state_dict().items():
                tensor = tensor.detach().cpu().contiguous()
                if half and tensor.is_floating_point():
                    tensor = tensor.half()
                    if not bool(torch.isfinite(tensor).all()):
                        raise PackError(f"{slot}.{name} does not fit in half floats: write the pack without them.")
                tensors[f"{slot}.{name}"] = tensor
        text = json.dumps(
            {
                "format": FORMAT,
                "name": self.name,
                "networks": self.configs,
                "channels": [asdict(c) for c in self.channels],
                "channels_absolute": self.channels_absolute,
                "stage_sizes": asdict(self.stage_sizes),
                "card": self.card,
            }
        )
        path = Path(path)
        temporary = path.with_name(path.name + ".tmp")
        try:
            save_file(tensors, temporary, metadata={"mien": text})
            os.replace(temporary, path)
        except (OSError, SafetensorError) as error:
            raise MienError(f"{path} could not be written: {_first_line(error)}.") from error
        finally:
            temporary.unlink(missing_ok=True)

    @staticmethod
    def load(name_or_path: str | Path) -> Pack:
        """Load `mini` (embedded) or a pack file. Raises PackError with one sentence if it cannot be used.

        The two packs that were loaded last are kept: while a file is unchanged the same object is returned, so treat its
        networks as constants.
        """
        path = locate(name_or_path)
        if not os.path.isfile(path):
            known = ", ".join(EMBEDDED)
            raise PackError(
                f"there is no pack {str(name_or_path)!r}: neither a file nor one of the embedded ({known}); "
                "`mien models list` names more"
            )
        return _load_as_it_is(path)

    @staticmethod
    def named(name: str) -> Pack:
        """Load a pack by a name that a file or another machine gives: an embedded one, or one in `$MIEN_HOME/packs`.

        Such a name is never taken as a path, so that it cannot make this machine read a file of another's choice.
        Raises PackError as `load`.
        """
        path = _installed(name)
        if path is None:
            known = ", ".join(EMBEDDED)
            raise PackError(
                f"there is no pack of the name {name!r}, neither embedded ({known}) nor in {_packs_folder()}; "
                "`mien models list` names more"
            )
        return _load_as_it_is(path)


def locate(name_or_path: str | Path) -> Path:
    """Locate a pack's file: embedded ones by name, others in `$MIEN_HOME` (default `~/.mien`) or by path. The file need
    not be there (`os.path.isfile` says so of any text)."""
    return _installed(str(name_or_path)) or Path(name_or_path)


def _installed(name: str) -> Path | None:
    """The file of the embedded pack of that name or of the one in `$MIEN_HOME/packs`; None where there is none."""
    if name in EMBEDDED:
        return Path(str(resources.files("mien.packs").joinpath(name, f"{name}.safetensors")))
    path = _packs_folder() / f"{name}.safetensors"
    return path if "/" not in name and os.sep not in name and os.path.isfile(path) else None


def _packs_folder() -> Path:
    return Path(os.environ.get("MIEN_HOME", Path.home() / ".mien")) / "packs"


def _load_as_it_is(path: Path) -> Pack:
    status = path.stat()
    return _load(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=2)
def _load(path: Path, modified: int, size: int) -> Pack:
    networks: dict[str, nn.Module] = {}
    try:
        with path.open("rb") as whole:
            fingerprint = hashlib.file_digest(whole, "sha256").hexdigest()
        with safe_open(path, framework="pt") as file:
            header = _Header.read(file.metadata() or {}, path)
            names = list(file.keys())
            # One network after the other: an official pack fills gigabytes.
            for slot, config in header.networks.items():
                networks[slot] = _build(slot, dict(config), file, [n for n in names if n.startswith(f"{slot}.")])
    except (SafetensorError, json.JSONDecodeError, OSError, UnicodeDecodeError) as error:
        raise PackError(f"{path} cannot be read as a pack: {_first_line(error)}") from error
    except (LookupError, ArithmeticError, TypeError, ValueError, RuntimeError, AttributeError, AssertionError) as error:
        raise PackError(f"{path} is damaged or made by another version: {_first_line(error)}") from error
    except MemoryError as error:
        raise PackError(f"{path} asks for more memory than there is: it is damaged, or too large.") from error
    generator = networks.get("generator")
    if isinstance(generator, Generator) and header.networks["generator"].get("rgb_valid_from") is None:
        generator.rgb_valid_from = EMBEDDED.get(header.name, generator.rgb_valid_from)
    for slot, network in networks.items():
        numbers = (t for t in network.state_dict().values() if t.is_floating_point())
        if not all(bool(torch.isfinite(t).all()) for t in numbers):
            raise PackError(f"{path} is damaged: the {slot} network holds numbers that are not finite")
    return Pack(
        header.name, networks, header.networks, header.channels, header.card, fingerprint, header.channels_absolute,
        header.stage_sizes,
    )  # fmt: skip


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


@dataclass(frozen=True)
class _Header:
    """The JSON text of a pack, checked."""

    name: str
    networks: dict[str, dict[str, Any]]
    channels: tuple[Channel, ...]
    channels_absolute: bool
    stage_sizes: StageSizes
    card: dict[str, Any]

    @staticmethod
    def read(metadata: dict[str, str], path: Path) -> _Header:
        """Raises PackError for another kind of file or format, ValueError, TypeError or KeyError for what is
        damaged."""
        if "mien" not in metadata:
            raise PackError(f"{path} is a safetensors file but not a mien pack")
        header = json.loads(metadata["mien"])
        if not isinstance(header, dict):
            raise TypeError("its head is no JSON object")
        if header.get("format") != FORMAT:
            raise PackError(f"{path} is a pack of format {header.get('format')}, this mien reads format {FORMAT}")
        networks, card = header["networks"], header.get("card", {})
        tables = isinstance(networks, dict) and all(isinstance(config, dict) for config in networks.values())
        if not tables or not isinstance(card, dict) or not isinstance(header["name"], str):
            raise TypeError("its head has a value of a wrong kind")
        channels = tuple(Channel(**c) for c in header["channels"])
        for channel in channels:
            if min(channel.layer, channel.index) < 0 or not 0 < channel.scale < float("inf"):
                raise ValueError(f"{channel} cannot be a channel")
        sizes = StageSizes(**header.get("stage_sizes", {}))
        if not all(isinstance(side, int) and side > 0 for side in asdict(sizes).values()):
            raise ValueError("its stages' sizes are no sizes")
        return _Header(header["name"], networks, channels, bool(header.get("channels_absolute", True)), sizes, card)


def _build(slot: str, config: dict[str, Any], file: Any, names: list[str]) -> nn.Module:
    builder = BUILDERS[slot][config.pop("kind")]
    _check_shapes(slot, builder, config, {name: tuple(file.get_slice(name).get_shape()) for name in names})
    network = builder(config)
    state = {name.removeprefix(f"{slot}."): file.get_tensor(name) for name in names}
    network.load_state_dict({name: v.float() if v.is_floating_point() else v for name, v in state.items()}, assign=True)
    network = network.eval().requires_grad_(False)
    flat = all(p.ndim < 5 for p in network.parameters())  # convolutions over time have no such order
    return channels_last(network) if flat else network


def _check_shapes(
    slot: str,
    builder: Callable[[dict[str, Any]], nn.Module],
    config: dict[str, Any],
    shapes: dict[str, tuple[int, ...]],
) -> None:
    """Raise ValueError unless the network that `config` asks for has tensors of just these `shapes`, by their names in the
    file, before any memory is taken: a few bytes of text could ask for more than there is."""
    with torch.device("meta"), _WithoutNumbers():
        asked = {f"{slot}.{name}": tuple(tensor.shape) for name, tensor in builder(dict(config)).state_dict().items()}
    for name in sorted(asked.keys() | shapes.keys()):
        if asked.get(name) != shapes.get(name):
            raise ValueError(f"its {name} has the shape {shapes.get(name)}, and its head asks for {asked.get(name)}")


class _WithoutNumbers(TorchFunctionMode):
    """Leaves out what draws and scales the numbers of a network that is built on the device `meta`: torch's ways to do so
    there import SymPy, which takes a second."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (torch.Tensor.div, torch.Tensor.__truediv__) and isinstance(args[1], (int, float)):
            return args[0]
        return (torch.empty if function is torch.randn else function)(*args, **(kwargs or {}))
