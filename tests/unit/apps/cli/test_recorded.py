"""Which videos show a recording beside or around what is rendered, as their content credentials say."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factories.clips import make_clip, pictures
from factories.commands import Run
from mien.apps.provenance import Origin, signed_output
from mien.format.stream import Stream
from mien.nets.stylespace import channel_table
from mien.packs.pack import Pack


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What was said of each video that was written."""
    said: list[bool] = []

    def noted(output: Path, signer: Any, origin: Origin) -> Any:
        said.append(origin.composed)
        return signed_output(output, signer, origin)

    monkeypatch.setattr("mien.apps.provenance.signed_output", noted)
    return said


def test_a_render_beside_a_puppet_is_no_recording(
    run: Run, tmp_path: Path, pack: Pack, pack_file: Path, composed: list[bool]
) -> None:
    frames = np.random.default_rng(0).normal(size=(5, 35)) * 0.2
    stream = Stream(
        pack.fingerprint, pack.name, pack.resolution, Fraction(25), channel_table(pack.channels),
        pack.people[0].numpy().astype(np.float16), frames.astype(np.float16),
    )  # fmt: skip
    stream.save(tmp_path / "a.mien")
    replace(stream, identity=pack.people[1].numpy().astype(np.float16)).save(tmp_path / "b.mien")
    clip = make_clip(tmp_path / "a.mp4", pictures(5))
    puppet = ["puppeteer", tmp_path / "a.mien", tmp_path / "b.mien", "-o", tmp_path / "p.mp4", "--pack", pack_file]
    render = ["render", tmp_path / "a.mien", "-o", tmp_path / "r.mp4", "--pack", pack_file]
    for arguments in (puppet, [*puppet, "--compare"], render, [*render, "--compare", clip]):
        code, _, err = run(*arguments)
        assert code == 0, err
    assert composed == [False, False, False, True]
