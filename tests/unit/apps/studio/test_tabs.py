"""What the studio's tabs show, on a tiny pack and without a browser."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from fractions import Fraction
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from factories.packs import tiny_mobile_pack
from mien.editing.operations import Copy, Cut, Keep, Mix, Offset, Scale, Smooth
from mien.errors import InputError, StreamError
from mien.format.stream import Stream
from mien.media.video import write_video
from mien.nets.stylespace import channel_table
from mien.packs.pack import Pack
from mien.runtime.progress import say

pytest.importorskip("gradio", reason="the studio's tabs were not tested: they need Gradio (mien[studio])")

from mien.apps.studio import markup, puppet_tab
from mien.apps.studio.channel_faces import channel_labels, face_html, lit_change, sliders_html
from mien.apps.studio.context import TOUR, Studio, sentence
from mien.apps.studio.editor import EditForm, Editor, fields_of, timeline
from mien.apps.studio.encode_tab import encode_options
from mien.apps.studio.explore_tab import measure_html
from mien.apps.studio.job_queue import JobQueue, StudioJob
from mien.apps.studio.media import Renderer, checked_image, checked_stream, person_stream
from mien.apps.studio.sessions import Sessions


@pytest.fixture
def studio(pack: Pack, tmp_path: Path) -> Studio:
    made = Studio("tiny", Sessions(tmp_path))
    made._found = pack
    return made


@pytest.fixture
def stream(pack: Pack) -> Stream:
    frames = np.random.default_rng(0).normal(size=(30, 35)).cumsum(0) * 0.2
    return Stream(pack.fingerprint, pack.name, pack.resolution, Fraction(25), channel_table(pack.channels),
                  pack.people[1].numpy().astype(np.float16), frames.astype(np.float16))  # fmt: skip


def test_the_pack_is_on_the_device_of_encodes_from_the_start(
    pack_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mien.apps.studio.context.resolve_device", lambda name: torch.device("meta"))
    own = shutil.copy(pack_file, tmp_path / "own.safetensors")  # networks that no other test is given
    assert Studio(str(own), Sessions(tmp_path)).pack.device.type == "meta"


def data_of(html: str) -> Any:
    found = re.search(r" data='([^']*)'", html)
    assert found
    return json.loads(unescape(found[1]))


def test_the_time_line_has_every_curve_once(studio: Studio, stream: Stream) -> None:
    editor = Editor([stream], frame=3)
    data = data_of(timeline(editor, studio.pack))
    assert [g["name"] for g in data["groups"]] == ["mouth", "jaw", "eyes", "brows", "gaze", "yaw", "pitch", "roll"]
    assert sum(len(g["curves"]) for g in data["groups"]) == 35 and data["frame"] == 3
    assert all(len(curve) == 30 for g in data["groups"] for curve in g["curves"])
    yaw = next(g for g in data["groups"] if g["name"] == "yaw")["curves"][0]
    np.testing.assert_allclose(yaw, np.asarray(stream.frames)[:, 1], atol=2e-3)
    foreign = replace(stream, channels=np.stack([np.full(32, 1), np.arange(32) % 16], 1))
    names = [g["name"] for g in data_of(timeline(Editor([foreign]), studio.pack))["groups"]]
    assert "other" in names


def test_the_form_makes_the_operations_it_says(studio: Studio, stream: Stream) -> None:
    session = studio.session(type("R", (), {"session_hash": "a1", "cookies": {"mien_visitor": "anna"}}))
    second = session.path(".mien")
    stream.save(second)
    upload = studio.sessions.uploads / "x.mien"
    upload.write_bytes(second.read_bytes())
    studio.sessions.own(upload, "anna")

    def made(does: str, what: tuple[str, ...] = ("mouth", "yaw"), start: float = 0.2, end: float = 0.8) -> list[Any]:
        values = [list(what), does, 2.0, 1.0, 5.0, 0.3, 0.9, 0.25, str(upload), start, end]
        read = lambda path: checked_stream(studio.sessions.take(session, path, (".mien",)), studio.pack)
        return EditForm.of(values).operations(stream.seconds, read)

    both = ("mouth", "yaw")
    assert made("Stronger or weaker") == [Scale(both, 2.0, start=0.2, end=0.8)]
    assert made("Stronger or weaker", start=0, end=1.2) == [Scale(both, 2.0)]
    assert made("Shift") == [Offset("mouth", 1.0, 0.2, 0.8), Offset(("yaw",), 5.0, 0.2, 0.8)]
    assert made("Smooth") == [Smooth(both, 0.3, 0.2, 0.8)]
    assert made("Copy") == [Copy(both, 0.2, 0.8, to=0.9)]
    assert made("Cut out") == [Cut(0.2, 0.8)] and made("Keep only") == [Keep(0.2, 0.8)]
    assert made("Mix") == [Mix(both, stream, 0.25, start=0.2, end=0.8)]
    with pytest.raises(InputError, match="at least one"):
        made("Smooth", ())


def test_pictures_are_of_the_size_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "tiny-mobile.safetensors"
    tiny_mobile_pack().save(path, half=False)
    sessions = Sessions(tmp_path)
    sizes = {asked: Studio(str(path), sessions, asked).pack.resolution for asked in (None, 64)}
    assert sizes == {None: 128, 64: 64}


def test_undo_goes_back_and_a_new_edit_forgets_what_was_undone(stream: Stream) -> None:
    editor = Editor([stream], frame=29, span=(20, 30))
    shorter = replace(stream, frames=np.asarray(stream.frames)[:10])
    editor.push(shorter, "cut")
    assert editor.stream is shorter and editor.frame == 9 and editor.span is None
    editor.at = 0
    editor.push(stream, "other")
    assert len(editor.versions) == 2 and editor.done == ["other"]
    editor.move(-5)
    assert editor.stream is stream and editor.at == 0
    editor.mark(-3, 4)
    assert editor.span == (0, 4) and editor.span_seconds() == (0, 0.16)
    editor.mark(0, 99)
    assert editor.span is None


def test_the_form_shows_what_an_action_takes() -> None:
    assert fields_of("Shift", ["mouth"]) == [True, False, True, False, False, False, False, False]
    assert fields_of("Shift", ["mouth", "yaw"])[2:4] == [True, True]
    assert fields_of("Cut out", ["mouth"]) == [False] * 8


def test_the_renderer_draws_the_frame_that_the_clip_has(studio: Studio, stream: Stream) -> None:
    renderer = Renderer(studio.pack)
    whole = list(renderer.frames(stream))
    still = renderer.still(stream, 17)
    assert np.abs(still.astype(int) - whole[17]).max() <= 1


def test_the_tour_moves_one_attribute_after_the_other(studio: Studio) -> None:
    numbers = np.asarray(studio.drivers[TOUR].frames, np.float32)
    moving = [set(np.flatnonzero(np.ptp(part, axis=0) > 0)) for part in np.split(numbers, len(numbers) // 30)]
    assert moving[:2] == [{1}, {2}] and len(moving) == 7
    assert moving[2] == set(studio.curves.select("mouth"))
    person = person_stream(studio.pack, studio.pack.people[2], studio.blank)
    np.testing.assert_allclose(person.identity, studio.pack.people[2].numpy(), atol=1e-2)


def test_a_channels_region_is_where_the_face_changes(studio: Studio) -> None:
    data = data_of(sliders_html(studio))
    items = [item for group in data["groups"] for item in group["items"]]
    assert len(items) == 34 and sum("thumb" in item for item in items) == 32
    low = np.full((32, 32, 3), 90, np.uint8)
    high = low.copy()
    high[20:28, 4:12] = 200
    lit = lit_change(low, low, high).astype(int)
    assert (lit[24, 8] - lit[24, 8].min()).max() > 60 and np.ptp(lit[2, 28]) == 0
    html = face_html(studio, 1, np.zeros(34, np.float32), 5)
    assert html.count("<img") == 2 and channel_labels(studio.pack)[3] in html


def test_an_evaluation_is_shown_with_what_it_could_not_measure(studio: Studio, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (6, 64, 64, 3)).astype(np.uint8)
    paths = (tmp_path / "a.mp4", tmp_path / "b.mp4")
    for path in paths:
        write_video(path, frames, Fraction(25))
    session = studio.sessions.get("a1", "anna")
    studio.pack_name = "mini"
    job = StudioJob(JobQueue(), session, lambda job: measure_html(studio, job, paths))
    list(job.run())
    assert job.result.count("<svg") >= 3 and "PSNR" in job.result and "not measured: needs" in job.result


def test_what_a_job_says_stands_below_its_stages(studio: Studio) -> None:
    session = studio.sessions.get("a1", "anna")
    job = StudioJob(JobQueue(), session, lambda job: say(job, lambda: "about 2.0 minutes on this machine."))
    list(job.run())
    assert "About 2.0 minutes on this machine." in markup.working(job.state, ["align"])


def test_a_puppet_is_made_and_the_one_before_is_gone(studio: Studio, stream: Stream) -> None:
    session = studio.sessions.get("a1", "anna")
    options = puppet_tab.puppet_options(learn=False, strength=1.0, smoothing=0.0, blink=True, gaze=True, relative=False)
    kept = []
    for _ in range(2):
        job = StudioJob(JobQueue(), session, lambda job: puppet_tab.make_puppet(studio, session, job, stream, options))
        list(job.run())
        kept.append(set(session.folder.iterdir()))
        assert "<mien-player" in job.result
    assert len(kept[1]) == len(kept[0]) == 3 and not kept[0] & kept[1]


def test_what_cannot_be_taken_is_said_without_paths(studio: Studio, stream: Stream, tmp_path: Path) -> None:
    session = studio.sessions.get("a1", "anna")
    broken = session.path(".mien")
    broken.write_bytes(stream.to_bytes()[:-40])
    with pytest.raises(StreamError) as raised:
        checked_stream(broken, studio.pack)
    assert str(tmp_path) not in sentence(raised.value, session)
    replace(stream, person="ef" * 32, person_name="somebody").save(broken)
    with pytest.raises(InputError, match="person 'somebody'"):
        checked_stream(broken, studio.pack)
    replace(stream, resolution=2 * studio.pack.resolution).save(broken)
    with pytest.raises(InputError, match=f"--size {2 * studio.pack.resolution}"):
        checked_stream(broken, studio.pack)
    picture = session.path(".png")
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InputError) as refused:
        checked_image(picture)
    assert str(tmp_path) not in sentence(refused.value, session)


def test_words_from_outside_are_escaped() -> None:
    assert "<b>" not in markup.fault("<b>") and "<b>" not in markup.note("<b>")
    assert "'" not in markup.element("mien-x", {"a": "'><script>"}).partition("data='")[2].partition("'></")[0]
    assert markup.chart([np.array([np.nan])], ["x"], "x", 1.0) == ""


def test_what_the_encode_tab_offers_to_learn() -> None:
    quick, thorough = encode_options("Quickly", True, (256, 1024)), encode_options("Thoroughly", False, (256, 1024))
    assert (quick.size, thorough.size) == (256, None) and encode_options("Quickly", True, (64,)).size is None
    assert encode_options("Not at all", True, (64,)).tuning is None
    assert quick.tuning is not None and quick.effort < thorough.effort == 1.0
    assert quick.clip.sound and not thorough.clip.sound
    with pytest.raises(InputError, match="Not at all"):
        encode_options("perhaps", True, (64,))
