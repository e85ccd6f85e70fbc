"""Pack files: what is in them fits, or is refused before any memory is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from factories.packs import official_pack, tiny_mobile_pack, tiny_pack
from mien.errors import PackError
from mien.packs.pack import Pack
from mien.packs.registry import BUILDERS


def test_a_network_is_not_built_unless_its_tensors_are_there(
    pack_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head of a small file asks for a generator of some hundred gigabytes: no number of it is made."""
    with safe_open(pack_file, framework="pt") as file:
        header: dict[str, Any] = json.loads(file.metadata()["mien"])
    header["networks"]["generator"]["w_dim"] = 2**32
    save_file(load_file(pack_file), tmp_path / "large.safetensors", metadata={"mien": json.dumps(header)})
    build = BUILDERS["generator"]["stylegan2"]

    def without_memory(config: dict[str, Any]) -> torch.nn.Module:
        assert torch.empty(0).is_meta
        return build(config)

    monkeypatch.setitem(BUILDERS["generator"], "stylegan2", without_memory)
    with pytest.raises(PackError, match="has the shape .*, and its head asks for .*4294967296"):
        Pack.load(tmp_path / "large.safetensors")


@pytest.mark.parametrize("made", [tiny_pack, tiny_mobile_pack, official_pack])
def test_what_is_saved_is_what_loads(made: Any, tmp_path: Path) -> None:
    pack = made()
    pack.save(tmp_path / "a.safetensors", half=False)
    read = Pack.load(tmp_path / "a.safetensors")
    assert set(read.networks) == set(pack.networks)
    for slot, network in pack.networks.items():
        found = read.networks[slot].state_dict()
        assert all(torch.equal(value, found[name]) for name, value in network.state_dict().items())
