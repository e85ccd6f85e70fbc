"""What the stages are given, on tiny networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from factories.clips import astronaut_clip
from factories.fake_device import crops
from factories.packs import tiny_mobile_pack
from mien import pipeline
from mien.api import encode_with_report
from mien.errors import InputError, PackError
from mien.format.person import Person
from mien.format.weights_codec import encode_delta
from mien.method.problems import AttributeProblem, PoseProblem
from mien.options import EncodeOptions
from mien.packs.pack import Pack, StageSizes
from mien.pipeline import Networks, encode_track
from mien.runtime.monitor import Monitor
from mien.runtime.progress import NoProgress


class Stopped(Exception):
    """All that is asked about has been seen."""


def tuned_a_little(options: EncodeOptions) -> EncodeOptions:
    """With one step of tuning."""
    assert options.tuning is not None
    return replace(options, tuning=replace(options.tuning, steps=1, passes=0.0))


def sizes_seen(options: EncodeOptions, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int, int]:
    """The sides of the pictures of stages 3, 4 and 5, of a generator of 128 pixels with heads for 16, 32 and 64."""
    pack = tiny_mobile_pack()
    pack.stage_sizes = StageSizes(16, 16, 16)
    seen: list[int] = []
    select, solve = pipeline.select_identity, pipeline.solve_pose

    def selecting(*given: Any) -> Any:
        seen.append(given[-1])
        return select(*given)

    def posing(problem: PoseProblem, *rest: Any, **more: Any) -> Any:
        seen.append(problem.targets[:1].shape[-1])
        return solve(problem, *rest, **more)

    def stopping(problem: AttributeProblem, *rest: Any, **more: Any) -> Any:
        seen.append(problem.targets[:1].shape[-1])
        raise Stopped

    monkeypatch.setattr(pipeline, "select_identity", selecting)
    monkeypatch.setattr(pipeline, "solve_pose", posing)
    monkeypatch.setattr(pipeline, "solve_attributes", stopping)
    with pytest.raises(Stopped):
        encode_track(crops(2), pack, options, Monitor())
    identity, pose, attributes = seen
    return identity, pose, attributes


def test_tuned_pictures_are_compared_with_frames_where_tuning_draws_them(monkeypatch: pytest.MonkeyPatch) -> None:
    default = tuned_a_little(EncodeOptions.mien())
    assert sizes_seen(default, monkeypatch) == (64, 16, 16)


def test_the_target_of_stage_5_may_be_the_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    default = tuned_a_little(EncodeOptions.of(real_targets=True))
    assert sizes_seen(default, monkeypatch) == (64, 16, 64)


def test_numbers_that_are_sent_are_fitted_in_pictures_that_tuning_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_after = tuned_a_little(replace(EncodeOptions.mien(), refinement=None, refit=None))
    assert sizes_seen(nothing_after, monkeypatch) == (64, 64, 64)


def test_the_packs_own_weights_draw_small_pictures_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sizes_seen(EncodeOptions.untuned(), monkeypatch) == (16, 16, 16)


class Unwanted(NoProgress):
    """No stage may begin."""

    def stage(self, *given: Any) -> Any:
        raise AssertionError(f"work was begun: {given}")


def without_people() -> Pack:
    """A pack with neither latents of people nor a mapping network."""
    pack = tiny_mobile_pack()
    del pack.networks["mapping"]
    return pack


def test_latents_of_people_are_needed_where_something_is_trained(tmp_path: Path) -> None:
    clip = astronaut_clip(tmp_path / "face.mp4", count=2)
    with pytest.raises(PackError, match="no latents of people and no mapping network"):
        encode_with_report(clip, pack=without_people(), progress=Unwanted())
    assert len(encode_track(crops(2), without_people(), EncodeOptions.untuned(), Monitor()).motion) == 2


def test_effort_is_refused_where_a_persons_weights_are_all_that_tuning_would_move(tmp_path: Path) -> None:
    clip, pack = astronaut_clip(tmp_path / "face.mp4", count=2), tiny_mobile_pack()
    person = Person(
        "ann", pack.fingerprint, pack.name, 128, pack.people[0].numpy(), encode_delta(pack.generator, pack.generator)
    )
    with pytest.raises(InputError, match="effort"):
        encode_with_report(clip, pack=pack, person=person, method="paper", effort=2.0, progress=Unwanted())
    for method in ("mien", "paper"):
        Networks.of(pack, EncodeOptions.of(method, effort=2.0 if method == "mien" else 1.0), person)


def test_a_size_that_no_weights_fit_in_is_refused_before_any_work(tmp_path: Path) -> None:
    clip = astronaut_clip(tmp_path / "face.mp4", count=2)
    with pytest.raises(InputError, match="bytes at least: 100 are too few"):
        encode_with_report(clip, pack=tiny_mobile_pack(), person_size=100, progress=Unwanted())
