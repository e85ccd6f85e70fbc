"""`mien evaluate`: how near an output comes to its reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mien.apps.cli.batch import make_pool
from mien.apps.cli.common import Ray, pack_file, progress_bars
from mien.errors import InputError

Reference = Annotated[Path | None, typer.Argument(metavar="REFERENCE", help="A video, or a folder of images.")]
Measured = Annotated[Path | None, typer.Argument(metavar="OUTPUT", help="What is to be measured against it.")]
SuiteFile = Annotated[
    Path | None, typer.Option(metavar="SUITE.toml", help="Many clips and methods instead, into one table.")
]
Folder = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where the suite's results and page go.")
]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="How many of the suite's pairs to measure at a time.",
        show_default="1; on a cluster all that it takes",
    ),
]
AsJson = Annotated[Path | None, typer.Option("--json", metavar="OUT.json", help="Write the figures there.")]
AsCsv = Annotated[Path | None, typer.Option("--csv", metavar="OUT.csv", help="Write a table there.")]
Side = Annotated[int, typer.Option(min=32, help="Frames are averaged down to this side first.")]
Step = Annotated[int, typer.Option(min=1, help="Measure every STEP-th frame.")]
Top = Annotated[int, typer.Option(min=0, help="Rows (of SIZE) to leave out of L1, PSNR and SSIM at the top.")]
Panel = Annotated[int | None, typer.Option(min=0, metavar="K", help="Take the K-th square of a side-by-side clip.")]
JudgingPack = Annotated[
    str | None,
    typer.Option("--pack", metavar="PACK", help="Whose identity and LPIPS networks judge; mini if here."),
]
InceptionFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="FID's network: pt_inception-2015-12-05-6726825d.pth.")
]
I3dFile = Annotated[Path | None, typer.Option(metavar="FILE", help="FVD's network: i3d_pretrained_400.pt.")]
OpenFaceTables = Annotated[
    tuple[Path, Path] | None,
    typer.Option(metavar="REF.csv OUT.csv", help="Tables of OpenFace's FeatureExtraction for both clips."),
]
AskJudges = Annotated[
    bool, typer.Option("--judges/--no-judges", help="Ask dlib and EfficientNet-Lite0 too, where they are installed.")
]
Identity = Annotated[
    Path | None,
    typer.Option(metavar="IDENTITY", help="OUTPUT shows this person (a portrait or video), moved by REFERENCE's."),
]
Inversions = Annotated[
    Path | None, typer.Option(metavar="S_T", help="Compare with the inversions of `mien encode --inversions` too.")
]


OF_SUITES = {"suite": "--suite", "folder": "-o", "jobs": "--jobs", "ray": "--ray"}


def evaluate(
    context: typer.Context,
    reference: Reference = None,
    output: Measured = None,
    suite: SuiteFile = None,
    folder: Folder = None,
    jobs: Jobs = None,
    ray: Ray = None,
    as_json: AsJson = None,
    as_csv: AsCsv = None,
    size: Side = 256,
    step: Step = 1,
    top: Top = 0,
    reference_panel: Panel = None,
    output_panel: Panel = None,
    pack: JudgingPack = None,
    inception: InceptionFile = None,
    i3d: I3dFile = None,
    openface_csv: OpenFaceTables = None,
    judges: AskJudges = True,
    puppeteering: Identity = None,
    inversions: Inversions = None,
) -> None:
    """Measure OUTPUT against REFERENCE, frame by frame.

    L1, PSNR and SSIM of the pixels; measures of the face by dlib, which nothing was trained on or fitted to, and by the
    mesh, by which the pack was trained, as Pearson's r over time; head pose, likeness and jitter. LPIPS, L_ID, FID, FVD
    and more with the networks of `mien models pull metrics`, and action units, gaze and pose by OpenFace where its
    FeatureExtraction is on the PATH. A metric that needs what is not here says so.

    With --puppeteering, the metrics of a puppet. With --suite, what was measured before is not measured again.

    Example: mien evaluate crops.mkv render.mp4 --json figures.json

    Example: mien evaluate driver.mp4 puppet.mp4 --puppeteering portrait.png

    Example: mien evaluate --suite suites/paper_demo.toml -o results
    """
    given = {p.name for p in context.command.params if _was_given(context, p.name)}
    if suite is not None:
        if folder is None or given - set(OF_SUITES):
            raise InputError("--suite takes -o FOLDER, --jobs and --ray alone: the suite itself says the rest.")
        _suite(suite, folder, jobs, ray)
        return
    for name, option in OF_SUITES.items():
        if name in given:
            raise InputError(f"{option} is for a suite.")
    if reference is None or output is None:
        raise InputError("two clips are needed, REFERENCE and OUTPUT (or --suite).")
    from mien.evaluate.evaluate import Options, write_reports
    from mien.evaluate.evaluate import evaluate as run
    from mien.evaluate.judges import JudgeModels
    from mien.evaluate.networks import gather
    from mien.runtime.files import check_output, check_outputs_differ

    read = [
        reference, output, puppeteering, inversions, *(openface_csv or ()), inception, i3d, pack_file(pack or "mini"),
    ]  # fmt: skip
    written = [path for path in (as_json, as_csv) if path is not None]
    for path in written:
        check_output(path, (), read)
    check_outputs_differ(*written)
    options = Options(size, step, top, reference_panel, output_panel)
    networks = gather(pack, inception=inception, i3d=i3d)
    with progress_bars() as progress:
        result = run(
            reference, output, options, networks=networks, judges=JudgeModels.installed() if judges else None,
            tables=openface_csv, identity=puppeteering, inversions=inversions, progress=progress,
        )  # fmt: skip
    write_reports(result, as_json, as_csv)
    print(result.to_text())


def _was_given(context: typer.Context, name: str | None) -> bool:
    """Whether an argument or option stood on the command line."""
    source = context.get_parameter_source(name) if name else None
    return source is not None and source.name == "COMMANDLINE"


def _suite(path: Path, folder: Path, jobs: int | None, ray: str | None) -> None:
    """Measure a suite; `jobs`: how many pairs at a time, None for one, or on a cluster as many as it takes."""
    from mien.evaluate.page import write_page
    from mien.evaluate.suite import MEASURED, measure_on, read_suite, run_suite
    from mien.evaluate.table import comma_separated, markdown, summarise
    from mien.runtime.files import check_output_folder, write_text

    suite = read_suite(path)
    check_output_folder(folder)
    for name in ("table.md", "table.csv", "index.html"):
        if (folder / name).exists() and not (folder / MEASURED).is_dir():
            raise InputError(
                f"{folder / name} is not of a suite's results, and would be written over: name another folder."
            )
    folder.mkdir(exist_ok=True)
    pool = (lambda count: make_pool(measure_on, count, ray, jobs)) if ray is not None else None
    with progress_bars() as progress, progress.stage("evaluate", len(suite.jobs), unit="pairs") as tick:
        results = run_suite(suite, folder, workers=jobs or 1, make_pool=pool, tick=tick)
    table = summarise(suite, results)
    write_text(folder / "table.md", markdown(suite, table))
    write_text(folder / "table.csv", comma_separated(suite, table))
    for (method, clip), result in results.items():
        if result.error is not None:
            print(f"{method}, {clip}: not measured: {result.error}")
    print(markdown(suite, table), end="")
    print(write_page(suite, table, results, folder))
