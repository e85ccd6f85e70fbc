"""A pack's networks as ONNX files, for TensorRT, CoreML, OpenVINO and the like.

`generator.onnx`: `w_plus [1, L, D]` and `alpha [1, C]`, offsets on the channels V, to `image [1, 3, R, R]` (Eq. 13).
`flow.onnx`: `identity [1, L, D]` and `angles [1, 2]` (yaw, pitch in degrees) to `w_plus [1, L, D]` (Eq. 4's latent).
`encoder.onnx`: `image [1, 3, S, S]` in [-1, 1] to `w_plus [1, L, D]`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mien.errors import InputError, MienError, PackError
from mien.nets.stylespace import add_channels
from mien.packs.pack import Pack
from mien.runtime.files import check_output_folder

OPSET = 17
LARGEST_DIFFERENCE = 1e-3  # of the runtime's output to PyTorch's, in parts of the latter's largest number
PARTS = ("generator", "flow", "encoder")


@dataclass(frozen=True)
class Exported:
    """One written file, and by how much ONNX Runtime's result differs from PyTorch's, relative to its largest
    number."""

    path: Path
    difference: float

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.path.stat().st_size:,} bytes, opset {OPSET}, largest difference {self.difference:.1e}"
        )


class _Generator(nn.Module):
    def __init__(self, pack: Pack) -> None:
        super().__init__()
        self.generator, self.channels = pack.generator, pack.channels

    def forward(self, w_plus: Tensor, alpha: Tensor) -> Tensor:
        return self.generator.synthesis_from_styles(add_channels(self.generator.styles(w_plus), self.channels, alpha))


class _Flow(nn.Module):
    def __init__(self, pack: Pack) -> None:
        super().__init__()
        self.flow = pack.flow

    def forward(self, identity: Tensor, angles: Tensor) -> Tensor:
        return self.flow(identity, torch.zeros_like(angles), angles)


def check_exportable(folder: Path) -> None:
    """Check that the folder can be made or is there, and that the packages are installed. Raises InputError and
    OutputError."""
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise InputError(f"export needs {' and '.join(missing)}: pip install 'mien[onnx]'.")
    check_output_folder(folder)


def export(pack: Pack, folder: Path) -> Iterator[Exported]:
    """Write `generator.onnx`, `flow.onnx` and `encoder.onnx`, each checked against PyTorch, and yield them one by one.

    Files of these names are replaced, each whole or not at all. Raises as `check_exportable`, PackError for
    a network that the pack lacks or an encoder that is several, MienError where the results differ by more than 1e-3.
    """
    check_exportable(folder)
    for slot in PARTS:
        pack.need(slot)
    if not isinstance(pack.encoder, nn.Module):
        raise PackError(f"the encoder of the pack {pack.name!r} is no network that can be exported.")
    folder.mkdir(exist_ok=True)
    random = torch.Generator().manual_seed(0)
    person = pack.people[:1].clone()
    picture = torch.rand(1, 3, pack.resolution, pack.resolution, generator=random) * 2 - 1
    alpha = 0.1 * torch.randn(1, len(pack.channels), generator=random)
    angles = torch.tensor([[8.0, -5.0]])
    yield _write(_Generator(pack), {"w_plus": person, "alpha": alpha}, "image", folder / "generator.onnx")
    yield _write(_Flow(pack), {"identity": person, "angles": angles}, "w_plus", folder / "flow.onnx")
    yield _write(pack.encoder, {"image": picture}, "w_plus", folder / "encoder.onnx")


def _write(network: nn.Module, inputs: dict[str, Tensor], output: str, path: Path) -> Exported:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constants of a network's shape look like choices to the tracer
            torch.onnx.export(
                network.eval(), tuple(inputs.values()), str(temporary), input_names=list(inputs), output_names=[output],
                opset_version=OPSET, dynamo=False,
            )  # fmt: skip
            expected = network(*inputs.values()).numpy()
        difference = _difference(temporary, inputs, expected)
        if not difference <= LARGEST_DIFFERENCE:
            raise MienError(f"{path.name} was not written: its results differ from PyTorch's by {difference:.1e}.")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return Exported(path, difference)


def _difference(path: Path, inputs: dict[str, Tensor], expected: np.ndarray) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    return float(np.abs(result - expected).max() / np.abs(expected).max())
