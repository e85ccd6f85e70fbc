"""Styles from the table are those of the flow and the affine layers."""

from __future__ import annotations

import numpy as np
import torch

from mien.method.avatar import Avatar
from mien.method.live_styles import StyleTable
from mien.packs.pack import Pack


def test_table_has_the_avatars_styles(pack: Pack) -> None:
    avatar = Avatar(pack.generator, pack.flow, pack.channels, pack.people[0])
    table, limit = StyleTable(avatar), pack.flow.pose.limit
    random = np.random.default_rng(0)
    spread = torch.cat(
        [torch.cat(avatar.styles(torch.tensor([[a, 0.0]]), torch.zeros(1, 32)), 1) for a in (-limit, limit)]
    )
    unit = float((spread[0] - spread[1]).abs().max())
    for angles in ([0.0, 0.0], [limit, -limit], [-limit, limit], *random.uniform(-limit, limit, (20, 2))):
        alpha = random.standard_normal(32)
        with torch.no_grad():
            wanted = avatar.styles(
                torch.tensor(np.asarray(angles)[None]).float(), torch.from_numpy(alpha)[None].float()
            )
        found = table(np.asarray(angles), alpha)
        assert [f.shape for f in found] == [w.shape for w in wanted]
        assert max(float((f - w).abs().max()) for f, w in zip(found, wanted, strict=True)) < 0.02 * unit
