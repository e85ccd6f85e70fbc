"""The command line: every bad input is exit code 2 and one sentence, nothing is half-written; help; info and plot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from skimage.data import astronaut

import mien
from factories.clips import astronaut_clip, make_clip, packets_of, pictures
from factories.commands import Run
from mien.apps.cli.cli import main
from mien.errors import MienError
from mien.format.stream import Stream
from mien.media.still_images import write_image
from mien.media.video import read_video


@pytest.fixture
def stream() -> Stream:
    rng = np.random.default_rng(0)
    channels = np.stack([np.repeat(np.arange(8), 4), np.arange(32)], axis=1).astype(np.int16)
    place = np.tile([[0.5, 0.5, 0.6]], (20, 1)).astype(np.float16)
    return Stream(
        pack="ab" * 32,
        pack_name="nowhere",
        resolution=32,
        fps=Fraction(25),
        channels=channels,
        identity=rng.normal(size=(8, 16)).astype(np.float16),
        frames=rng.normal(size=(20, 35)).astype(np.float16),
        placement=place,
        frame_size=(64, 48),
    )


def refused(run: Run, folder: Path, *arguments: object) -> str:
    """Run, and see to it that the input is refused in one sentence and that nothing in `folder` has changed."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    code, out, err = run(*arguments)
    assert code == 2, (code, err)
    assert err.startswith("mien: ") and err.count("\n") == 1 and "Traceback" not in err, err
    assert out == ""
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    return err


@pytest.mark.parametrize(
    "command",
    ["encode", "person", "render", "puppeteer", "align", "batch", "play", "info", "plot", "evaluate"]
    + ["models list", "models verify"],
)
def test_help_teaches_with_an_example(run: Run, command: str) -> None:
    code, out, _ = run(*command.split(), "--help")
    assert code == 0 and f"Example: mien {command}" in " ".join(out.split())


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"mien {mien.__version__}\n", "")


def test_help_is_fast() -> None:
    """Nothing heavy is imported for it."""
    code = "import sys; from mien.apps.cli.cli import main; main(['--help']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("'torch'", "'mediapipe'", "'matplotlib'", "'av'", "'cv2'", "'numpy'"):
        assert heavy not in done.stdout


def test_module_is_the_command_line_too() -> None:
    command = [sys.executable, "-m", "mien", "info", "/no/such.mien"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode"],
        ["encode", "a.mp4"],
        ["frobnicate"],
        ["encode", "a.mp4", "-o", "a.mien", "--start", "-1"],
        ["encode", "a.mp4", "-o", "a.mien", "--duration", "soon"],
        ["render", "a.mien", "-o", "a.mp4", "--nonsense"],
        ["models", "frobnicate"],
    ],
)
def test_bad_usage(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    assert "--help" in refused(run, tmp_path, *arguments)


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["render", "a.mien", "-o", "a.mp4", "--start", "1"], "--start is for"),
        (["batch", "clips", "streams", "--ray", "auto", "--device", "cpu"], "--device is for this machine"),
        (["person", "a.mp4", "-o", "a.person", "--json", "a.person"], "same file"),
        (["puppeteer", "a.mien", "p.png", "-o", "p.mp4", "--size", "256"], "--size are for a video as DRIVER"),
        (["encode", "a.mp4", "-o", "a.mien", "--person", "p.person", "--json", "p.person"], "is the input"),
    ],
)
def test_options_that_cannot_go_together(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.person").write_text("precious")
    assert says in refused(run, tmp_path, *arguments)
    assert (tmp_path / "p.person").read_text() == "precious"


def test_bad_clips(run: Run, tmp_path: Path) -> None:
    clips = {name: tmp_path / f"{name}.mp4" for name in ("text", "empty", "noise", "faceless", "cut", "missing")}
    clips["text"].write_text("This is a letter and not a video. " * 100)
    clips["empty"].touch()
    clips["noise"].write_bytes(np.random.default_rng(0).bytes(9999))
    make_clip(clips["faceless"], pictures(5))
    data = make_clip(clips["cut"], pictures(25)).read_bytes()
    clips["cut"].write_bytes(data[: len(data) // 2])
    output = tmp_path / "out.mp4"
    output.write_bytes(b"precious")
    for name, clip in clips.items():
        said = refused(run, tmp_path, "align", clip, "-o", output)
        assert str(clip) in said or name == "faceless"
        if name != "faceless":
            refused(run, tmp_path, "encode", clip, "-o", tmp_path / "out.mien")
            refused(run, tmp_path, "puppeteer", clip, tmp_path / "portrait.png", "-o", output)
    assert "face" in refused(run, tmp_path, "align", clips["faceless"], "-o", output)
    refused(run, tmp_path, "align", clips["faceless"], "-o", output, "--start", "99")
    assert output.read_bytes() == b"precious"


def test_bad_outputs_are_refused_before_the_work(run: Run, tmp_path: Path, stream: Stream) -> None:
    clip = make_clip(tmp_path / "a.mp4", pictures(5))
    stream.save(tmp_path / "a.mien")
    nowhere = tmp_path / "no" / "such" / "folder"
    for arguments in (
        ["align", clip, "-o", nowhere / "a.mp4"],
        ["align", clip, "-o", tmp_path / "a.gif"],
        ["encode", clip, "-o", nowhere / "a.mien"],
        ["encode", clip, "-o", tmp_path],
        ["encode", clip, "-o", tmp_path / "b.mien", "--json", nowhere / "r.json"],
        ["render", tmp_path / "a.mien", "-o", nowhere / "a.mp4"],
        ["puppeteer", tmp_path / "a.mien", tmp_path / "p.png", "-o", nowhere / "a.mp4"],
        ["plot", tmp_path / "a.mien", "-o", nowhere / "a.png"],
        ["plot", tmp_path / "a.mien", "-o", tmp_path / "a.doc"],
    ):
        refused(run, tmp_path, *arguments)


def test_bad_streams(run: Run, tmp_path: Path, stream: Stream) -> None:
    data = stream.to_bytes()
    (tmp_path / "half.mien").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.mien").touch()
    (tmp_path / "foreign.mien").write_text("not a stream at all, but long enough to look like one " * 9)
    for name in ("half", "empty", "foreign", "missing"):
        file = tmp_path / f"{name}.mien"
        for arguments in (
            ["info", file],
            ["info", file, "--json"],
            ["render", file, "-o", tmp_path / "a.mp4"],
            ["plot", file, "-o", tmp_path / "a.png"],
        ):
            assert str(file) in refused(run, tmp_path, *arguments)


def test_unknown_pack_and_device(run: Run, tmp_path: Path, stream: Stream) -> None:
    stream.save(tmp_path / "a.mien")
    output = ["-o", tmp_path / "a.mp4"]
    assert "nowhere" in refused(run, tmp_path, "render", tmp_path / "a.mien", *output)
    assert "device" in refused(run, tmp_path, "render", tmp_path / "a.mien", *output, "--device", "warp")


def test_info_accounts_for_every_byte(run: Run, tmp_path: Path, stream: Stream) -> None:
    replace(stream, audio=b"x" * 100).save(tmp_path / "a.mien")
    code, out, _ = run("info", tmp_path / "a.mien", "--json")
    sizes = json.loads(out)["bytes"]
    assert code == 0 and sizes["per_frame"] == 70 and sizes["audio"] == 100 and sizes["frames"] == 1400
    counted = sum(size for name, size in sizes.items() if name not in ("per_frame", "total"))
    assert counted == sizes["total"] == (tmp_path / "a.mien").stat().st_size
    code, out, _ = run("info", tmp_path / "a.mien")
    assert code == 0 and "20 x 70" in out and f"{sizes['total']:,}" in out
    assert Stream.load(tmp_path / "a.mien").audio == b"x" * 100


def test_plot_draws_a_stream(run: Run, tmp_path: Path, stream: Stream) -> None:
    from mien.media.still_images import read_image

    stream.save(tmp_path / "a.mien")
    assert run("plot", tmp_path / "a.mien", "-o", tmp_path / "a.png")[0] == 0
    image = read_image(tmp_path / "a.png")
    assert image.shape[1] > 800 and image.std() > 5
    (tmp_path / "bad.json").write_text('{"frames": 3}')
    refused(run, tmp_path, "plot", tmp_path / "bad.json", "-o", tmp_path / "b.png")


def test_align_writes_crops_with_sound_and_a_plot(run: Run, tmp_path: Path) -> None:
    clip = astronaut_clip(tmp_path / "face.mp4")
    crops, facts = tmp_path / "crops.mkv", tmp_path / "crops.json"
    code, _, err = run("align", clip, "-o", crops, "--size", "64", "--json", facts)
    assert code == 0, err
    found = read_video(crops)
    assert (found.frame_count, found.size, found.fps) == (10, (64, 64), 25)
    assert packets_of(crops) == packets_of(clip)
    said = json.loads(facts.read_text())
    centre = np.array(said["quads"]).mean(1)
    assert said["frames"] == 10 and np.abs(np.diff(centre[:, 0]).mean() - 2) < 0.5
    assert run("plot", facts, "-o", tmp_path / "crops.png")[0] == 0
    assert (tmp_path / "crops.png").stat().st_size > 10_000


def test_interruption_leaves_nothing_behind(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real SIGINT while the output is being written."""
    clip = make_clip(tmp_path / "a.mp4", pictures(5))
    (tmp_path / "crops.mkv").write_bytes(b"precious")

    def crops() -> Iterator[np.ndarray]:
        yield from pictures(3)
        assert len(os.listdir(tmp_path)) == 3, "the half-written file is there"
        signal.raise_signal(signal.SIGINT)
        yield from pictures(3)

    found = SimpleNamespace(crops=crops())
    monkeypatch.setattr("mien.method.stage1_align.align.align", lambda *args, **options: found)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored
    try:
        code, _, err = run("align", clip, "-o", tmp_path / "crops.mkv")
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130 and "interrupted" in err and err.splitlines()[-1].startswith("mien: ")
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "crops.mkv"]
    assert (tmp_path / "crops.mkv").read_bytes() == b"precious"


def test_what_nobody_foresaw_is_one_sentence_too(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: Stream
) -> None:
    stream.save(tmp_path / "a.mien")

    def broken(path: Path) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(Stream, "inspect", broken)
    code, _, err = run("info", tmp_path / "a.mien")
    assert code == 1 and err == "mien: unexpected failure: RuntimeError: two lines (set MIEN_DEBUG=1 to see where)\n"
    monkeypatch.setenv("MIEN_DEBUG", "1")
    with pytest.raises(RuntimeError):
        main(["info", str(tmp_path / "a.mien")])


def test_work_that_fails_is_exit_code_1(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise MienError("the disk is full")

    monkeypatch.setattr(Stream, "inspect", full)
    assert run("info", tmp_path / "a.mien")[0] == 1


def test_from_a_clip_to_a_puppet(run: Run, tmp_path: Path, pack_file: Path) -> None:
    """All commands in a row, on a tiny random pack: frame count, rate and sound are the clip's to the end."""
    clip = astronaut_clip(tmp_path / "face.mp4", count=6)
    coded, report = tmp_path / "face.mien", tmp_path / "report.json"
    code, out, err = run("encode", clip, "-o", coded, "--pack", pack_file, "--no-tune", "--json", report)
    assert code == 0 and "6 frames of 70 bytes" in out, err
    for stage in ("align", "invert", "pose", "attributes"):
        assert f"{stage}: " in err, "progress says which stage"
    facts = json.loads(report.read_text())
    assert {"frames", "fps", "resolution", "seconds", "bytes", "psnr"} <= set(facts)
    assert facts["bytes"]["total"] == coded.stat().st_size and facts["bytes"]["per_frame"] == 70
    options = ["--pack", pack_file]
    for name, extra in (("render.mp4", ()), ("side.mp4", ("--compare", clip)), ("pasted.mp4", ("--paste-into", clip))):
        code, _, err = run("render", coded, "-o", tmp_path / name, *options, *extra)
        assert code == 0, err
        found = read_video(tmp_path / name)
        assert (found.frame_count, found.fps) == (6, 25)
        assert packets_of(tmp_path / name) == packets_of(clip)
    assert read_video(tmp_path / "render.mp4").size == (64, 64)
    assert read_video(tmp_path / "pasted.mp4").size == read_video(clip).size
    with av.open(str(tmp_path / "render.mp4")) as container:
        assert "Synthetic" in container.metadata["comment"]
    write_image(tmp_path / "portrait.png", astronaut()[:300, 60:380])
    puppet = ["puppeteer", coded, tmp_path / "portrait.png", *options, "--no-tune"]
    assert run(*puppet, "-o", tmp_path / "puppet.mp4", "--compare")[0] == 0
    assert packets_of(tmp_path / "puppet.mp4") == packets_of(clip)
    assert run(*puppet, "-o", tmp_path / "puppet.mien")[0] == 0
    np.testing.assert_array_equal(Stream.load(tmp_path / "puppet.mien").frames[:, :3], Stream.load(coded).frames[:, :3])
    assert run("plot", coded, "-o", tmp_path / "curves.png", *options)[0] == 0
    assert run("evaluate", tmp_path / "render.mp4", tmp_path / "render.mp4", *options, "--size", "64")[0] == 0
    assert run("models", "verify", pack_file)[0] == 0


def test_sound_can_be_left_out_and_a_part_be_taken(run: Run, tmp_path: Path, pack_file: Path) -> None:
    clip = astronaut_clip(tmp_path / "face.mp4", count=8)
    options = ["--pack", pack_file, "--no-tune", "--start", "0.08", "--duration", "0.16"]
    assert run("encode", clip, "-o", tmp_path / "a.mien", *options, "--no-sound")[0] == 0
    assert run("encode", clip, "-o", tmp_path / "b.mien", *options)[0] == 0
    silent, heard = Stream.load(tmp_path / "a.mien"), Stream.load(tmp_path / "b.mien")
    assert len(silent) == len(heard) == 4 and silent.audio == b"" and heard.audio
    assert replace(heard, audio=b"").to_bytes() == silent.to_bytes()


def test_a_clip_or_portrait_without_a_face(run: Run, tmp_path: Path, pack_file: Path) -> None:
    clip = make_clip(tmp_path / "faceless.mp4", pictures(5))
    assert "face" in refused(run, tmp_path, "encode", clip, "-o", tmp_path / "a.mien", "--pack", pack_file)
    write_image(tmp_path / "faceless.png", pictures(1)[0])
    face = astronaut_clip(tmp_path / "face.mp4", count=2)
    assert run("encode", face, "-o", tmp_path / "face.mien", "--pack", pack_file, "--no-tune")[0] == 0
    puppet = [tmp_path / "face.mien", tmp_path / "faceless.png", "-o", tmp_path / "p.mp4", "--pack", pack_file]
    code, _, err = run("puppeteer", *puppet, "--no-tune")
    assert code == 2 and "face" in err.splitlines()[-1] and not (tmp_path / "p.mp4").exists()


def test_a_stream_of_another_pack(run: Run, tmp_path: Path, pack_file: Path, stream: Stream) -> None:
    stream.save(tmp_path / "a.mien")
    assert "pack" in refused(
        run, tmp_path, "render", tmp_path / "a.mien", "-o", tmp_path / "a.mp4", "--pack", pack_file
    )


def test_python_api_is_the_functions(tmp_path: Path, stream: Stream) -> None:
    """`mien.encode` is callable before and after the module of that name was imported."""
    code = (
        "import mien, importlib; a = mien.encode; importlib.import_module('mien.apps.cli.encode');"
        "import mien.method.stage6_render.render; assert callable(a) and mien.encode is a and callable(mien.render);"
        "from mien import load, Stream, Pack, puppeteer, MienError; assert callable(puppeteer)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    stream.save(tmp_path / "a.mien")
    assert len(mien.load(tmp_path / "a.mien")) == 20
    assert set(mien.__all__) <= set(dir(mien)) and all(getattr(mien, name) for name in mien.__all__)
    with pytest.raises(AttributeError):
        _ = mien.nonsense
