"""`mien evaluate`: how near an output comes to its reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mien.commands.common import progress_bars

Panel = Annotated[int | None, typer.Option(min=0, metavar="K", help="Take the K-th square of a side-by-side clip.")]


def evaluate(
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="A video, or a folder of images.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="What is to be measured against it.")],
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
) -> None:
    """Measure OUTPUT against REFERENCE, frame by frame.

    L1, PSNR and SSIM of the pixels; eight measures of the face mesh, as Pearson's r over time; head pose, likeness
    and jitter. A metric that needs a network which is not here says so.

    Example: mien evaluate crops.mkv render.mp4 --json figures.json
    """
    from mien.evaluate.frames import count_frames
    from mien.evaluate.report import Judges, Options, load_networks, write_reports
    from mien.evaluate.report import evaluate as run
    from mien.files import check_output

    for path in (as_json, as_csv):
        if path is not None:
            check_output(path)
    options = Options(size, step, top, reference_panel, output_panel)
    count = -(-count_frames(reference) // step)
    count_frames(output)
    judges = Judges(load_networks(pack))
    if inception is not None:
        from mien.evaluate.fid import load_inception

        judges.inception = load_inception(inception)
    if i3d is not None:
        from mien.evaluate.fvd import load_i3d

        judges.i3d = load_i3d(i3d)
    with progress_bars() as progress, progress.stage("evaluate", count) as tick:
        result = run(reference, output, options, judges=judges, tables=openface_csv, tick=tick)
    write_reports(result, as_json, as_csv)
    print(result.to_text())
