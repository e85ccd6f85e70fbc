"""Public weight files of judges that have the names of our own tensors."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from torch import nn

from mien.errors import PackError
from mien.packs.layouts import Fill
from mien.packs.torchfile import DAMAGE, load_checkpoint, tensors
from mien.packs.unpickle import Refused

_Network = TypeVar("_Network", bound=nn.Module)


def read_weights(network: _Network, path: str | Path, what: str) -> _Network:
    """Fill `network` with the tensors of a `.pt` or `.pth` file, every shape checked; nothing of the file is run.

    Returns the network in evaluation mode, without gradients. Raises PackError when the file is not `what`.
    """
    tree = load_checkpoint(path)
    try:
        inner = tree.get("state_dict") if isinstance(tree, dict) else None
        Fill(what, tensors(inner if isinstance(inner, dict) else tree)).module(network)
    except Refused as refusal:
        raise PackError(f"{path} {refusal}.") from None
    except DAMAGE:
        raise PackError(f"{path} holds tensors of unexpected shapes.") from None
    return network.eval().requires_grad_(False)
