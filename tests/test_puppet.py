"""A tuned person that another drives: noise constants count half where the face moves, and nothing else changes."""

from __future__ import annotations

import copy
from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from tiny import tiny_pack

from mien.models.stylegan2 import SynthesisLayer
from mien.nets.stylespace import channel_table
from mien.packs.delta import apply_delta, encode_delta
from mien.packs.pack import Pack
from mien.puppet import to_be_driven
from mien.render import puppeteer
from mien.stream import Stream


def noisy(pack: Pack) -> bytes:
    """A tuning that gives every noise constant the value 0.2 and nudges the other weights."""
    tuned = copy.deepcopy(pack.generator)
    with torch.no_grad():
        for block in tuned.blocks:
            if isinstance(block, SynthesisLayer):
                block.noise_const.fill_(0.2)
                block.bias += 0.01
    return encode_delta(pack.generator, tuned)


def still(pack: Pack, person: int, tuning: bytes) -> Stream:
    return Stream(
        pack.fingerprint, pack.name, pack.resolution, Fraction(25), channel_table(pack.channels),
        pack.people[person].numpy().astype(np.float16), np.zeros((2, 35), np.float16), tuning=tuning,
    )  # fmt: skip


def test_noise_counts_half_where_a_face_moves() -> None:
    pack = Pack.load("mini")
    tuning = noisy(pack)
    before = apply_delta(pack.generator, tuning)
    after = apply_delta(pack.generator, to_be_driven(pack, tuning, pack.people[0]))
    for a, b in zip(before.blocks, after.blocks, strict=True):
        if not isinstance(a, SynthesisLayer):
            continue
        np.testing.assert_allclose(a.conv.weight, b.conv.weight, atol=1e-6)
        np.testing.assert_allclose(a.bias, b.bias, atol=1e-6)
        share = (b.noise_const / a.noise_const).numpy()
        assert share.min() > 0.49 and share.max() < 1.01
        if len(share) >= 64:  # lips and eyes half, the rim whole
            assert share.min() < 0.52 and np.abs(share[0] - 1).max() < 0.01 and np.abs(share[-1] - 1).max() < 0.01
            assert 0.05 < (share < 0.75).mean() < 0.35


def test_only_another_driver_changes_a_persons_tuning() -> None:
    pack = Pack.load("mini")
    person = still(pack, 0, noisy(pack))
    driven = lambda driver, person: puppeteer(driver, person, pack=pack, tune_portrait=False).tuning
    assert driven(still(pack, 1, b""), person) != person.tuning
    assert driven(replace(person, tuning=b""), person) == person.tuning
    assert driven(still(pack, 1, b""), replace(person, tuning=b"")) == b""


def test_what_cannot_be_told_is_left_alone() -> None:
    small = tiny_pack(0)
    compact = b"MTL1 and the rest"
    assert to_be_driven(small, compact, small.people[0]) is compact
    blind = replace(small, networks={k: v for k, v in small.networks.items() if k != "parser"})
    tuning = encode_delta(small.generator, tiny_pack(1).generator)
    assert to_be_driven(blind, tuning, small.people[0]) is tuning
