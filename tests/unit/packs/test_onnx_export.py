"""`mien models export`: ONNX files that give what PyTorch gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from factories.commands import Run
from factories.packs import tiny_mobile_pack
from mien.errors import PackError
from mien.method.avatar import pose_latents
from mien.nets.stylespace import add_channels
from mien.packs.onnx_export import export
from mien.packs.pack import Pack

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed: export is not tested")
pytest.importorskip("onnx", reason="the extra `onnx` is not installed: export is not tested")


def test_the_files_give_what_the_pack_gives(pack: Pack, pack_file: Path, run: Run, tmp_path: Path) -> None:
    code, out, err = run("models", "export", pack_file, "-o", tmp_path / "onnx")
    assert code == 0, err
    assert out.count("opset 17") == 3
    assert sorted(p.name for p in (tmp_path / "onnx").iterdir()) == ["encoder.onnx", "flow.onnx", "generator.onnx"]

    def result(name: str, **inputs: torch.Tensor) -> np.ndarray:
        session = onnxruntime.InferenceSession(tmp_path / "onnx" / f"{name}.onnx")
        return session.run(None, {key: value.numpy() for key, value in inputs.items()})[0]

    # Other numbers than those that the files were made with.
    person, alpha, angles = pack.people[2:3], torch.full((1, 32), 0.3), torch.tensor([[-12.0, 6.0]])
    image = pack.generator.synthesis_from_styles(add_channels(pack.generator.styles(person), pack.channels, alpha))
    turned = pose_latents(pack.flow, person[0], angles)
    for got, expected in (
        (result("generator", w_plus=person, alpha=alpha), image),
        (result("flow", identity=person, angles=angles), turned),
        (result("encoder", image=image), pack.encoder(image)),
    ):
        assert np.abs(got - expected.numpy()).max() <= 1e-3 * expected.abs().max()


def test_an_output_that_is_a_file_is_refused(pack_file: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "onnx").write_text("dear")
    code, _, err = run("models", "export", pack_file, "-o", tmp_path / "onnx")
    assert code == 2 and "is a file, not a folder" in err
    assert (tmp_path / "onnx").read_text() == "dear"


def test_a_generator_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="stylegan2 is needed"):
        list(export(tiny_mobile_pack(), tmp_path / "onnx"))
    assert not (tmp_path / "onnx").exists()
