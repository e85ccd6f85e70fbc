"""`mien models export`: ONNX files that give what PyTorch gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from factories.commands import Run
from factories.packs import tiny_mobile_pack
from mien.method.avatar import Avatar
from mien.nets.stylespace import add_channels
from mien.packs.onnx_export import export
from mien.packs.pack import Pack

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed: export is not tested")
pytest.importorskip("onnx", reason="the extra `onnx` is not installed: export is not tested")


def result(path: Path, **inputs: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(path)
    return session.run(None, {key: value.numpy() for key, value in inputs.items()})[0]


def assert_the_same(folder: Path, pack: Pack) -> None:
    """The files give what the pack gives, on other numbers than those that they were made with."""
    person, alpha, angles = pack.people[2:3].clone(), torch.full((1, 32), 0.3), torch.tensor([[-12.0, 6.0]])
    image = pack.generator.synthesis_from_styles(add_channels(pack.generator.styles(person), pack.channels, alpha))
    turned = Avatar(pack.generator, pack.flow, pack.channels, person[0]).latents(angles)
    for got, expected in (
        (result(folder / "generator.onnx", w_plus=person, alpha=alpha), image),
        (result(folder / "flow.onnx", identity=person, angles=angles), turned),
        (result(folder / "encoder.onnx", image=image), pack.encoder(image)),
    ):
        assert np.abs(got - expected.numpy()).max() <= 1e-3 * expected.abs().max()


def test_the_files_give_what_the_pack_gives(pack: Pack, pack_file: Path, run: Run, tmp_path: Path) -> None:
    code, out, err = run("models", "export", pack_file, "-o", tmp_path / "onnx")
    assert code == 0, err
    assert out.count("opset 17") == 3
    assert sorted(p.name for p in (tmp_path / "onnx").iterdir()) == ["encoder.onnx", "flow.onnx", "generator.onnx"]
    assert_the_same(tmp_path / "onnx", pack)


@pytest.mark.parametrize("size", [128, 32])
def test_a_mobile_generator_and_its_heads_give_what_the_pack_gives(size: int, tmp_path: Path) -> None:
    pack = tiny_mobile_pack().at(size)
    list(export(pack, tmp_path))
    assert_the_same(tmp_path, pack)


def test_a_size_that_the_pack_does_not_draw_is_refused(pack_file: Path, run: Run, tmp_path: Path) -> None:
    code, _, err = run("models", "export", pack_file, "-o", tmp_path / "onnx", "--size", 512)
    assert code == 2 and "not of 512" in err and not (tmp_path / "onnx").exists()


def test_an_output_that_is_a_file_is_refused(pack_file: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "onnx").write_text("dear")
    code, _, err = run("models", "export", pack_file, "-o", tmp_path / "onnx")
    assert code == 2 and "is a file, not a folder" in err
    assert (tmp_path / "onnx").read_text() == "dear"
