"""`mien evaluate`: how near an output comes to its reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mien.apps.cli.batch import make_pool
from mien.apps.cli.common import progress_bars
from mien.errors import InputError

Panel = Annotated[int | None, typer.Option(min=0, metavar="K", help="Take the K-th square of a side-by-side clip.")]


def evaluate(
    reference: Annotated[
        Path | None, typer.Argument(metavar="REFERENCE", help="A video, or a folder of images.")
    ] = None,
    output: Annotated[Path | None, typer.Argument(metavar="OUTPUT", help="What is to be measured against it.")] = None,
    suite: Annotated[
        Path | None, typer.Option(metavar="SUITE.toml", help="Many clips and methods instead, into one table.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where the suite's results and page go.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="How many of the suite's pairs to measure at a time.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="ADDRESS", help="A Ray cluster for the suite: host:port, auto or local."),
    ] = None,
    as_json: Annotated[Path | None, typer.Option("--json", metavar="OUT.json", help="Write the figures there.")] = None,
    as_csv: Annotated[Path | None, typer.Option("--csv", metavar="OUT.csv", help="Write a table there.")] = None,
    size: Annotated[int, typer.Option(min=32, help="Frames are averaged down to this side first.")] = 256,
    step: Annotated[int, typer.Option(min=1, help="Measure every STEP-th frame.")] = 1,
    top: Annotated[int, typer.Option(min=0, help="Rows (of SIZE) to leave out of L1, PSNR and SSIM at the top.")] = 0,
    reference_panel: Panel = None,
    output_panel: Panel = None,
    pack: Annotated[
        str | None,
        typer.Option("--pack", metavar="PACK", help="Whose identity and LPIPS networks judge; mini if here."),
    ] = None,
    inception: Annotated[
        Path | None, typer.Option(metavar="FILE", help="FID's network: pt_inception-2015-12-05-6726825d.pth.")
    ] = None,
    i3d: Annotated[Path | None, typer.Option(metavar="FILE", help="FVD's network: i3d_pretrained_400.pt.")] = None,
    openface_csv: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="REF.csv OUT.csv", help="Tables of OpenFace's FeatureExtraction for both clips."),
    ] = None,
    judges: Annotated[
        bool,
        typer.Option("--judges/--no-judges", help="Ask dlib and EfficientNet-Lite0, where they are installed, too."),
    ] = True,
    puppeteering: Annotated[
        Path | None,
        typer.Option(metavar="IDENTITY", help="OUTPUT shows this person (a portrait or video), moved by REFERENCE's."),
    ] = None,
    inversions: Annotated[
        Path | None, typer.Option(metavar="S_T", help="Compare with the inversions of `mien encode --inversions` too.")
    ] = None,
) -> None:
    """Measure OUTPUT against REFERENCE, frame by frame.

    L1, PSNR and SSIM of the pixels; measures of the face by dlib, which nothing was trained on or fitted to, and by the
    mesh, which is also what is fitted, as Pearson's r over time; head pose, likeness and jitter. LPIPS, L_ID, FID, FVD and more with the networks of `mien models pull metrics`, and action units, gaze
    and pose by OpenFace where its FeatureExtraction is on the PATH. A metric that needs what is not here says so.

    With --puppeteering, the metrics of a puppet. With --suite, what was measured before is not measured again.

    Example: mien evaluate crops.mkv render.mp4 --json figures.json

    Example: mien evaluate driver.mp4 puppet.mp4 --puppeteering portrait.png

    Example: mien evaluate --suite suites/paper_demo.toml -o results
    """
    if suite is not None:
        if reference is not None or folder is None:
            raise InputError("--suite takes -o FOLDER and no other clips.")
        _suite(suite, folder, jobs, ray)
        return
    if ray is not None:
        raise InputError("--ray is for a suite.")
    if reference is None or output is None:
        raise InputError("two clips are needed, REFERENCE and OUTPUT (or --suite).")
    from mien.evaluate.evaluate import Options, write_reports
    from mien.evaluate.evaluate import evaluate as run
    from mien.evaluate.frames import count_frames
    from mien.evaluate.judges import JudgeModels
    from mien.evaluate.networks import gather
    from mien.runtime.files import check_output

    for path in (as_json, as_csv):
        if path is not None:
            check_output(path)
    options = Options(size, step, top, reference_panel, output_panel)
    count = -(-count_frames(reference) // step) * (1 if inversions is None else 2)
    count_frames(output)
    networks = gather(pack, inception=inception, i3d=i3d)
    with progress_bars() as progress, progress.stage("evaluate", count) as tick:
        result = run(
            reference,
            output,
            options,
            networks=networks,
            judges=JudgeModels.installed() if judges else None,
            tables=openface_csv,
            identity=puppeteering,
            inversions=inversions,
            tick=tick,
        )
    write_reports(result, as_json, as_csv)
    print(result.to_text())


def _suite(path: Path, folder: Path, jobs: int, ray: str | None) -> None:
    from mien.evaluate.page import write_page
    from mien.evaluate.suite import measure_on, read_suite, run_suite
    from mien.evaluate.table import comma_separated, markdown, summarise
    from mien.runtime.files import check_output, write_text

    suite = read_suite(path)
    check_output(folder.parent / (folder.name + ".html"))
    folder.mkdir(exist_ok=True)
    pool = (lambda count: make_pool(measure_on, count, ray, None)) if ray is not None else None
    with progress_bars() as progress, progress.stage("evaluate", len(suite.jobs), unit="pairs") as tick:
        results = run_suite(suite, folder, workers=jobs, make_pool=pool, tick=tick)
    table = summarise(suite, results)
    write_text(folder / "table.md", markdown(suite, table))
    write_text(folder / "table.csv", comma_separated(suite, table))
    for (method, clip), result in results.items():
        if result.error is not None:
            print(f"{method}, {clip}: not measured: {result.error}")
    print(markdown(suite, table), end="")
    print(write_page(suite, table, results, folder))
