"""What the encoder of `ffhq-mobile` cannot be trained from is said before it is trained."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import torch

from mien.errors import InputError
from mien.media.images import to_bytes
from mien.media.still_images import write_image
from mien.nets.encoders import Encoder, EncoderConfig
from mien.train.mobile import __main__ as commands
from mien.train.mobile.encoder import read_faces, train_on_pairs


def test_faces_and_clips_are_read_before_anything_is_trained(tmp_path: Path) -> None:
    """The wheel is not there either: it is opened after them."""
    (tmp_path / "broken.tar").write_bytes(b"no archive")
    write_image(tmp_path / "face.png", to_bytes(torch.zeros(1, 3, 64, 64))[0])
    with tarfile.open(tmp_path / "one.tar", "w") as tar:
        tar.add(tmp_path / "face.png")
        tar.addfile(tarfile.TarInfo("notes.txt"), io.BytesIO())
    assert len(read_faces(tmp_path / "one.tar")) == 1
    wheel = tmp_path / "none.whl"
    for faces, said in (("none.tar", "cannot be read"), ("broken.tar", "cannot be read"), ("one.tar", "1 faces were")):
        with pytest.raises(InputError, match=said):
            commands.encoder(wheel, tmp_path, faces=tmp_path / faces)
    with pytest.raises(InputError, match="holds no .mp4 clips"):
        commands.encoder(wheel, tmp_path, clips=tmp_path / "none")


def test_too_few_shards_are_said(tmp_path: Path) -> None:
    encoder = Encoder(EncoderConfig(10, 32, width=8))
    with pytest.raises(InputError, match="holds 0 shards"):
        train_on_pairs(encoder, tmp_path / "samples", tmp_path / "run")
    assert not (tmp_path / "run").exists()
