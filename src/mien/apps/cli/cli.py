"""The command line: all commands, exit codes, failures as one sentence.

Exit codes: 0 done, 1 the work failed, 2 bad usage or bad input, 130 Ctrl-C. A failure is one sentence on stderr.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer

from mien._version import __version__
from mien.apps.cli.align import align
from mien.apps.cli.batch import batch
from mien.apps.cli.call import call
from mien.apps.cli.doctor import doctor
from mien.apps.cli.edit import edit
from mien.apps.cli.encode import encode
from mien.apps.cli.evaluate import evaluate
from mien.apps.cli.info import info
from mien.apps.cli.live import live
from mien.apps.cli.models import models
from mien.apps.cli.page import page
from mien.apps.cli.person import person
from mien.apps.cli.play import play
from mien.apps.cli.plot import plot
from mien.apps.cli.puppeteer import puppeteer
from mien.apps.cli.render import render
from mien.apps.cli.studio import studio
from mien.apps.cli.transcode import transcode
from mien.apps.cli.verify import verify
from mien.errors import MienError
from mien.runtime.malloc import tune_malloc

DEBUG = "MIEN_DEBUG"
INTERRUPTED = "interrupted; nothing was left half-written."

app = typer.Typer(
    name="mien",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="A talking-head video as one identity latent and 35 numbers a frame.\n\n"
    "  mien encode clip.mp4 -o clip.mien        a clip becomes 70 bytes a frame\n\n"
    "  mien render clip.mien -o back.mp4        and a video again\n\n"
    "  mien puppeteer clip.mien face.png -o p.mp4   another face does the same\n\n"
    "  mien evaluate crops.mkv back.mp4         how near it comes (crops.mkv: `mien align`)\n\n"
    "`mien COMMAND --help` says what a command does, with an example.",
)
for command in (
    encode,
    person,
    render,
    puppeteer,
    align,
    play,
    live,
    call,
    batch,
    transcode,
    edit,
    info,
    plot,
    evaluate,
    verify,
    doctor,
    studio,
    page,
):
    app.command()(command)
app.add_typer(models, name="models")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"mien {__version__}")
        raise typer.Exit


@app.callback()
def _before_any_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code. Never shows a traceback unless MIEN_DEBUG is set."""
    debug = bool(os.environ.get(DEBUG))
    tune_malloc()
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that half-written files go
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # not under nohup
            signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    with _quiet_natives(debug):
        try:
            code = _run(arguments, debug)
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # the reader of our output has gone, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0


def _run(arguments: list[str] | None, debug: bool) -> int:
    try:
        code = typer.main.get_command(app)(args=arguments, prog_name="mien", standalone_mode=False)
        # The parser turns Ctrl-C into this code and says nothing.
        return _fail(INTERRUPTED, 130) if code == 130 else code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return _fail(INTERRUPTED, 130)
    except typer.Exit as error:
        return error.exit_code
    except SystemExit:
        # Click puts this in place of stdout where nobody reads our output any more.
        if type(sys.stdout).__name__ == "PacifyFlushWrapper":
            return 0
        raise
    except BrokenPipeError:
        raise
    except MienError as error:
        if debug:
            raise
        return _fail(str(error), error.exit_code)
    except Exception as error:
        if hasattr(error, "format_message"):
            return _bad_usage(error)
        if debug:
            raise
        kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
        return _fail(f"unexpected failure: {kind}{error} (set {DEBUG}=1 to see where)", 1)


def _bad_usage(error: Any) -> int:
    """What the parser of the command line found, or the help where there were no arguments at all."""
    message = error.format_message()
    if message.startswith("Usage:"):
        print(message)
        return 2
    context = getattr(error, "ctx", None)
    return _fail(message.rstrip(".") + (f" (see `{context.command_path} --help`)" if context is not None else ""), 2)


def _fail(sentence: str, code: int) -> int:
    sentence = " ".join(sentence.split())
    print(f"mien: {sentence}" + ("" if sentence.endswith((".", ")", "!", "?")) else "."), file=sys.stderr)
    return code


@contextmanager
def _quiet_natives(debug: bool) -> Iterator[None]:
    """Keep the chatter of native libraries (MediaPipe's above all) off stderr; ours goes on to it."""
    try:
        own = os.dup(2) if not debug else -1
    except OSError:  # no stderr
        own = -1
    if own < 0:
        yield
        return
    import warnings

    warnings.simplefilter("ignore")
    before = sys.stderr
    sys.stderr = os.fdopen(own, "w", buffering=1, errors="replace", closefd=False)
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    os.close(sink)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = before
        os.dup2(own, 2)
        os.close(own)
