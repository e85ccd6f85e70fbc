"""The work folder of an encode: what is finished is kept on disk, so that a run that was killed goes on from there.

`OUT.mien.work` beside the output holds one `.npz` file for each finished stage and one for the loop that is at work.
Every file is written under another name, flushed to the disk and renamed, so it is there whole or not at all; NumPy
checks its CRC-32 when it is read, and a file that cannot be read counts as not there. The folder belongs to one *key*:
a hash of the clip's bytes and of all that the stages' results depend on; a folder with another key is emptied first.
A lock keeps a second run for the same output away; it goes with the process, however that ends.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.errors import InputError, Interrupted, MienError, OutputError, RateError
from mien.runtime.files import atomic_path, lock, sibling
from mien.runtime.frame_store import ArrayFile, CropFile
from mien.runtime.resumable_loop import NO_CHECKPOINT, Checkpoint, State

T = TypeVar("T")

SUFFIX = ".work"
INTERVAL = 10.0  # seconds of a loop's work that a kill may cost
# What reads frames and finds faces, by the names of the packages; each variant of OpenCV is a package of its own.
OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
LIBRARIES = ("av", "mediapipe", *OPENCV)
SHARE = 0.03  # of the time at most goes into writing states
_KEY, _LOCK, _STATE, _END, _REST, _MEMBER = "key", "lock", "state-", ".npz", "json", ".npy"
Packed: TypeAlias = "Mapping[str, NDArray[Any] | ArrayFile]"


class NullCache:
    """Keeps nothing: every stage is computed. `resumed` names the stages and loops that an earlier run had done."""

    def __init__(self) -> None:
        self.resumed: list[str] = []

    def stage(self, name: str, kind: type[T], compute: Callable[[], T]) -> T:
        """The result of a stage."""
        return compute()

    def loop(self, name: str) -> Checkpoint:
        """Where the loop of that name keeps its state."""
        return NO_CHECKPOINT


class StageCache(NullCache):
    """The finished stages of one encode. Made by `work_folder`."""

    def __init__(self, folder: Path, interval: float = INTERVAL) -> None:
        super().__init__()
        self.folder, self.interval = folder, interval

    def stage(self, name: str, kind: type[T], compute: Callable[[], T]) -> T:
        """The result of a stage: read if it is there, else computed and kept.

        `kind`: `Tensor`, or a dataclass of tensors, arrays, also on disk, and plain numbers or tuples of them. Either way
        the result has been through the file's form, so that a resumed run goes on with just the same.
        """
        path = self.folder / f"{name}{_END}"
        found = _read(path)
        if found is not None:
            with suppress(KeyError, TypeError, ValueError):
                result = _unpack(kind, found)
                self.resumed.append(name)
                return result
        packed = _pack(compute())
        self._write(path, packed)
        self._path_of(name).unlink(missing_ok=True)
        return _unpack(kind, packed)

    def loop(self, name: str) -> Checkpoint:
        """Where the loop of the stage `name` keeps its state, until the stage is finished."""
        return _Kept(self, self._path_of(name))

    def publish(self, output: Path, data: bytes) -> None:
        """`data` as the finished file `output`, in one step, or through it where it is a link, a pipe or a device (as
        `atomic_path`). Raises MienError as `stage` does."""
        with self._failing(), atomic_path(output) as temporary:
            _flushed(temporary, lambda file: file.write(data))

    def _path_of(self, loop: str) -> Path:
        return self.folder / f"{_STATE}{loop}{_END}"

    def _write(self, path: Path, arrays: Packed) -> None:
        with self._failing():
            temporary = path.with_suffix(".tmp")
            _flushed(temporary, lambda file: _save(file, arrays))
            os.replace(temporary, path)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise MienError(f"the disk is full: nothing was written to {self.folder.parent}.") from error
            raise OutputError(f"cannot write in {self.folder}: {(error.strerror or str(error)).lower()}.") from error


class _Kept:
    """The state of one loop in a file."""

    def __init__(self, work: StageCache, path: Path) -> None:
        self._work, self._path = work, path
        self._last, self._wait = time.monotonic(), work.interval

    def load(self) -> State | None:
        found = _read(self._path)
        if found is not None:
            self._work.resumed.append(self._path.stem)
        self._last = time.monotonic()
        return None if found is None else {name: x for name, x in found.items() if isinstance(x, np.ndarray)}

    def offer(self, state: Callable[[], State]) -> None:
        begin = time.monotonic()
        if begin - self._last < self._wait:
            return
        self._work._write(self._path, state())
        self._last = time.monotonic()
        self._wait = max(self._work.interval, (self._last - begin) / SHARE) if self._work.interval else 0.0


@contextmanager
def work_folder(output: Path, key: str, interval: float = INTERVAL) -> Iterator[StageCache]:
    """Open the work folder of `output`.

    It is removed when the block ends well and after an error of mien's own, which would come again; it stays after
    Ctrl-C, a kill, what nobody foresaw, and a rate that cannot be reached: with another one the work goes on.

    Raises:
        InputError: another process is at work on the same output, or the folder's name is taken.
        MienError: the disk is full; OutputError: the folder cannot be made.
    """
    folder = sibling(output, SUFFIX)
    work = StageCache(folder, interval)
    with work._failing():
        folder.mkdir(exist_ok=True)
        if any(folder.iterdir()) and not any((folder / name).is_file() for name in (_KEY, _LOCK)):
            raise InputError(f"{folder} is no work folder of mien: move it away, or name another output.")
        held = (folder / _LOCK).open("w")
    with held:
        _hold(held, folder)
        try:
            with work._failing():
                _claim(folder, key)
            yield work
        except (Interrupted, RateError):
            raise
        except MienError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def interval() -> float:
    """Seconds between two states of a loop: `MIEN_CHECKPOINT`, 10 where it is not set. Raises InputError."""
    text = os.environ.get("MIEN_CHECKPOINT", "")
    try:
        seconds = float(text) if text else INTERVAL
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise InputError(f"MIEN_CHECKPOINT must be a number of seconds, not {text!r}.")
    return seconds


def encode_key(clip: Path, pack: str, device: str, options: str, *, imagenet: bool) -> str:
    """A hash of all that the stages' results depend on: the clip's bytes, the pack's fingerprint, the device's kind,
    the `options` (`EncodeOptions.key`), `imagenet`: whether the network whose features tuning compares is installed,
    and this program (its sources, its libraries, and the number of threads, which sums depend on)."""
    digest = hashlib.sha256()
    for path in [clip, *sorted(Path(__file__).parents[1].rglob("*.py"))]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    facts = [pack, device, torch.__version__, torch.get_num_threads(), np.__version__, options, imagenet]
    facts += [_version_of(library) for library in LIBRARIES]
    digest.update(json.dumps(facts).encode())
    return digest.hexdigest()


def _version_of(library: str) -> str:
    """The version of an installed package; empty where it is none."""
    with suppress(PackageNotFoundError):
        return version(library)
    return ""


def _claim(folder: Path, key: str) -> None:
    """Make the folder the key's: as it is if it was before, empty if not; without what was half-written either way."""
    mine = folder / _KEY
    same = mine.is_file() and mine.read_bytes() == key.encode()
    for path in folder.iterdir():
        if path.name not in (_KEY, _LOCK) and not (same and path.suffix == _END):
            path.unlink()
    if not same:
        _flushed(folder / "key.tmp", lambda file: file.write(key.encode()))
        os.replace(folder / "key.tmp", mine)


def _hold(file: Any, folder: Path) -> None:
    if not lock(file):
        raise InputError(f"another mien is at work on the same output (its work folder is {folder}).")


def _flushed(path: Path, write: Callable[[Any], Any]) -> None:
    with path.open("wb") as file:
        write(file)
        file.flush()
        if path.is_file():  # a pipe has no disk
            os.fsync(file.fileno())


def _save(file: BinaryIO, arrays: Packed) -> None:
    """As `np.savez` does, but what is on disk row by row."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}{_MEMBER}", "w", force_zip64=True) as member:
                if isinstance(array, ArrayFile):
                    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
                    np.lib.format.write_array_header_1_0(member, header)
                    for row in array:
                        member.write(row.tobytes())
                else:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _read(path: Path) -> Packed | None:
    """What `_save` wrote; None where it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(_MEMBER) for name in archive.namelist()]
            on_disk = json.loads(str(_array(archive, _REST)))[2] if _REST in names else []
            return {name: (_on_disk if name in on_disk else _array)(archive, name) for name in names}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}{_MEMBER}") as member:
        array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
        member.read()  # to its end, where the CRC-32 is compared
    return array


def _on_disk(archive: zipfile.ZipFile, name: str) -> ArrayFile:
    """Crops as a `CropFile`, other arrays as an `ArrayFile`."""
    with archive.open(f"{name}{_MEMBER}") as member:
        np.lib.format.read_magic(member)
        (count, *row), _, kind = np.lib.format.read_array_header_1_0(member)
        of_crops = kind == np.uint8 and len(row) == 3 and row[0] == row[1] and row[2] == 3
        rows = CropFile(row[0]) if of_crops else ArrayFile(tuple(row), kind)
        for _ in range(count):
            rows.append(np.frombuffer(member.read(math.prod(row) * kind.itemsize), kind).reshape(row))
        member.read()
    return rows


def _pack(value: Any) -> Packed:
    """A result as arrays: tensors and arrays as they are, the rest, the tensors' devices, and what is on disk, as JSON."""
    items = {"value": value} if isinstance(value, Tensor) else {f.name: getattr(value, f.name) for f in fields(value)}
    arrays: dict[str, NDArray[Any] | ArrayFile] = {}
    plain: dict[str, Any] = {}
    devices: dict[str, str] = {}
    for name, item in items.items():
        if isinstance(item, Tensor):
            arrays[name], devices[name] = item.detach().cpu().numpy(), str(item.device)
        elif isinstance(item, np.ndarray | ArrayFile):
            arrays[name] = item
        else:
            plain[name] = item
    on_disk = [name for name, array in arrays.items() if isinstance(array, ArrayFile)]
    return arrays | {_REST: np.array(json.dumps([plain, devices, on_disk]))}


def _unpack(kind: type[T], arrays: Packed) -> T:
    plain, devices, _ = json.loads(str(arrays[_REST]))
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()}
    for name, array in arrays.items():
        if name in devices:
            values[name] = torch.from_numpy(np.ascontiguousarray(array)).to(devices[name])
        elif name != _REST:
            values[name] = array
    return values["value"] if kind is Tensor else kind(**values)
