"""Every error that bad input can cause: one sentence for the user, never a traceback on the command line."""


class MienError(Exception):
    """Base of all errors that `mien` raises on purpose. `exit_code` is what the command line returns for it.

    1: the work itself failed (no network, disk full). 2: bad usage or bad input.
    """

    exit_code = 1


class InputError(MienError):
    """The input cannot be used: a wrong, empty, truncated or foreign file, or a value out of range."""

    exit_code = 2


class VideoError(InputError):
    """A video or image file cannot be read."""


class FaceError(InputError):
    """No usable face in the clip or image."""


class RateError(InputError):
    """A clip cannot be coded at the rate that was asked for. It is known only when all else is done."""


class PersonChangeError(FaceError):
    """A clip cuts to another person. `frames`: at which; `times`: those, in seconds from the first frame taken."""

    def __init__(self, frames: list[int], times: list[float]) -> None:
        self.frames, self.times = frames, times
        places = ", ".join(f"frame {frame} ({time:.2f} s)" for frame, time in zip(frames, times, strict=True))
        super().__init__(
            f"the clip cuts to another person at {places}: a stream is one person. Encode each part with --cuts split, or "
            "one of them with --start and --duration."
        )


class StreamError(InputError):
    """A `.mien` file is damaged, foreign, of an unknown version, or made for another pack."""


class PackError(InputError):
    """A pack is missing, damaged, or lacks a network that the work needs."""


class MissingPackageError(MienError):
    """A package that the work needs is not installed; the sentence says how to get it."""


class OutputError(MienError):
    """The output cannot be written."""

    exit_code = 2


class Interrupted(MienError):
    """Ctrl-C during work that can be taken up again; the sentence says how."""

    exit_code = 130
