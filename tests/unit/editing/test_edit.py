"""Editing: every operation does what it says to the curves it names and leaves the rest; recipes; `mien edit`."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from factories.streams import make_stream
from mien.apps.cli.cli import main
from mien.editing.curves import MotionCurves, curves_of, principal_motion
from mien.editing.operations import Copy, Cut, Keep, Mix, Offset, Scale, Smooth, edit
from mien.editing.recipe import read_recipe
from mien.errors import InputError, MienError
from mien.format.stream import Stream
from mien.media.sound import extract_audio
from mien.method.stage6_render.render import render
from mien.nets.stylespace import channel_table
from mien.packs.pack import Pack
from mien.reenact.puppeteer import puppeteer
from tolerances import FLOAT16_CURVES, FLOAT32_EXACT, FLOAT32_NETWORK

FPS = 25
COUNT = 50


def talking(pack: Pack, seed: int = 0, fps: Fraction = Fraction(FPS), person: int = 0) -> Stream:
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(COUNT, 35)).cumsum(0) * 0.3
    identity = pack.people[person].numpy().astype(np.float16)
    return Stream(pack.fingerprint, pack.name, pack.resolution, fps, channel_table(pack.channels), identity,
                  (steps - steps.mean(0)).astype(np.float16))  # fmt: skip


@pytest.fixture(scope="module")
def stream(pack: Pack) -> Stream:
    return talking(pack)


def numbers(stream: Stream) -> np.ndarray:
    return np.asarray(stream.frames, np.float32)


def changed(before: Stream, after: Stream) -> tuple[set[int], set[int]]:
    """Numbers of the frames and of the curves that differ."""
    difference = np.abs(numbers(before) - numbers(after)) > 1e-3
    return set(np.flatnonzero(difference.any(1))), set(np.flatnonzero(difference.any(0)))


def test_curves_have_the_names_of_the_packs_attributes(stream: Stream, pack: Pack) -> None:
    curves = curves_of(stream, pack)
    assert curves.names[:4] == ("roll", "yaw", "pitch", "mouth.1") and len(set(curves.names)) == 35
    assert list(curves.groups) == ["roll", "yaw", "pitch", "mouth", "jaw", "eyes", "brows", "gaze"]
    assert curves.select("mouth") == [3 + i for i, c in enumerate(pack.channels) if c.attribute == "mouth"]
    assert curves.select(("pose", "eyes.1")) == [0, 1, 2, curves.names.index("eyes.1")]
    assert curves.select("all") == list(range(35))
    with pytest.raises(InputError, match="no curve 'nose'"):
        curves.select("nose")
    assert MotionCurves.of(None).names[3] == "channel.1"


def test_scale_acts_on_the_named_curves_within_the_stretch(stream: Stream, pack: Pack) -> None:
    curves = curves_of(stream, pack)
    ids = curves.select("mouth")
    after = edit(stream, [Scale("mouth", 1.5)], pack=pack)
    middle = numbers(stream)[:, ids].mean(0)
    np.testing.assert_allclose(
        numbers(after)[:, ids], middle + 1.5 * (numbers(stream)[:, ids] - middle), atol=FLOAT16_CURVES
    )
    assert changed(stream, after)[1] == set(ids)
    frozen = numbers(edit(stream, [Scale("yaw", 0.0, about="zero")], pack=pack))
    assert not frozen[:, 1].any() and (frozen[:, 2] == numbers(stream)[:, 2]).all()

    part = edit(stream, [Scale("pitch", -1.0, start=0.4, end=1.2, ease=0.2)], pack=pack)
    assert changed(stream, part) <= ({*range(10, 30)}, {2}) and len(changed(stream, part)[0]) > 15
    inner = slice(15, 25)  # past the ease: all of the edit
    np.testing.assert_allclose(numbers(part)[inner, 2], 2 * numbers(stream)[:, 2].mean() - numbers(stream)[inner, 2],
                               atol=FLOAT16_CURVES)  # fmt: skip


def test_offset_is_in_degrees_in_units_of_a_channel_and_along_an_attributes_motion(stream: Stream, pack: Pack) -> None:
    curves = curves_of(stream, pack)
    turned = edit(stream, [Offset("yaw", 10.0)], pack=pack)
    np.testing.assert_allclose(numbers(turned)[:, 1] - numbers(stream)[:, 1], 10, atol=FLOAT16_CURVES)
    one = curves.names.index("eyes.2")
    single = edit(stream, [Offset("eyes.2", 2.0)], pack=pack)
    np.testing.assert_allclose(
        numbers(single)[:, one] - numbers(stream)[:, one], 2 * curves.scales[one], atol=FLOAT16_CURVES
    )

    ids = curves.select("jaw")
    along = principal_motion(numbers(stream)[:, ids], curves.scales[ids])
    moved = numbers(edit(stream, [Offset("jaw", 1.0)], pack=pack)) - numbers(stream)
    np.testing.assert_allclose(moved[:, ids], np.tile(along, (COUNT, 1)), atol=FLOAT16_CURVES)
    assert np.abs(moved).sum(0).nonzero()[0].tolist() == ids
    still = replace(stream, frames=np.zeros((COUNT, 35), np.float16))
    with pytest.raises(InputError, match="jaw does not move"):
        edit(still, [Offset("jaw", 1.0)], pack=pack)
    jaw_only = np.zeros((COUNT, 35), np.float16)
    jaw_only[:, ids] = numbers(stream)[:, ids]
    some = replace(stream, frames=jaw_only)
    with pytest.raises(InputError, match="gaze does not move"):
        edit(some, [Offset(("jaw", "gaze"), 1.0)], pack=pack)
    assert changed(some, edit(some, [Offset("expression", 1.0)], pack=pack))[1] == set(ids)


def test_the_main_motion_points_to_the_rarer_side() -> None:
    opening = np.zeros((100, 3), np.float32)
    opening[40:50] = [[2.0, -1.0, 0.5]]
    along = principal_motion(opening, np.ones(3, np.float32))
    assert along[0] > 0 > along[1] and np.allclose(along / along[0], [1, -0.5, 0.25], atol=FLOAT32_NETWORK)
    assert np.allclose(principal_motion(-opening, np.ones(3, np.float32)), -along, atol=FLOAT32_EXACT)


def test_smooth_keeps_the_mean_and_takes_the_jitter(stream: Stream, pack: Pack) -> None:
    after = edit(stream, [Smooth("all", 0.4)], pack=pack)
    rough = np.abs(np.diff(numbers(stream), axis=0)).mean()
    assert np.abs(np.diff(numbers(after), axis=0)).mean() < 0.5 * rough
    constant = replace(stream, frames=np.ones((COUNT, 35), np.float16))
    np.testing.assert_allclose(numbers(edit(constant, [Smooth("all", 0.4)], pack=pack)), 1, atol=1e-3)
    assert edit(stream, [Smooth("all", 0.0)], pack=pack) == stream


def test_copy_and_mix_bring_other_moments_and_other_streams(stream: Stream, pack: Pack) -> None:
    copied = edit(stream, [Copy("mouth", 0.0, 0.4, to=1.0, ease=0.0)], pack=pack)
    ids = curves_of(stream, pack).select("mouth")
    np.testing.assert_array_equal(numbers(copied)[25:35][:, ids], numbers(stream)[:10][:, ids])
    assert changed(stream, copied)[0] <= set(range(25, 35))

    other = talking(pack, seed=1)
    mixed = edit(stream, [Mix("pose", other, 0.25)], pack=pack)
    np.testing.assert_allclose(numbers(mixed)[:, :3], 0.75 * numbers(stream)[:, :3] + 0.25 * numbers(other)[:, :3],
                               atol=FLOAT16_CURVES)  # fmt: skip
    late = edit(stream, [Mix("yaw", other, 1.0, at=1.0, start=0.4, ease=0.0)], pack=pack)
    np.testing.assert_allclose(numbers(late)[10:35, 1], numbers(other)[25:, 1], atol=0.01)
    assert changed(stream, late)[0] <= set(range(10, 35))


def test_mixing_in_another_person_at_another_rate_gives_their_expression(stream: Stream, pack: Pack) -> None:
    other = talking(pack, seed=2, fps=Fraction(50), person=1)
    mixed = edit(stream, [Mix("all", other, 1.0, ease=0.0)], pack=pack)
    puppet = puppeteer(other, stream, pack=pack)
    np.testing.assert_allclose(numbers(mixed)[:25], numbers(puppet)[::2], atol=FLOAT16_CURVES)
    with pytest.raises(InputError, match="same pack"):
        edit(stream, [Mix("all", replace(other, pack="cd" * 32))], pack=pack)


def test_of_another_person_offsets_are_mixed_in_where_channels_are_not_absolute(stream: Stream, pack: Pack) -> None:
    relative = replace(pack, channels_absolute=False)
    other = talking(pack, seed=2, person=1)
    mixed = edit(stream, [Mix("all", other, 1.0, ease=0.0)], pack=relative)
    np.testing.assert_allclose(numbers(mixed), numbers(other), atol=FLOAT16_CURVES)


def sounding(seconds: float) -> bytes:
    """A tone of 440 Hz in the first second and of 880 Hz after it."""
    rate = 16000
    time = np.arange(round(seconds * rate)) / rate
    wave = 0.5 * np.sin(2 * np.pi * np.where(time < 1, 440, 880) * time).astype(np.float32)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        output = container.add_stream("aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = rate
        container.mux([*output.encode(frame), *output.encode(None)])
    return buffer.getvalue()


def test_cut_takes_out_frames_placement_and_sound(stream: Stream, pack: Pack, tmp_path: Path) -> None:
    (tmp_path / "tone.mp4").write_bytes(sounding(2.0))
    place = np.linspace(0, 1, 3 * COUNT).reshape(COUNT, 3)
    full = replace(stream, audio=extract_audio(tmp_path / "tone.mp4"), placement=place, frame_size=(64, 64))
    short = edit(full, [Cut(0.2, 1.0, ease=0.0)], pack=pack)
    np.testing.assert_array_equal(numbers(short), np.delete(numbers(full), np.s_[5:25], axis=0))
    assert short.placement is not None and len(short.placement) == 30

    with av.open(io.BytesIO(short.audio)) as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert abs(len(heard) / 16000 - short.seconds) < 0.15
    pitch = lambda part: np.argmax(np.abs(np.fft.rfft(part))) * 16000 / len(part)
    assert abs(pitch(heard[1200:3000]) - 440) < 15 and abs(pitch(heard[5000:12000]) - 880) < 15

    kept = edit(full, [Keep(0.2, 1.0)], pack=pack)
    np.testing.assert_array_equal(numbers(kept), numbers(full)[5:25])
    jump = lambda s: np.abs(np.diff(numbers(s), axis=0))[4].mean()
    assert jump(edit(full, [Cut(0.2, 1.0, ease=0.2)], pack=pack)) < 0.2 * jump(short)


def test_edits_come_one_after_the_other_and_render(stream: Stream, pack: Pack) -> None:
    after = edit(stream, [Offset("yaw", 5.0), Scale("yaw", 0.0, about="zero"), Cut(0.0, 1.6)], pack=pack)
    assert len(after) == 10 and not numbers(after)[:, 1].any()
    assert len(list(render(after, pack=pack))) == 10
    assert Stream.from_bytes(after.to_bytes()) == after


@pytest.mark.parametrize(
    "operation",
    [
        Scale("mouth", float("nan")),
        Scale("mouth", 2.0, about="here"),
        Scale("mouth", 1e5),
        Scale((), 2.0),
        Offset("yaw", 1.0, start=1.0, end=0.5),
        Offset("yaw", 1.0, start=-1.0),
        Offset("yaw", 1.0, end=99.0),
        Offset("yaw", 1.0, ease=-1.0),
        Smooth("yaw", -1.0),
        Copy("yaw", 0.0, 1.0, to=2.0),
        Cut(0.0, 2.0),
    ],
)
def test_what_does_not_fit_is_said(stream: Stream, pack: Pack, operation: object) -> None:
    with pytest.raises(InputError) as raised:
        edit(stream, [operation], pack=pack)  # type: ignore[list-item]
    assert str(raised.value).endswith(".") and "\n" not in str(raised.value)


RECIPE = """
[[edit]]
do = "scale"
what = ["mouth", "jaw"]
factor = 1.5
start = 0.5

[[edit]]
do = "mix"
other = "other.mien"
what = "pose"
weight = 1

[[edit]]
do = "keep"
start = 0
end = 1
"""


def test_a_recipe_is_the_same_as_the_calls(stream: Stream, pack: Pack, tmp_path: Path, capfd) -> None:
    other = talking(pack, seed=3)
    other.save(tmp_path / "other.mien")
    stream.save(tmp_path / "in.mien")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    operations = read_recipe(tmp_path / "recipe.toml")
    assert operations == [Scale(("mouth", "jaw"), 1.5, start=0.5), Mix(("pose",), other, 1.0), Keep(0.0, 1.0)]

    pack.save(tmp_path / "p.safetensors", half=False)
    again = Pack.load(tmp_path / "p.safetensors")
    assert again.fingerprint == pack.fingerprint
    code = main(["edit", str(tmp_path / "in.mien"), str(tmp_path / "recipe.toml"), "-o", str(tmp_path / "out.mien"),
                 "--pack", str(tmp_path / "p.safetensors")])  # fmt: skip
    assert code == 0 and "3 edits" in capfd.readouterr().out
    assert Stream.load(tmp_path / "out.mien") == edit(stream, operations, pack=pack)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not toml [", "is not TOML"),
        ("", "needs one or more"),
        ("edit = 3", "needs one or more"),
        ('extra = 1\n[[edit]]\ndo = "cut"\nstart = 0\nend = 1', "nothing beside them"),
        ('[[edit]]\ndo = "explode"', "do must be one of"),
        ('[[edit]]\nwhat = "mouth"', "do must be one of"),
        ('[[edit]]\ndo = "scale"\nwhat = "mouth"', "needs 'factor'"),
        ('[[edit]]\ndo = "scale"\nwhat = "mouth"\nfactor = 2\nfacter = 2', "has no 'facter'"),
        ('[[edit]]\ndo = "scale"\nwhat = "nose"\nfactor = 2', "no curve 'nose'"),
        ('[[edit]]\ndo = "scale"\nwhat = 3\nfactor = 2', "name or a list"),
        ('[[edit]]\ndo = "scale"\nwhat = "yaw"\nfactor = "2"', "must be a number"),
        ('[[edit]]\ndo = "scale"\nwhat = "yaw"\nfactor = true', "must be a number"),
        ('[[edit]]\ndo = "scale"\nwhat = "yaw"\nfactor = inf', "ordinary number"),
        ('[[edit]]\ndo = "cut"\nstart = 0\nend = 100', "outside the stream"),
        (
            '[[edit]]\ndo = "smooth"\nwhat = "yaw"\nseconds = 0.2\n[[edit]]\ndo = "cut"\nstart = 0\nend = 100',
            "edit 2 (cut): ",
        ),
        ('[[edit]]\ndo = "mix"\nwhat = "yaw"\nother = "none.mien"', "none.mien"),
    ],
)
def test_a_bad_recipe_is_one_sentence_and_exit_code_2(
    text: str, said: str, stream: Stream, pack: Pack, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pack.save(tmp_path / "p.safetensors", half=False)
    stream.save(tmp_path / "in.mien")
    (tmp_path / "recipe.toml").write_text(text)
    code = main(["edit", str(tmp_path / "in.mien"), str(tmp_path / "recipe.toml"), "-o", str(tmp_path / "out.mien"),
                 "--pack", str(tmp_path / "p.safetensors")])  # fmt: skip
    out, err = capfd.readouterr()
    assert code == 2 and said in err and err.startswith("mien: ") and err.count("\n") == 1 and not out
    assert not (tmp_path / "out.mien").exists()


def test_a_missing_recipe_is_said(stream: Stream, tmp_path: Path) -> None:
    with pytest.raises(MienError, match="cannot be read"):
        read_recipe(tmp_path / "none.toml")


def test_without_its_pack_pose_can_be_edited_but_no_attribute(stream: Stream) -> None:
    away = replace(stream, pack_name="nowhere")
    assert not numbers(edit(away, [Scale("yaw", 0.0, about="zero")]))[:, 1].any()
    with pytest.raises(InputError, match="no curve 'mouth'"):
        edit(away, [Scale("mouth", 2.0)])


@pytest.mark.parametrize("what", ["channel.5", "channel", "all"])
def test_without_its_pack_no_channel_is_shifted(stream: Stream, what: str) -> None:
    away = replace(stream, pack_name="nowhere")
    with pytest.raises(InputError, match="unit of a channel is its pack's"):
        edit(away, [Offset(what, 2.0)])
    np.testing.assert_allclose(numbers(edit(away, [Offset("pose", 1.0)]))[:, 3:], numbers(away)[:, 3:])


def test_a_stream_that_a_recipe_mixes_in_is_not_written_over(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("a.mien", "b.mien"):
        make_stream().save(tmp_path / name)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[[edit]]\ndo = "mix"\nwhat = "pose"\nother = "b.mien"\n')
    before = (tmp_path / "b.mien").read_bytes()
    assert main(["edit", str(tmp_path / "a.mien"), str(recipe), "-o", str(tmp_path / "b.mien")]) == 2
    assert "is the input" in capfd.readouterr().err and (tmp_path / "b.mien").read_bytes() == before
