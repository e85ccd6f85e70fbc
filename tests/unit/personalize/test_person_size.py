"""The smallest person that a generator's difference fits in."""

from __future__ import annotations

import re

import pytest

from mien.errors import InputError
from mien.packs.pack import Pack
from mien.personalize.generator_params import weights_for


def test_what_cannot_be_met_is_said_before_anything_is_learned(pack: Pack) -> None:
    with pytest.raises(InputError, match="bytes at least") as refused:
        weights_for(pack.generator, 100)
    least = int(re.findall(r"takes ([\d,]+)", str(refused.value))[0].replace(",", ""))
    assert len(weights_for(pack.generator, least).export()[1]) <= least
