"""What every conversion of checkpoint files needs: reading, checking, hashing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mien.errors import PackError
from mien.packs.convert import checkpoint_layouts
from mien.packs.convert.pickle_names import UnsafePickle
from mien.packs.convert.torchfile import DAMAGE, load_checkpoint
from mien.packs.pack import Pack


@dataclass(frozen=True)
class Source:
    """A file that went into a pack: its role, name and SHA-256."""

    role: str
    file: str
    sha256: str


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_layout(layout: Any, path: Path) -> Any:
    """Apply a function of `checkpoint_layouts` to a file. Raises PackError when the file is something else."""
    try:
        return layout(load_checkpoint(path))
    except UnsafePickle as refusal:
        raise PackError(f"{path} {refusal}.") from None
    except DAMAGE:
        raise PackError(f"{path} holds tensors of unexpected shapes.") from None


def read_lpips(heads: Path, backbone: Path, kind: checkpoint_layouts.Backbone) -> nn.Module:
    """LPIPS of its two files. Raises PackError."""
    loaded = load_checkpoint(heads)
    return read_layout(lambda tree: checkpoint_layouts.lpips(loaded, tree, kind), backbone)


@contextmanager
def answering(slot: str) -> Iterator[None]:
    """Run the network of a slot. Raises PackError that names it where it does not fit what it is given."""
    try:
        yield
    except DAMAGE as error:
        why = str(error).partition("\n")[0]
        raise PackError(f"the pack's {slot} network does not work with the others: {why}") from error


def add_network(pack: Pack, slot: str, kind: str, network: nn.Module, config: dict[str, Any]) -> None:
    """Put a network into a slot of the pack. Raises PackError where it holds numbers that are not finite."""
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise PackError(f"the {slot} checkpoint is damaged: {name} holds numbers that are not finite.")
    pack.networks[slot] = network
    units = getattr(network, "units", None)  # of a residual trunk
    if units is not None:
        config = config | {"units": [list(group) for group in units]}
    pack.configs[slot] = {"kind": kind, **config}
