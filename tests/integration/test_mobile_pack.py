"""The whole pipeline on a tiny pack of the kind of `ffhq-mobile`."""

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from factories.packs import tiny_mobile_pack
from mien.api import encode_with_report
from mien.apps.telepresence.face import drawn_face
from mien.errors import PackError, StreamError
from mien.format.person import Person
from mien.format.stream import Stream
from mien.media.video import write_video
from mien.method.stage6_render.render import render
from mien.packs.pack import Pack
from mien.packs.resolve import tuned_generator
from mien.personalize.generator_params import FullWeights
from mien.reenact.options import PuppetOptions
from mien.reenact.puppeteer import puppeteer


@pytest.fixture(scope="module")
def mobile_pack(tmp_path_factory) -> Pack:
    path = tmp_path_factory.mktemp("pack") / "tiny-mobile.safetensors"
    tiny_mobile_pack().save(path, half=False)
    return Pack.load(path)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    from skimage.data import astronaut

    face = astronaut()[20:200, 140:320]
    path = tmp_path_factory.mktemp("clip") / "face.mp4"
    write_video(path, [np.roll(face, (t, t), (0, 1)) for t in range(5)], Fraction(25))
    return path


@pytest.fixture(scope="module")
def stream(clip, mobile_pack) -> Stream:
    return encode_with_report(clip, pack=mobile_pack, tune=False)[0]


def test_a_pack_is_saved_and_read(mobile_pack):
    fresh = tiny_mobile_pack()
    w_plus = torch.randn(1, fresh.generator.num_ws, 32)
    assert torch.equal(mobile_pack.generator.synthesis(w_plus), fresh.generator.synthesis(w_plus))


def test_encode_without_tuning_and_render(stream, mobile_pack):
    assert stream.resolution == 128 and stream.identity.shape == (14, 32) and stream.frames.shape == (5, 35)
    frames = list(render(stream, pack=mobile_pack))
    assert len(frames) == 5 and frames[0].shape == (128, 128, 3) and frames[0].dtype == np.uint8


def test_a_stream_drives_a_stream(stream, mobile_pack):
    puppet = puppeteer(stream, stream, pack=mobile_pack)
    assert len(puppet) == 5 and np.isfinite(puppet.frames.astype(float)).all()


def test_encode_with_tuning(clip, mobile_pack):
    stream, report = encode_with_report(clip, pack=mobile_pack, effort=0.1)
    assert stream.tuning and report.to_json()["psnr"]["resynthesis"] > 0
    assert len(list(render(stream, pack=mobile_pack))) == 5


def test_a_stream_is_rendered_at_other_sizes(stream, mobile_pack):
    small = replace(stream, resolution=64)
    whole = list(render(stream, pack=mobile_pack, exact=True))
    assert all(np.array_equal(a, b) for a, b in zip(render(small, pack=mobile_pack, size=128, exact=True), whole))
    assert [f.shape for f in render(stream, pack=mobile_pack, size=32)] == [(32, 32, 3)] * 5
    with pytest.raises(PackError, match="not of 256"):
        next(render(stream, pack=mobile_pack, size=256))


def test_weights_learned_at_a_small_size_draw_larger_ones(stream, mobile_pack):
    base = mobile_pack.generator.at(64)
    tuned = FullWeights(base)
    with torch.no_grad():
        for parameter in tuned.generator.parameters():
            parameter.mul_(1.01)
    small = replace(stream, resolution=64, tuning=tuned.export()[1])
    drawn = tuned_generator(small, mobile_pack)
    learned = tuned_generator(small, mobile_pack.at(64))
    assert drawn.resolution == 128
    assert all(value.equal(drawn.state_dict()[name]) for name, value in learned.state_dict().items())
    names = [name for name, value in learned.state_dict().items() if not value.equal(base.state_dict()[name])]
    assert any(name.startswith("blocks.") for name in names), "the weights are those that were learned"
    assert next(render(small, pack=mobile_pack, size=128)).shape == (128, 128, 3)
    # Smaller ones are those that were learned, averaged down: the networks for them were not tuned along.
    (smaller,), (own,) = ([next(render(small, pack=mobile_pack, size=n, exact=True))] for n in (32, 64))
    assert np.array_equal(smaller, cv2.resize(own, (32, 32), interpolation=cv2.INTER_AREA))


def test_the_studio_draws_streams_of_smaller_sizes_than_its_own(stream, mobile_pack):
    pytest.importorskip("gradio", reason="NOT TESTED: the studio needs Gradio (mien[studio])")
    from mien.apps.studio.media import Renderer

    tuned = FullWeights(mobile_pack.generator.at(64))
    small = replace(stream, resolution=64, tuning=tuned.export()[1])
    renderer = Renderer(mobile_pack)
    for shown in (small, replace(small, tuning=b"")):
        assert [f.shape for f in renderer.frames(shown)] == [(64, 64, 3)] * 5
    assert renderer.still(stream, 2).shape == (128, 128, 3)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("edit", ("recipe.toml", "-o", "out.mien")),
        ("transcode", ("--rate", "4000", "-o", "out.mien")),
        ("play", ("-o", "out.y4m")),
        ("plot", ("-o", "out.png")),
        ("person", ("-o", "out.person")),
        ("render", ("--size", "32", "-o", "out.mkv")),
    ],
)
def test_commands_take_this_kind_of_pack(command, arguments, stream, mobile_pack, tmp_path, run):
    pack = mobile_pack_file(mobile_pack, tmp_path)
    tuned = FullWeights(mobile_pack.generator.at(64))
    replace(stream, resolution=64, tuning=tuned.export()[1]).save(tmp_path / "clip.mien")
    (tmp_path / "recipe.toml").write_text('[[edit]]\ndo = "scale"\nwhat = "mouth"\nfactor = 1.2\n')
    given = [tmp_path / argument if "." in argument else argument for argument in arguments]
    named = () if command == "person" else ("--pack", pack)  # a stream that is encoded already needs no networks
    code, _, err = run(command, tmp_path / "clip.mien", *given, *named)
    assert code == 0, err
    assert given[-1].stat().st_size > 0


def test_a_person_of_a_small_size_beside_streams_of_another(clip, stream, mobile_pack, tmp_path):
    made, _ = encode_with_report(clip, pack=mobile_pack.at(64), effort=0.1)
    person = Person.of(made, "ann")
    person.save(tmp_path / "ann.person")
    # Driven as they are, and learned anew, by a larger driver; and by themselves.
    plain = puppeteer(stream, person, pack=mobile_pack, options=replace(PuppetOptions.of("mien"), tuning=None))
    learned = puppeteer(stream, made, pack=mobile_pack, options=quick_puppet())
    assert (plain.resolution, plain.person) == (64, person.fingerprint) and learned.resolution == 64
    assert next(render(plain, pack=mobile_pack, person=person)).shape == (64, 64, 3)
    assert next(render(learned, pack=mobile_pack)).shape == (64, 64, 3)
    larger = puppeteer(made, stream, pack=mobile_pack, options=replace(PuppetOptions.of("mien"), tuning=None))
    assert larger.resolution == 128
    # Drawn live, and in a clip of theirs, at their own size.
    face = drawn_face(person, str(mobile_pack_file(mobile_pack, tmp_path)))
    assert face.paint(face.neutral).shape == (64, 64, 3)
    again, _ = encode_with_report(clip, pack=mobile_pack, effort=0.1, person=person)
    assert (again.resolution, again.person) == (64, person.fingerprint)
    with pytest.raises(StreamError, match="learned in pictures of 64 pixels"):
        encode_with_report(clip, pack=mobile_pack, effort=0.1, person=person, size=256)


def quick_puppet() -> PuppetOptions:
    options = PuppetOptions.of("mien")
    return replace(options, tuning=replace(options.tuning, steps=2, frames=2))


def mobile_pack_file(pack: Pack, folder) -> str:
    """A file that is the pack: its fingerprint is that of what `pack` was read from."""
    path = folder / "again.safetensors"
    tiny_mobile_pack().save(path, half=False)
    assert Pack.load(path).fingerprint == pack.fingerprint
    return path


def test_a_look_at_the_work_while_it_runs(clip, mobile_pack, tmp_path, capfd):
    from mien.apps.cli.encoding import PreviewingProgress

    progress = PreviewingProgress(tmp_path / "preview.png")
    encode_with_report(clip, pack=mobile_pack.at(64), effort=0.1, progress=progress)
    assert cv2.imread(str(tmp_path / "preview.png")).shape == (64, 5 * 64, 3)
    err = capfd.readouterr().err
    assert "minutes on this machine" in err and err.count("a look at the work so far") == 2 and "(35 numbers)" in err
