"""Values that no file, host or folder can have: one sentence and exit code 2, before any work."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from factories import TESTS
from factories.clips import make_clip, pictures
from factories.commands import Run
from mien.apps.telepresence.call.signalling import exchange_as_server
from mien.errors import InputError

CLIP = TESTS.parent / "examples" / "clip.mien"
LONG = "x" * 300


def refused(run: Run, *arguments: object) -> str:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "") and err.startswith("mien: ") and err.count("\n") == 1, (code, err)
    assert "unexpected" not in err, err
    return err


def test_names_that_are_too_long(run: Run, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", pictures(3))
    assert "not a folder of clips" in refused(run, "batch", LONG, tmp_path / "out")
    assert "too long" in refused(run, "batch", tmp_path, tmp_path / LONG)
    assert "there is no pack" in refused(run, "encode", clip, "-o", tmp_path / "a.mien", "--pack", LONG)
    assert "there is no pack" in refused(run, "evaluate", clip, clip, "--pack", LONG)
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_a_folder_that_cannot_be_written(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clip(tmp_path / "clips.mp4", pictures(3))
    (tmp_path / "out").mkdir()
    monkeypatch.setattr("mien.runtime.files.os.access", lambda path, mode: mode == os.R_OK)
    assert "out cannot be written to" in refused(run, "batch", tmp_path, tmp_path / "out", "--no-tune")
    assert not os.listdir(tmp_path / "out")


def test_hosts_that_are_none(run: Run) -> None:
    assert "no address" in refused(run, "live", "--person", CLIP, "--input", "rtsp://[::1/x")
    with pytest.raises(InputError, match="cannot listen at a..b"):
        asyncio.run(exchange_as_server("x", "a..b", 0))


def test_a_studio_at_a_host_that_is_none() -> None:
    pytest.importorskip("gradio", reason="the studio was not tested: it needs Gradio (mien[studio])")
    from mien.apps.studio.app import serve

    with pytest.raises(InputError, match="cannot listen at a..b"):
        serve("a..b", 0, "mini")


@pytest.mark.parametrize(
    "change",
    [
        {"frames": 0, "roll": [], "yaw": [], "pitch": [], "quads": [], "residual": [], "bridged": [], "lost": []},
        {"bridged": [True]},
        {"lost": []},
        {"bridged": [False, False], "lost": [False] * 4},
        {"fps": 0},
        {"frames": 10**12},
        {"key_frame": [10**30]},
    ],
)
def test_an_alignment_whose_parts_do_not_fit(run: Run, tmp_path: Path, change: dict[str, object]) -> None:
    facts: dict[str, object] = {
        "frames": 3, "fps": 25.0, "quads": [[[0, 0], [0, 1], [1, 1], [1, 0]]] * 3, "roll": [0.0] * 3, "yaw": [0.0] * 3,
        "pitch": [0.0] * 3, "residual": [0.0] * 3, "bridged": [False] * 3, "lost": [False] * 3, "key_frame": [0] * 3,
    }  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps(facts | change))
    assert "was not written by" in refused(run, "plot", tmp_path / "x.json", "-o", tmp_path / "x.png")
    (tmp_path / "x.json").write_text(json.dumps(facts))
    assert run("plot", tmp_path / "x.json", "-o", tmp_path / "x.png")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode", "a.mp4", "-o", "a.mien", "--pack", "p.safetensors", "--json", "p.safetensors"],
        ["encode", "a.mp4", "-o", "p.mien", "--person", "p.mien"],
        ["person", "a.mp4", "-o", "a.person", "--pack", "p.safetensors", "--json", "p.safetensors"],
        ["live", "--person", "me.png", "--pack", "p.safetensors", "--json", "p.safetensors"],
        ["evaluate", "a.mp4", "a.mp4", "--pack", "p.safetensors", "--json", "p.safetensors"],
        ["evaluate", "a.mp4", "a.mp4", "--inception", "n.pth", "--json", "n.pth"],
        ["evaluate", "a.mp4", "a.mp4", "--i3d", "n.pth", "--csv", "n.pth"],
        ["models", "convert", "-o", "p.safetensors", "--stylegan2", "p.safetensors"],
        ["models", "convert", "-o", "p.safetensors", "--stylegan2", "n.pth", "--channels", "p.safetensors"],
    ],
)
def test_no_output_is_a_file_that_is_read(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("p.safetensors", "p.mien", "n.pth", "a.mp4"):
        (tmp_path / name).write_text("precious")
    assert "is the input" in refused(run, *arguments)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"precious"}


def test_a_pack_that_is_found_by_its_name_is_no_output(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    (tmp_path / "packs").mkdir()
    pack = tmp_path / "packs" / "mine.safetensors"
    pack.write_text("precious")
    assert "is the input" in refused(run, "evaluate", "a.mp4", "b.mp4", "--pack", "mine", "--json", pack)
