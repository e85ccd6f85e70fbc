"""Suites: many clips and methods in one table, resumed where it stopped."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import stats
from skimage.data import astronaut

from factories import ROOT
from factories.clips import pictures
from factories.judges import projection
from mien.apps.cli.cli import main
from mien.errors import InputError
from mien.evaluate import suite as suites
from mien.evaluate.metrics.frechet import distance_of
from mien.evaluate.networks import MetricNetworks
from mien.evaluate.page import write_page
from mien.evaluate.registry import PUPPETEERING
from mien.evaluate.suite import read_suite, run_suite
from mien.evaluate.table import interval, markdown, summarise
from mien.media.still_images import read_image, write_image
from mien.media.video import write_video
from mien.runtime.workers import LocalPool, Returned
from tolerances import FLOAT64_DISTANCE

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
    same, blurred = table.cell("same", "l1"), table.cell("blurred", "l1")
    assert same is not None and blurred is not None and (same.mean, same.place, blurred.place) == (0, 1, 2)
    cell = table.cell("blurred", "psnr")
    assert cell is not None
    values = [results["blurred", clip].facts["metrics"]["psnr"] for clip in suite.clips]
    assert cell.mean == pytest.approx(np.mean(values)) and cell.count == 2 and values[0] != values[1]
    assert table.cell("absent", "psnr") is None and "does not exist" in (results["absent", "one"].error or "")
    text = markdown(suite, table)
    assert "| same | 2 |" in text and "**100**" in text and "| absent | 0 | - |" in text


class Here:
    """A pool of one worker in this process, which writes down what it is asked."""

    def __init__(self, networks: MetricNetworks | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self._networks, self._job = networks, None

    def __call__(self, count: int) -> Here:
        return self

    def free(self) -> list[int]:
        return [0] if self._job is None else []

    def submit(self, slot: int, job: suites.SuiteJob) -> None:
        self.asked.append((job.method, job.clip))
        self._job = job

    def wait(self) -> Returned:
        job, self._job = self._job, None
        return Returned(0, suites.measure(job, self._networks))

    def close(self) -> None:
        pass


def test_what_was_measured_is_not_measured_again(toml: Path, tmp_path: Path) -> None:
    suite, pool = read_suite(toml), Here()
    asked = pool.asked
    first = run_suite(suite, tmp_path / "results", make_pool=pool)
    assert len(asked) == 6
    asked.clear()
    assert run_suite(suite, tmp_path / "results", make_pool=pool)["same", "one"] == first["same", "one"]
    assert asked == [("absent", "one"), ("absent", "two")], "what failed is tried again"
    asked.clear()
    write_video(tmp_path / "one.mkv", [np.tile(p, (1, 2, 1)) for p in pictures(4, 64, 64)], 25)
    run_suite(suite, tmp_path / "results", make_pool=pool)
    assert ("same", "one") in asked and ("same", "two") not in asked, "a clip that has changed is measured anew"
    (tmp_path / "results" / "results" / "same" / "two.json").write_text("{half")
    asked.clear()
    run_suite(suite, tmp_path / "results", make_pool=pool)
    assert ("same", "two") in asked and ("blurred", "two") not in asked


def test_a_picture_of_a_folder_that_was_written_anew_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.png").write_bytes(b"picture")
    job = suites.SuiteJob("m", "c", folder, folder, suites.Options())
    before = job.key()
    (folder / "1.png").write_bytes(b"another")
    os.utime(folder / "1.png", ns=(0, 1))
    assert job.key() != before


def test_a_pool_of_workers_measures_the_same(toml: Path, tmp_path: Path) -> None:
    suite, counts = read_suite(toml), []

    def make_pool(count: int) -> LocalPool:
        counts.append(count)
        return LocalPool(suites.measure_on, ["cpu"])

    by_pool = run_suite(suite, tmp_path / "a", make_pool=make_pool)
    assert counts == [6] and set(by_pool) == {(j.method, j.clip) for j in suite.jobs}
    here = suites.measure(next(j for j in suite.jobs if (j.method, j.clip) == ("blurred", "two")))
    assert by_pool["blurred", "two"].facts == here.facts and "does not exist" in by_pool["absent", "one"].error
    run_suite(suite, tmp_path / "a", make_pool=make_pool)
    assert counts == [6, 2], "only what failed is tried again"


def test_interval_is_students() -> None:
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
    assert len(stored["series"]["psnr"]) == stored["facts"]["frames"] == 4


def test_frechet_distances_are_taken_over_all_clips_together(toml: Path, tmp_path: Path) -> None:
    """Not as means of single clips' distances, which few frames make too large; and features survive a resumed run."""
    suite, pool = read_suite(toml), Here(MetricNetworks(inception=projection(1, 3)))
    run_suite(suite, tmp_path / "results", make_pool=pool)
    results = run_suite(suite, tmp_path / "results", make_pool=pool)
    pairs = [results["blurred", clip].features["fid"] for clip in suite.clips]
    cell = summarise(suite, results).cell("blurred", "fid")
    assert cell is not None and (cell.count, cell.half) == (2, None) and cell.mean > 0
    assert cell.mean == pytest.approx(distance_of(pairs))
    assert cell.mean != pytest.approx(np.mean([results["blurred", c].facts["metrics"]["fid"] for c in suite.clips]))
    perfect = summarise(suite, results).cell("same", "fid")
    assert perfect is not None and perfect.mean == pytest.approx(0, abs=FLOAT64_DISTANCE)


def test_a_distance_over_all_clips_is_not_missing_where_each_clip_is_too_short(toml: Path) -> None:
    suite = replace(read_suite(toml), methods=("same",), columns=("fvd", "fid"))
    features = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    result = suites.Result(
        {"metrics": {}, "not_measured": {"fvd": "needs more frames", "fid": "needs a network"}},
        features={"fvd": (features, features + 1)},
    )
    table = summarise(suite, {("same", clip): result for clip in suite.clips})
    assert [column.key for column in table.columns] == ["fvd"] and list(table.missing.values()) == ["needs a network"]


def test_a_column_a_clip_and_a_methods_own_reference(toml: Path, tmp_path: Path) -> None:
    """Table 3's layout; and S_t as the reference of one method."""
    extra = """
[[method]]
name = "blurred, against itself"
reference = "{name}.mkv"
reference_panel = 1
output = "{reference}"
panel = 1
"""
    toml.write_text('layout = "clips"\ncolumns = ["psnr"]\n' + toml.read_text() + extra)
    suite = read_suite(toml)
    table = summarise(suite, run_suite(suite, tmp_path / "results"))
    assert [column.key for column in table.columns] == ["one", "two"]
    own, blurred = table.cell("blurred, against itself", "one"), table.cell("blurred", "one")
    assert own is not None and blurred is not None and own.mean == 100 > blurred.mean
    assert (own.place, blurred.place) == (0, 2), "what is compared with something else has no place among the others"
    assert "| method | clips | one | two |" in markdown(suite, table) and "| same | 2 | **100** |" in markdown(
        suite, table
    )


def test_the_table_of_openface_is_that_of_what_a_method_is_compared_with(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        '[[clip]]\nname = "c"\nreference = "c.mp4"\nopenface_csv = "clip.csv"\n'
        '[[method]]\nname = "plain"\noutput = "o.mp4"\nopenface_csv = "{name}.csv"\n'
        '[[method]]\nname = "own"\noutput = "o.mp4"\nreference = "s.mp4"\nopenface_csv = "{name}.csv"\n'
        'reference_openface_csv = "{name}.s.csv"\n'
        '[[method]]\nname = "own, no table"\noutput = "o.mp4"\nreference = "s.mp4"\nopenface_csv = "{name}.csv"\n'
    )
    tables = [job.tables for job in read_suite(tmp_path / "a.toml").jobs]
    output = tmp_path / "c.csv"
    assert tables == [(tmp_path / "clip.csv", output), (tmp_path / "c.s.csv", output), None]


def test_pairs_of_a_puppeteer_and_a_portrait(tmp_path: Path) -> None:
    """Table 2: identity against the portrait, the table and the page of puppeteering."""
    face = cv2.resize(astronaut()[0:230, 110:340], (96, 96), interpolation=cv2.INTER_AREA)
    write_video(tmp_path / "wide.mkv", [np.concatenate([face, np.roll(face, i, 1)], 1) for i in range(4)], 25)
    write_image(tmp_path / "face.png", face)
    (tmp_path / "pairs.toml").write_text(
        'size = 96\n[[clip]]\nname = "pair"\nreference = "wide.mkv"\npanel = 0\noutput_panel = 1\n'
        'identity = "face.png"\n[[method]]\nname = "OURS"\noutput = "{reference}"\n'
        '[[method]]\nname = "still"\noutput = "{reference}"\npanel = 0\n'
    )
    suite = read_suite(tmp_path / "pairs.toml")
    assert suite.table == PUPPETEERING and suite.jobs[0].options.output_panel == 1
    results = run_suite(suite, tmp_path / "results")
    table = summarise(suite, results)
    assert table.cell("OURS", "psnr") is None and table.cell("still", "head_pose") is not None
    assert "FVD_M" in table.missing and "I3D" in table.missing["FVD_M"]
    page = write_page(suite, table, results, tmp_path / "results").read_text()
    assert "FVD_M" in page and "Not measured" in page and "pair-mesh.png" in page
    assert read_image(tmp_path / "results" / "pictures" / "pair-0.jpg").shape[1] > 4 * 256


def test_suites_that_ship_can_be_read() -> None:
    shipped = sorted((ROOT / "suites").glob("*.toml"))
    assert {path.stem for path in shipped} >= {"paper_demo", "table1", "table2", "table3", "ablation"}
    for path in shipped:
        suite = read_suite(path)
        assert suite.note and len(suite.jobs) == len(suite.clips) * len(suite.methods)


@pytest.mark.parametrize(
    "text",
    [
        "name = ",
        "[[clip]]\nname='a'\n",
        "",
        "clip = 3\nmethod = 4",
        TOML + "[[clip]]\n",
        'columns = ["beauty"]\n' + TOML,
        'layout = "clips"\n' + TOML,
    ],
)
def test_bad_suites(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_suite(tmp_path / "bad.toml")
    assert "\n" not in str(caught.value)


def test_bad_usage(toml: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    there = ["-o", str(tmp_path)]
    for arguments in (
        ["--suite", str(toml)], [str(toml)], ["--suite", str(tmp_path / "no.toml"), *there],
        ["--suite", str(toml), *there, "--size", "128"], [str(toml), str(toml), *there],
    ):  # fmt: skip
        assert main(["evaluate", *arguments]) == 2
        assert capfd.readouterr().err.count("\n") == 1
    twice = toml.read_text().replace('name = "blurred"', 'name = "same"')
    toml.write_text(twice)
    with pytest.raises(InputError, match="each its own"):
        read_suite(toml)


def test_a_size_that_is_no_number_of_pixels_is_a_sentence(tmp_path: Path) -> None:
    entries = '[[clip]]\nname = "c"\nreference = "c.mp4"\n[[method]]\nname = "m"\noutput = "o.mp4"\n'
    (tmp_path / "a.toml").write_text("size = inf\n" + entries)
    with pytest.raises(InputError, match="is not a suite"):
        read_suite(tmp_path / "a.toml")


@pytest.mark.parametrize(
    "before, after, says",
    [
        ('name = "one"', 'name = "one"\npannel = 1', "pannel"),
        ('name = "same"', 'name = "same"\nstpe = 4', "stpe"),
        ("[[clip]]", "sise = 3\n[[clip]]", "sise"),
        ("[[clip]]", 'pack = "nothere"\n[[clip]]', "nothere"),
        ("panel = 0", 'panel = "0"', "panel of 'one' is a whole number"),
        ("panel = 0", "output_panel = -1", "output_panel of 'one'"),
        ("panel = 1", "reference_panel = 1.0", "reference_panel of 'blurred'"),
        ("panel = 0", "identity_panel = true", "identity_panel of 'one'"),
    ],
)
def test_a_slip_of_the_pen_is_said(toml: Path, before: str, after: str, says: str) -> None:
    toml.write_text(toml.read_text().replace(before, after, 1))
    with pytest.raises(InputError, match=says):
        read_suite(toml)


def test_a_page_of_somebody_elses_is_left_alone(toml: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("mine")
    assert main(["evaluate", "--suite", str(toml), "-o", str(tmp_path / "site")]) == 2
    assert (tmp_path / "site" / "index.html").read_text() == "mine"
