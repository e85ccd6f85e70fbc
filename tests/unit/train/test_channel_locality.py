"""Holding channels to their masks, on the embedded pack: the generator learns from itself what one channel may change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mien.packs.pack import Pack
from mien.train.channel_locality import LocalityTrainer, train


@pytest.mark.slow
def test_a_channel_learns_to_leave_the_rest_alone(mini: Pack) -> None:
    trainer = LocalityTrainer(mini, mini.people, torch.zeros(len(mini.people), 2), torch.arange(8), 0)
    optimiser = torch.optim.Adam(trainer.parameters(), lr=3e-4)

    def losses() -> dict[str, torch.Tensor]:
        trainer.random.manual_seed(1)  # the same people and channels each time
        trainer.leak_estimate[:] = 1
        return trainer.losses(2)

    first = losses()
    assert trainer.unmoved_psnr > 60 and float(first["edit"].detach()) > 0.02, "it is learned from the generator itself"
    torch.manual_seed(0)
    with torch.no_grad():
        for block in trainer.generator.blocks:  # spoiled, there is something to learn
            block.conv.weight += 0.03 * torch.randn_like(block.conv.weight)
    sums = []
    for _ in range(6):
        now = losses()
        assert set(now) == {"whole", "detail", "edit", "eyes", "maps"}
        sums.append({name: float(value.detach()) for name, value in now.items()})
        optimiser.zero_grad()
        torch.stack(list(now.values())).sum().backward()
        optimiser.step()
    assert all(sums[-1][name] < sums[0][name] for name in ("whole", "edit", "eyes"))
    for (name, now), before in zip(trainer.generator.named_parameters(), mini.generator.parameters(), strict=True):
        assert torch.equal(now, before) != (name.endswith(("conv.weight", "bias")) and "affine" not in name), name


@pytest.mark.slow
def test_it_trains_goes_on_and_writes_a_pack(mini: Pack, face_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "pack.safetensors"
    mini.save(source)
    for _ in range(2):
        train(source, face_folder, tmp_path / "run", minutes=1.0, steps=1, batch=1)
    steps = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"]
    made = Pack.load(tmp_path / "run" / "pack.safetensors")
    assert steps == 2 and len(list((tmp_path / "run").glob("sheet_*.png"))) == 2
    assert made.channels == mini.channels and made.fingerprint != mini.fingerprint
    assert torch.equal(made.people, mini.people)
