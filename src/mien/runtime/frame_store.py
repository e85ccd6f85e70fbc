"""Crops and latents of a clip on disk: stages read the few that they look at, so memory does not grow with the clip."""

from __future__ import annotations

import errno
import io
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mien.errors import MienError

Image = NDArray[np.uint8]


class ArrayFile:
    """Arrays of one shape, `[T, *shape]`, in a temporary file without a name, which goes with the object.

    Indexed as an array is in its first axis, by a number, a slice, or an array of numbers or of truth values; what is
    read is the caller's own copy. Reading is safe from several threads. `folder`: of the file, by default that of
    temporary files. Raises MienError where no temporary file can be made, and `append` where the disk is full.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: DTypeLike, rows: Iterable[NDArray[Any]] = (), *, folder: Path | None = None
    ) -> None:
        self.dtype, self._row, self._count, self._folder = np.dtype(dtype), shape, 0, folder
        try:
            self._file: io.FileIO = tempfile.TemporaryFile(prefix="mien-", buffering=0, dir=folder)  # noqa: SIM115 (kept)
        except OSError as error:
            raise MienError(f"no temporary file can be made for the clip's frames (set TMPDIR): {error}.") from error
        for row in rows:
            self.append(row)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self._count, *self._row)

    def __len__(self) -> int:
        return self._count

    def append(self, row: NDArray[Any]) -> None:
        """One more, of the row's shape. Raises ValueError for another shape or type."""
        if row.shape != self._row or row.dtype != self.dtype:
            raise ValueError(f"a row is {self.dtype} {self._row}, not {row.dtype} {row.shape}")
        left = np.ascontiguousarray(row).data.cast("B")
        try:
            self._file.seek(self._count * self._bytes)
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                folder = self._folder or tempfile.gettempdir()
                raise MienError(f"the disk is full: the clip's frames do not fit in {folder} (set TMPDIR).") from error
            raise
        self._count += 1

    def __getitem__(self, which: Any) -> NDArray[Any]:
        places = np.arange(self._count)[which]
        out = np.empty((*places.shape, *self._row), self.dtype)
        flat = out.reshape(places.size, math.prod(self._row)).view(np.uint8)
        for row, place in zip(flat, places.reshape(-1), strict=True):
            self._read(row, int(place) * self._bytes)
        return out

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for i in range(self._count):
            yield self[i]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of them in memory."""
        return self[:] if dtype is None else self[:].astype(dtype)

    @property
    def _bytes(self) -> int:
        return math.prod(self._row) * self.dtype.itemsize

    def _read(self, row: NDArray[np.uint8], at: int) -> None:
        left = row.data
        while left:
            got = os.preadv(self._file.fileno(), [left], at)
            if not got:
                raise OSError("the temporary file of the clip's frames is shorter than it was")
            left, at = left[got:], at + got


class CropFile(ArrayFile):
    """Crops uint8 RGB `[T, size, size, 3]`."""

    def __init__(self, size: int, crops: Iterable[Image] = (), *, folder: Path | None = None) -> None:
        self.size = size
        super().__init__((size, size, 3), np.uint8, crops, folder=folder)


Crops: TypeAlias = CropFile | Image  # uint8 `[T, S, S, 3]`, on disk or in memory
