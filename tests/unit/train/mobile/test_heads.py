"""What the heads of `ffhq-mobile` cannot be trained for is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from factories.packs import tiny_mobile_pack
from mien.errors import InputError
from mien.nets.mobile_stylegan import MobileGenerator
from mien.train.mobile.heads import train


def test_a_size_without_a_head_is_said(tmp_path: Path) -> None:
    generator = tiny_mobile_pack().generator
    assert isinstance(generator, MobileGenerator)
    with pytest.raises(InputError, match="no head for pictures of 48: there are 16, 32, 64"):
        train(generator, 48, tmp_path / "pictures", tmp_path / "head48")
    assert not (tmp_path / "head48").exists()
