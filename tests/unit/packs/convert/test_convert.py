"""Official files to a pack, and from a pack to the same answers; whatever is missing or wrong is said in a sentence."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from factories import checkpoints as official
from factories.packs import tiny_pack
from mien.errors import OutputError, PackError
from mien.nets import irse
from mien.nets.bisenet import BiSeNet
from mien.nets.e4e import ReStyle, ReStyleLoop, to_input
from mien.nets.lpips import LPIPS
from mien.nets.styleflow import mini_flow
from mien.nets.stylespace import ATTRIBUTES, Channel
from mien.packs.convert import checkpoint_layouts, convert, ffhq1024_channels, metric_networks, pose_sign_calibration
from mien.packs.convert.common import sha256
from mien.packs.convert.torchfile import load_checkpoint
from mien.packs.convert.verify import verify
from mien.packs.pack import Pack
from tolerances import FLOAT32_EXACT, FLOAT32_NETWORK

FEW: irse.Units = ((64, 1), (128, 1), (256, 1), (512, 1))  # the full body is tested for parity

WIDTHS = (32, 32, 16)  # at 16x16


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("official")
    trees = {
        "stylegan2": {"g_ema": official.rosinality(WIDTHS), "latent_avg": official.noise("avg", (512,))},
        "styleflow": official.styleflow(hidden=32),
        "bisenet": official.like(BiSeNet().state_dict(), "bisenet"),
        "lpips-alex": official.heads("alex"),
        "alexnet": official.backbone("alex"),
    }
    paths = {}
    for i, (role, tree) in enumerate(trees.items()):
        paths[role] = folder / f"{role}.pt"
        torch.save(tree, paths[role], _use_new_zipfile_serialization=bool(i % 2))
    return paths


@pytest.fixture(scope="module")
def packed(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pack") / "small.safetensors"
    convert.convert_pack(files, out, name="small")
    return out


def test_a_pack_answers_as_its_files(files: dict[str, Path], packed: Path) -> None:
    pack = Pack.load(packed)
    assert sorted(pack.networks) == ["flow", "generator", "lpips_alex", "mapping", "parser"]
    w_plus = official.noise("w", (2, 6, 512))
    direct = checkpoint_layouts.stylegan2(load_checkpoint(files["stylegan2"])).generator
    image = pack.generator.synthesis(w_plus)
    assert (image - direct.synthesis(w_plus)).abs().max() <= 1e-5 * image.abs().max()
    assert pack.generator.config == replace(direct.config, rgb_valid_from=16) and pack.generator.config.noise
    flow = checkpoint_layouts.styleflow(load_checkpoint(files["styleflow"]))
    angles = torch.tensor([[5.0, -3.0], [0.0, 8.0]])
    wished = angles.flip(0)
    assert torch.allclose(pack.flow(w_plus, angles, wished), flow(w_plus, angles, wished), atol=FLOAT32_EXACT)
    assert pack.perceptual.network is pack.networks["lpips_alex"]
    assert pack.card["sources"][0] == {
        "role": "alexnet",
        "file": "alexnet.pt",
        "sha256": sha256(files["alexnet"]),
    }


def test_the_parser_speaks_the_stages_classes(packed: Path) -> None:
    parser = Pack.load(packed).parser
    image = official.noise("face", (1, 3, 96, 96))
    (merged,) = parser(image)
    assert merged.shape == (1, 8, 64, 64)
    big = torch.nn.functional.interpolate(image, (512, 512), mode="bilinear", align_corners=False)
    own = parser.logits((big - parser.mean) / parser.std).softmax(1)  # type: ignore[operator]
    share = merged.softmax(1)
    assert torch.allclose(share[:, 6], own[:, 12] + own[:, 13], atol=FLOAT32_NETWORK)  # lips are upper and lower lip
    assert torch.allclose(share[:, 2], own[:, 2] + own[:, 3], atol=FLOAT32_NETWORK)  # brows
    assert share[:, 4].max() < 1e-6  # irises, which BiSeNet does not know


def test_verify_says_what_works_and_what_cannot_run(packed: Path) -> None:
    text = "\n".join(verify(packed))
    for slot in ("generator: 6 rows of 512, 8 StyleSpace layers", "flow: styleflow", "parser: bisenet", "lpips_alex"):
        assert slot in text
    assert "no encoder or restyle network" in text and "no identity network" in text and "no channels" in text


def test_verify_names_the_network_that_does_not_fit(tmp_path: Path) -> None:
    """A flow over latents of another width than the generator's."""
    pack, flow = tiny_pack(), mini_flow(16, hidden=(8,), steps=2)
    pack.networks["flow"] = flow.eval()
    pack.configs["flow"] = {"kind": "styleflow", "flow": asdict(flow.flow.config), "pose": asdict(flow.pose)}
    pack.save(tmp_path / "odd.safetensors", half=False)
    with pytest.raises(PackError, match="the pack's flow network does not work"):
        list(verify(tmp_path / "odd.safetensors"))
    judges = Pack("metrics", {"inception": LPIPS("alex").eval()}, {"inception": {"kind": "fid"}}, ())
    with pytest.raises(PackError, match="the pack's inception network does not work"):
        list(metric_networks.verify(judges))


def test_verify_finds_a_channel_out_of_range(packed: Path, tmp_path: Path) -> None:
    pack = Pack.load(packed)
    wrong = Pack("wrong", pack.networks, pack.configs, (Channel(7, 0, "mouth"),))  # layer 7 is a ToRGB
    wrong.save(tmp_path / "wrong.safetensors")
    with pytest.raises(PackError, match="7_0"):
        list(verify(tmp_path / "wrong.safetensors"))


def test_half_precision_is_half_the_size(files: dict[str, Path], packed: Path, tmp_path: Path) -> None:
    convert.convert_pack(files, tmp_path / "half.safetensors", half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.55 * packed.stat().st_size


def test_measured_channels_take_the_priors_place(files: dict[str, Path], tmp_path: Path) -> None:
    entry = {"layer": 2, "attribute": "mouth", "scale": 0.5, "sensitivity": 0.1, "elsewhere": 0.02}
    table, out = tmp_path / "channels.json", tmp_path / "a.safetensors"
    table.write_text(json.dumps({"channels": [entry | {"index": i} for i in range(32)]}))
    convert.convert_pack(files, out, channels=table)
    pack = Pack.load(out)
    assert len(pack.channels) == 32 and pack.channels[5] == Channel(2, 5, "mouth", 0.5, 0.1, 0.02)
    assert pack.card["channels"] == "measured"
    for wrong, said in (
        ({"channels": [entry | {"index": i} for i in range(3)]}, "names 3 channels"),
        ({"channels": [entry | {"index": i + 1} for i in range(32)]}, "2_32 is not in"),
        ({"other": 1}, "is not a table of channels"),
    ):
        table.write_text(json.dumps(wrong))
        with pytest.raises(PackError, match=said):
            convert.convert_pack(files, out, channels=table)


def test_restyle_loops_through_the_packs_generator(tmp_path: Path) -> None:
    state = official.like(ReStyle(2, FEW).state_dict(), "small")
    mean = state.pop("w_mean")
    state.pop("average")
    decoder = {f"decoder.{k}": v for k, v in official.rosinality((8,)).items()}
    tree = {"state_dict": {f"encoder.{k}": v for k, v in state.items()} | decoder, "latent_avg": mean}
    torch.save(tree, tmp_path / "restyle.pt")
    convert.convert_pack({"restyle": tmp_path / "restyle.pt"}, tmp_path / "pack.safetensors")
    pack = Pack.load(tmp_path / "pack.safetensors")
    assert isinstance(pack.encoder, ReStyleLoop) and pack.generator.num_ws == 2
    assert pack.configs["restyle"]["units"] == [list(group) for group in FEW]
    image = official.noise("face", (1, 3, 300, 300))
    latent = mean[None]
    for _ in range(5):  # the loop written out: look at image and render, add the offset
        render = to_input(pack.generator.synthesis(latent))
        latent = latent + pack.networks["restyle"].step(to_input(image), render)  # type: ignore[operator]
    assert torch.allclose(pack.encoder(image), latent, atol=FLOAT32_NETWORK)
    with pytest.raises(PackError, match="ReStyle checkpoint"):
        convert.convert_pack({"e4e": tmp_path / "restyle.pt"}, tmp_path / "other.safetensors")


def test_an_encoder_for_another_generator_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    state = official.like(ReStyle(2, FEW).state_dict(), "small")
    tree = {"state_dict": {f"encoder.{k}": v for k, v in state.items()}, "latent_avg": state["w_mean"]}
    torch.save(tree, tmp_path / "restyle.pt")
    with pytest.raises(PackError, match="2 rows of 512 numbers, the generator takes 6"):
        convert.convert_pack(
            {"stylegan2": files["stylegan2"], "restyle": tmp_path / "restyle.pt"}, tmp_path / "pack.safetensors"
        )


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        (["bisenet"], "needs a generator"),
        (["stylegan2", "alexnet"], "alexnet needs lpips-alex"),
        (["stylegan2", "lpips-alex"], "lpips-alex needs alexnet"),
    ],
)
def test_files_that_belong_together(files: dict[str, Path], tmp_path: Path, roles: list[str], said: str) -> None:
    with pytest.raises(PackError, match=said):
        convert.convert_pack({role: files[role] for role in roles}, tmp_path / "a.safetensors")


def test_a_file_in_the_wrong_place_is_named_and_nothing_is_harmed(files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    out.write_bytes(b"what was here before")
    for role in ("arcface", "styleflow", "e4e"):
        with pytest.raises(PackError) as caught:
            convert.convert_pack({"stylegan2": files["stylegan2"], role: files["bisenet"]}, out)
        assert str(files["bisenet"]) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(PackError, match="is not a StyleGAN2"):
        convert.convert_pack({"stylegan2": files["bisenet"]}, out)
    assert out.read_bytes() == b"what was here before" and list(tmp_path.iterdir()) == [out]


def test_bad_usage(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(PackError, match="'dlib' is not one of"):
        convert.convert_pack({"dlib": files["bisenet"]}, tmp_path / "a.safetensors")
    with pytest.raises(PackError, match="no file"):
        convert.convert_pack({"stylegan2": tmp_path / "none.pkl"}, tmp_path / "a.safetensors")
    with pytest.raises(OutputError):
        convert.convert_pack(files, tmp_path / "a.pt")


def changed(widths: tuple[int, ...], name: str, value: Tensor | None) -> dict[str, Tensor]:
    state = official.rosinality(widths)
    if value is None:
        del state[name]
    else:
        state[name] = value
    return state


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("convs.1.activate.bias", None, "convs.1.activate.bias is missing"),
        ("convs.1.conv.weight", torch.zeros(1, 8, 8, 1, 1), r"\[1, 8, 8, 1, 1\], not \[8, 8, 3, 3\]"),
        ("to_rgbs.0.upsample.kernel", torch.ones(4, 4), "another filter"),
        ("convs.0.conv.modulation.bias", torch.full((8,), float("nan")), "not finite"),
    ],
)
def test_a_generator_with_one_thing_wrong(tmp_path: Path, name: str, value: Tensor | None, said: str) -> None:
    torch.save(changed((8, 8), name, value), tmp_path / "g.pt")
    with pytest.raises(PackError, match=said):
        convert.convert_pack({"stylegan2": tmp_path / "g.pt"}, tmp_path / "a.safetensors")


def test_older_files_without_noise_constants_convert(tmp_path: Path) -> None:
    state = {k: v for k, v in official.rosinality((8, 8)).items() if not k.startswith("noises")}
    torch.save({"g_ema": state}, tmp_path / "g.pt")
    pack = convert.convert_pack({"stylegan2": tmp_path / "g.pt"}, tmp_path / "a.safetensors")
    assert not pack.generator.config.noise


def test_the_command_line_converts_and_verifies(
    files: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from mien.apps.cli.cli import main

    out = tmp_path / "made.safetensors"
    arguments = [text for role, path in files.items() for text in (f"--{role}", str(path))]
    assert main(["models", "convert", "-o", str(out), *arguments]) == 0
    assert main(["models", "verify", str(out)]) == 0
    said = capfd.readouterr().out
    assert "no encoder or restyle network" in said and "flow: styleflow" in said
    assert main(["models", "convert", "-o", str(out), "--stylegan2", str(files["bisenet"])]) == 2
    assert "is not a StyleGAN2" in capfd.readouterr().err
    evil = tmp_path / "evil.pkl"
    evil.write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    assert main(["models", "convert", "-o", str(out), "--stylegan2", str(evil)]) == 2
    assert "names os.system" in capfd.readouterr().err


@pytest.mark.parametrize("signs", [(1.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)])
def test_the_flows_directions_are_found_by_looking(signs: tuple[float, float]) -> None:
    def flow(w_plus: Tensor, now: Tensor, wished: Tensor) -> Tensor:  # a head's angles are its first two numbers
        out = w_plus.clone()
        out[:, 0, :2] += (wished - now) * torch.tensor(signs) * 0.7
        return out

    def look(w_plus: Tensor) -> list[pose_sign_calibration.Angles]:
        return [(float(w[0, 0]), float(w[0, 1])) for w in w_plus]

    people = official.noise("people", (6, 4, 8), -5, 5)
    assert pose_sign_calibration.pose_signs(flow, people, look) == signs
    # Without faces, with too few of them, or when nothing turns, nothing is claimed.
    unknown = (None, None)
    assert pose_sign_calibration.pose_signs(flow, people, lambda w: [None] * len(w)) == unknown
    assert pose_sign_calibration.pose_signs(flow, people[:2], look) == unknown
    assert pose_sign_calibration.pose_signs(lambda w, now, wished: w, people, look) == unknown
    flat = lambda w: [(yaw, 0.02 * pitch) for yaw, pitch in look(w)]
    assert pose_sign_calibration.pose_signs(flow, people, flat) == (signs[0], None), "each on its own evidence"


def test_the_prior_channels_fit_the_official_generator() -> None:
    from mien.nets.stylegan2 import GeneratorConfig, style_layers

    layers = style_layers(GeneratorConfig(ffhq1024_channels.RESOLUTION, 512, ffhq1024_channels.WIDTHS))
    assert len(layers) == 26 and sum(layer.width for layer in layers) == 9088
    entries = [entry for entries in ffhq1024_channels.CHANNELS.values() for entry in entries]
    assert len(entries) == len(set(entries)) == 32
    assert all(not layers[layer].to_rgb and 0 <= index < layers[layer].width for layer, index in entries)
    assert set(ffhq1024_channels.CHANNELS) == set(ATTRIBUTES)
