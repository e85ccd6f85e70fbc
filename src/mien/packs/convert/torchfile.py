"""Reads the checkpoint files of others (`.pt`, `.pth`, `.pkl`) without running anything of them.

Files are told apart by their content:

- zip: `torch.save` since 1.6;
- tar: `torch.save` before 0.1.10 (some of torchvision's oldest backbones);
- a run of pickles with raw storages behind: `torch.save` from 0.1.10 to 1.5;
- one plain pickle: NVIDIA's networks. Their modules carry source code, which is dropped unread.

Tensors are `LazyTensor`: checked against their storage when met, copied out of the memory-mapped file when asked for,
so that of a file with three networks only the one that is wanted is ever loaded.
"""

from __future__ import annotations

import io
import mmap
import re
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mien.errors import PackError
from mien.packs.convert.pickle_names import (
    STORAGE_DTYPES,
    LazyTensor,
    Name,
    Record,
    Storage,
    UnsafePickle,
    check_key,
    rebuild_tensor,
    view_of,
)
from mien.packs.convert.unpickle import Cursor, interpret

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MAX_DEPTH = 64  # of nested modules; the deepest official network has six levels

# Whatever a damaged file makes the decoders raise, it means the same to the user.
DAMAGE = (
    ArithmeticError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    RuntimeError,
    EOFError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
    tarfile.TarError,
)


def _storage_of(name: Any, numel: Any) -> Storage:
    if not isinstance(name, Name) or name.name not in STORAGE_DTYPES or type(numel) is not int or numel < 0:
        raise UnsafePickle("holds a storage of an unknown type")
    return Storage(STORAGE_DTYPES[name.name], numel)


def _read_zip(view: memoryview, file: io.RawIOBase | io.BufferedIOBase) -> Any:
    with zipfile.ZipFile(file) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in entries if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(pickles) != 1:
            raise UnsafePickle("is a zip file without a pickle of tensors")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}constants.pkl" in entries:
            raise UnsafePickle("is a TorchScript program, which would have to be run; a plain checkpoint is needed")

        def content(name: str) -> memoryview:
            info = entries[name]
            if info.compress_type != zipfile.ZIP_STORED:
                raise UnsafePickle("is compressed, which no known checkpoint is")
            # The local header repeats name and extra field, whose length may differ from the directory's.
            start = info.header_offset
            if bytes(view[start : start + 4]) != b"PK\x03\x04":
                raise ValueError("no local header")
            name_length, extra_length = struct.unpack("<HH", view[start + 26 : start + 30])
            start += 30 + name_length + extra_length
            if start + info.file_size > len(view):
                raise ValueError("cut short")
            return view[start : start + info.file_size]

        if f"{root}byteorder" in entries and bytes(content(f"{root}byteorder")) != b"little":
            raise UnsafePickle("was saved on a big-endian machine")
        storages: dict[str, Storage] = {}

        def persistent(saved: Any) -> Storage:
            if not isinstance(saved, tuple) or len(saved) != 5 or saved[0] != "storage":
                raise UnsafePickle("refers to data of an unknown kind")
            _, kind, key, _, numel = saved
            if key not in storages:
                storage = _storage_of(kind, numel)
                storage.data = content(f"{root}data/{key}")
                if len(storage.data) != storage.nbytes:
                    raise ValueError("a storage of the wrong length")
                storages[key] = storage
            return storages[key]

        return interpret(Cursor(content(pickles[0])), persistent)


def _fill_storage(cursor: Cursor, storage: Storage) -> None:
    (numel,) = struct.unpack("<q", cursor.take(8))
    if numel != storage.numel:
        raise ValueError("a storage of the wrong length")
    storage.data = cursor.take(storage.nbytes)


def _read_legacy(cursor: Cursor) -> Any:
    if interpret(cursor) != _LEGACY_MAGIC or interpret(cursor) != _LEGACY_PROTOCOL:
        raise UnsafePickle("is not a torch file")
    system = interpret(cursor)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UnsafePickle("was saved on a big-endian machine")
    roots: dict[Any, Storage] = {}
    views: dict[Any, tuple[Storage, Storage, int]] = {}

    def persistent(saved: Any) -> Any:
        if not isinstance(saved, tuple) or len(saved) not in (5, 6):
            raise UnsafePickle("refers to data of an unknown kind")
        if saved[0] == "module":  # (class, source file, source): the class name is enough
            return saved[1]
        if saved[0] != "storage":
            raise UnsafePickle("refers to data of an unknown kind")
        _, kind, key, _, numel = saved[:5]
        check_key(key)
        root = roots.setdefault(key, _storage_of(kind, numel))
        if len(saved) == 5 or saved[5] is None:
            return root
        view_key, offset, length = saved[5]
        check_key(view_key)
        if view_key not in views:
            views[view_key] = (_storage_of(kind, length), root, offset)
        return views[view_key][0]

    result = interpret(cursor, persistent)
    keys = interpret(cursor)
    for key in keys if isinstance(keys, list) else ():
        check_key(key)
        _fill_storage(cursor, roots[key])
    for storage, root, offset in views.values():
        if type(offset) is not int or offset < 0 or offset + storage.numel > root.numel or root.data is None:
            raise ValueError("a view beyond its storage")
        start = offset * root.dtype.itemsize
        storage.data = root.data[start : start + storage.nbytes]
    if any(storage.data is None for storage in roots.values()):
        raise ValueError("storages are missing")
    return result


def _read_tar(view: memoryview, file: io.RawIOBase | io.BufferedIOBase) -> Any:
    with tarfile.open(fileobj=file, mode="r:") as archive:
        members = {member.name: member for member in archive.getmembers() if member.isreg()}

    def content(name: str) -> Cursor:
        member = members[name]
        if member.offset_data + member.size > len(view):
            raise ValueError("cut short")
        return Cursor(view[member.offset_data : member.offset_data + member.size])

    objects: dict[int, Any] = {}
    cursor = content("storages")
    for _ in range(_count(interpret(cursor))):
        key, _, kind = interpret(cursor)
        (numel,) = struct.unpack("<q", cursor.view[cursor.position : cursor.position + 8])
        objects[_count(key)] = storage = _storage_of(kind, numel)
        _fill_storage(cursor, storage)
    for target, root, offset, numel in interpret(cursor):
        whole = objects[root]
        part = Storage(whole.dtype, _count(numel))
        start = _count(offset) * whole.dtype.itemsize
        part.data = whole.data[start : start + part.nbytes]
        if len(part.data) != part.nbytes:
            raise ValueError("a view beyond its storage")
        objects[_count(target)] = part
    cursor = content("tensors")
    for _ in range(_count(interpret(cursor))):
        key, storage, _ = interpret(cursor)
        (dimensions, _) = struct.unpack("<ii", cursor.take(8))
        if not 0 <= dimensions <= 16:
            raise ValueError("too many dimensions")
        shape = struct.unpack(f"<{dimensions}q", cursor.take(8 * dimensions))
        stride = struct.unpack(f"<{dimensions}q", cursor.take(8 * dimensions))
        (offset,) = struct.unpack("<q", cursor.take(8))
        objects[_count(key)] = rebuild_tensor(objects[storage], offset, shape, stride)

    def persistent(saved: Any) -> Any:
        if isinstance(saved, tuple) and saved and isinstance(saved[0], Name):
            return saved[0]
        return objects[int(saved)]

    return interpret(content("pickle"), persistent)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("not a count")
    return value


def _load_from_bytes(data: Any) -> Storage:
    """A storage inside a plain pickle: the bytes are a whole legacy `.pt` file that holds nothing but the storage."""
    storage = _read_legacy(Cursor(view_of(data)))
    if not isinstance(storage, Storage):
        raise UnsafePickle("holds a storage that is something else")
    return storage


def load_checkpoint(path: Path | str) -> Any:
    """Reads a `.pt`, `.pth` or `.pkl` file and runs nothing of it.

    Returns the containers as they were saved, with `LazyTensor` for every tensor, numpy arrays as they are, and
    `Record` for objects of known classes. Raises `PackError`, one sentence, when the file is missing, damaged, of an
    unknown kind, or asks for anything that is not a tensor, a container or a known class.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise PackError(f"{path} is empty.")
            # A private mapping: torch wants writable memory, and nothing is ever written back.
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
            return _read(view, file)
    except UnsafePickle as refusal:
        raise PackError(f"{path} {refusal}.") from None
    except OSError as error:
        raise PackError(f"{path} cannot be read: {error.strerror or error}.") from None
    except DAMAGE:
        raise PackError(f"{path} is damaged, cut short, or not a checkpoint.") from None


def _read(view: memoryview, file: io.BufferedReader) -> Any:
    head = bytes(view[:512])
    if head.lstrip()[:9].lower() in (b"<!doctype", b"<html") or head.lstrip()[:5].lower() == b"<html":
        raise UnsafePickle("is a web page, not a checkpoint: the download page answered instead of the file")
    if head.startswith(b"version https://git-lfs"):
        raise UnsafePickle("is a Git LFS pointer, not the file it points to")
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(view, file)
    if tarfile.BLOCKSIZE <= len(view) and head[257:262] == b"ustar":
        return _read_tar(view, file)
    cursor = Cursor(view)
    if head.startswith(b"\x80\x02\x8a\x0a" + _LEGACY_MAGIC.to_bytes(10, "little")):
        return _read_legacy(cursor)
    if not head.startswith(b"\x80"):
        raise UnsafePickle("is not a checkpoint of a known kind")
    return interpret(cursor, nested=_load_from_bytes)


def tensors(tree: Any) -> dict[str, LazyTensor]:
    """The state dict of a module record (NVIDIA's persistent modules), or the tensors of a flat mapping.

    Empty tensors are left out: no network has any, and nothing bounds their other extents. Raises `UnsafePickle` when
    the tree is neither.
    """
    if isinstance(tree, dict):
        return {key: value for key, value in tree.items() if isinstance(key, str) and _filled(value)}
    if isinstance(tree, Record) and isinstance(tree.state, dict):
        return dict(_walk(tree, "", 0))
    raise UnsafePickle("holds neither a module nor a state dict")


def _filled(value: Any) -> bool:
    return isinstance(value, LazyTensor) and 0 not in value.shape


def _walk(record: Record, prefix: str, depth: int) -> Iterator[tuple[str, LazyTensor]]:
    if depth > _MAX_DEPTH:
        raise UnsafePickle("holds modules nested without end")
    state = record.state if isinstance(record.state, dict) else {}
    for group in ("_parameters", "_buffers"):
        for name, value in (state.get(group) or {}).items():
            if _filled(value):
                yield f"{prefix}{name}", value
    for name, value in (state.get("_modules") or {}).items():
        if isinstance(value, Record):
            yield from _walk(value, f"{prefix}{name}.", depth + 1)
