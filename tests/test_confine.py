"""Holding channels to their masks, on the embedded pack: the generator learns from itself what one channel may change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mien.packs.pack import Pack
from mien.train import confine
from mien.train.confine import Confiner


def test_a_channel_learns_to_leave_the_rest_alone() -> None:
    pack = Pack.load("mini")
    trainer = Confiner(pack, pack.people, torch.zeros(len(pack.people), 2), torch.arange(8), 0)
    optimiser = torch.optim.Adam(trainer.parameters(), lr=3e-4)
    edits = []
    for _ in range(7):
        trainer.random.manual_seed(1)  # the same people and channels each time
        trainer.outside[:] = 1
        losses = trainer.losses(2)
        assert all(torch.isfinite(v) for v in losses.values())
        edits.append(float(losses["edit"].detach()))
        if len(edits) == 1:
            assert trainer.kept > 60 and edits[0] > 0.02, "what is learned from is the generator itself"
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
    assert edits[-1] < edits[0]
    assert trainer.kept > 30
    for (name, now), before in zip(trainer.generator.named_parameters(), pack.generator.parameters(), strict=True):
        assert torch.equal(now, before) != (name.endswith(("conv.weight", "bias")) and "affine" not in name), name


def test_it_trains_goes_on_and_writes_a_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = Pack.load("mini")
    source = tmp_path / "pack.safetensors"
    pack.save(source)
    monkeypatch.setattr(confine, "Faces", lambda *_: None)
    people = pack.people[:4], torch.zeros(4, 2), torch.arange(4)
    monkeypatch.setattr(confine, "latents_of", lambda *_: people)
    for _ in range(2):
        confine.train(source, tmp_path, tmp_path / "run", minutes=0.03, batch=1)
    steps = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"]
    made = Pack.load(tmp_path / "run" / "pack.safetensors")
    assert steps >= 2 and len(list((tmp_path / "run").glob("sheet_*.png"))) == 2
    assert made.channels == pack.channels and made.fingerprint != pack.fingerprint
    assert torch.equal(made.people, pack.people)
