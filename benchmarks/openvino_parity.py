"""The generator and the mapping network of `ffhq-mobile` against the wheel's own graphs, run by OpenVINO.

    pip install openvino                      # for this comparison only
    python benchmarks/openvino_parity.py [WHEEL] [--latents 10]

WHEEL: by default the one that `mien models pull ffhq-mobile` left. Random latents of W, the same for all rows, and of
W+, each row its own: the graph has one input for all rows, and is given one for each affine map. Relative error: the
norm of the difference over that of what the graph gives.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from openvino import opset13 as operations

from mien.packs.convert import mobile_stylegan
from mien.packs.pull_ffhq_mobile import NAME, WHEEL, graph, with_heads
from mien.packs.zoo import home

Array = NDArray[np.float32]


def with_rows(model: openvino.Model) -> openvino.Model:
    """The model with an input `[L, D]`: row i goes to the i-th affine map, by the numbers in their names."""
    (style,) = model.inputs
    width = style.get_partial_shape()[-1].get_length()
    number = lambda target: int(re.findall(r"\d+", target.get_node().get_friendly_name())[0])
    readers = list(style.get_target_inputs())
    maps = sorted((t for t in readers if t.get_node().get_type_name() == "MatMul"), key=number)
    rows = operations.parameter([len(maps), width], np.float32, name="rows")
    axis = np.array(0, np.int64)
    for target in readers:
        place = maps.index(target) if target in maps else 0  # others ask for its shape alone
        target.replace_source_output(operations.gather(rows, np.array([place], np.int64), axis).output(0))
    return openvino.Model([result.input_value(0) for result in model.get_results()], [rows], "rows")


def relative(ours: Array, theirs: Array) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", nargs="?", type=Path, default=home() / "downloads" / NAME / WHEEL.name)
    parser.add_argument("--latents", type=int, default=10)
    options = parser.parse_args()
    generator = with_heads(options.wheel, mobile_stylegan.CONFIG)
    mapping = mobile_stylegan.read_mapping(graph(options.wheel, "MappingNetwork"))
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(options.wheel) as archive:
            archive.extractall(folder)
        core, data = openvino.Core(), Path(folder) / "random_face" / "data"
        exact = {"INFERENCE_PRECISION_HINT": "f32"}
        their_mapping = core.compile_model(core.read_model(data / "MappingNetwork.xml"), "CPU", exact)
        theirs = core.compile_model(with_rows(core.read_model(data / "SynthesisNetwork.xml")), "CPU", exact)
        torch.manual_seed(0)
        z = torch.randn(options.latents, generator.w_dim)
        w = mapping(z)
        mapped = np.concatenate([their_mapping(one[None].numpy())[0] for one in z])
        print(f"mapping network, {options.latents} latents: relative error {relative(w.numpy(), mapped):.1e}")
        mixed = mapping(torch.randn(options.latents * generator.num_ws, generator.w_dim))
        w_plus = {
            "W": w[:, None].expand(-1, generator.num_ws, -1),
            "W+": mixed.view(options.latents, -1, generator.w_dim),
        }
        for name, latents in w_plus.items():
            worst, largest = 0.0, 0.0
            for latent in latents:
                ours = generator.synthesis(latent[None])[0].numpy()
                picture = theirs(latent.numpy())[0][0]
                worst = max(worst, relative(ours, picture))
                largest = max(largest, float(np.abs(ours - picture).max()))
            print(f"synthesis network, {len(latents)} of {name}: relative error at most {worst:.1e}, ", end="")
            print(f"largest difference {largest:.1e}")


if __name__ == "__main__":
    main()
