"""Suites: many clips and methods in one table, resumed where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from media import pictures
from scipy import stats

from mien.cli import main
from mien.errors import InputError
from mien.evaluate import suite as suites
from mien.evaluate.suite import interval, markdown, read_suite, run_suite, summarise
from mien.video import read_image, write_video

TOML = """
name = "two <clips>"
size = 64
step = 2
[[clip]]
name = "one"
reference = "one.mkv"
panel = 0
[[clip]]
name = "two"
reference = "two.mkv"
panel = 0
[[method]]
name = "same"
output = "{reference}"
panel = 0
[[method]]
name = "blurred"
output = "{reference}"
panel = 1
[[method]]
name = "absent"
output = "renders/{name}.mp4"
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    for number, name in enumerate(("one", "two")):
        left = pictures(5 + 2 * number, 64, 64)
        wide = [np.concatenate([a, cv2.GaussianBlur(a, (0, 0), 2 + number)], axis=1) for a in left]
        write_video(tmp_path / f"{name}.mkv", wide, 25)
    (tmp_path / "suite.toml").write_text(TOML)
    return tmp_path / "suite.toml"


def test_table_ranks_methods_and_says_what_is_absent(toml: Path, tmp_path: Path) -> None:
    suite = read_suite(toml)
    assert (suite.clips, suite.methods, len(suite.jobs)) == (("one", "two"), ("same", "blurred", "absent"), 6)
    results = run_suite(suite, tmp_path / "results")
    table = summarise(suite, results)
    assert table["same"]["l1"].mean == 0 and table["same"]["l1"].place == 1 and table["blurred"]["l1"].place == 2
    cell = table["blurred"]["psnr"]
    values = [results["blurred", clip]["metrics"]["psnr"] for clip in suite.clips]
    assert cell.mean == pytest.approx(np.mean(values)) and cell.count == 2 and values[0] != values[1]
    assert table["absent"] == {} and "does not exist" in results["absent", "one"]["error"]
    text = markdown(suite, table)
    assert "| same | 2 |" in text and "**100**" in text and "| absent | 0 | - |" in text


def test_what_was_measured_is_not_measured_again(toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite, asked = read_suite(toml), []
    measured = suites.measure

    def counting(job: suites.Job) -> dict:
        asked.append((job.method, job.clip))
        return measured(job)

    monkeypatch.setattr(suites, "measure", counting)
    first = run_suite(suite, tmp_path / "results")
    assert len(asked) == 6
    asked.clear()
    assert run_suite(suite, tmp_path / "results")["same", "one"] == first["same", "one"]
    assert asked == [("absent", "one"), ("absent", "two")], "what failed is tried again"
    asked.clear()
    write_video(tmp_path / "one.mkv", [np.tile(p, (1, 2, 1)) for p in pictures(4, 64, 64)], 25)
    run_suite(suite, tmp_path / "results")
    assert ("same", "one") in asked and ("same", "two") not in asked, "a clip that has changed is measured anew"
    (tmp_path / "results" / "results" / "same" / "two.json").write_text("{half")
    asked.clear()
    run_suite(suite, tmp_path / "results")
    assert ("same", "two") in asked and ("blurred", "two") not in asked


def test_interval_is_students(monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (2, 5, 16, 17, 60):
        values = np.random.default_rng(count).normal(size=count).tolist()
        low, high = stats.t.interval(0.95, count - 1, np.mean(values), stats.sem(values))
        assert interval(values) == pytest.approx((high - low) / 2, rel=0.09 if count > 16 else 1e-3)
    assert interval([1.0]) is None


def test_command_writes_a_page(toml: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out"
    assert main(["evaluate", "--suite", str(toml), "-o", str(folder), "--jobs", "2"]) == 0
    out, _ = capfd.readouterr()
    assert "| blurred | 2 |" in out and "absent, one: not measured: " in out
    page = (folder / "index.html").read_text()
    assert "two &lt;clips&gt;" in page and '<span class="best">100</span>' in page and "absent, two" in page
    still = read_image(folder / "pictures" / "one-0.jpg")
    assert still.shape[1] > 3 * 256 and page.count("<img") == len(list((folder / "pictures").iterdir()))
    assert (folder / "table.csv").read_text().startswith("method,metric,mean")
    stored = json.loads((folder / "results" / "blurred" / "two.json").read_text())
    assert len(stored["series"]["psnr"]) == stored["frames"] == 4


@pytest.mark.parametrize("text", ["name = ", "[[clip]]\nname='a'\n", "", "clip = 3\nmethod = 4", TOML + "[[clip]]\n"])
def test_bad_suites(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_suite(tmp_path / "bad.toml")
    assert "\n" not in str(caught.value)


def test_bad_usage(toml: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--suite", str(toml)], [str(toml)], ["--suite", str(tmp_path / "no.toml"), "-o", str(tmp_path)]):
        assert main(["evaluate", *arguments]) == 2
        assert capfd.readouterr().err.count("\n") == 1
    twice = toml.read_text().replace('name = "blurred"', 'name = "same"')
    toml.write_text(twice)
    with pytest.raises(InputError, match="each its own"):
        read_suite(toml)
