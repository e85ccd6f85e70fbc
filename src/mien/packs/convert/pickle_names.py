"""What a checkpoint's pickle may name, and what "calling" such a name gives: a closed table, nothing is imported.

A name of a pickle becomes a `Name`; `resolve` raises `UnsafePickle` for one that is not in the table, before anything
was done. `instantiate` looks a name up in a table of functions written here, or makes an inert `Record`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

STORAGE_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_NUMERIC_DTYPE = re.compile(r"[<>|=]?[biuf?][0-9]{0,2}")
_KEY_TYPES = (str, int, float, bool, bytes, type(None))


class UnsafePickle(Exception):
    """The pickle asks for something that is not allowed; the text completes the sentence "FILE ..."."""


@dataclass(frozen=True)
class Name:
    """A global name of a pickle, not imported."""

    module: str
    name: str


@dataclass
class Record:
    """An object of a known class, inert: its class name, constructor arguments and state."""

    kind: str
    args: tuple[Any, ...] = ()
    state: Any = None


@dataclass
class Storage:
    """Raw numbers of a checkpoint, which tensors are views of."""

    dtype: torch.dtype
    numel: int
    data: memoryview | None = None  # None until the raw bytes behind a legacy pickle were reached

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that still lies in its file. `load()` copies it out."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> torch.dtype:
        return self.storage.dtype

    def load(self) -> torch.Tensor:
        """A contiguous copy in memory. Raises UnsafePickle where the file has no numbers for it."""
        if self.storage.numel == 0 or 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        if self.storage.data is None:
            raise UnsafePickle("holds a tensor without its numbers")
        flat = torch.frombuffer(self.storage.data, dtype=self.dtype, count=self.storage.numel)
        return flat.as_strided(self.shape, self.stride, self.offset).clone(memory_format=torch.contiguous_format)


def _integers(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or not all(type(v) is int and v >= 0 for v in value):
        raise UnsafePickle("holds a tensor whose shape is not a row of whole numbers")
    return tuple(value)


def rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> LazyTensor:
    """`torch._utils._rebuild_tensor`, checked against the storage. Raises UnsafePickle, also for an expanded tensor: with a
    stride of 0 it can claim terabytes from four bytes, shapes are what networks are built by, and none here has one."""
    if not isinstance(storage, Storage) or type(offset) is not int or offset < 0:
        raise UnsafePickle("holds a tensor without a storage")
    shape, strides = _integers(size), _integers(stride)
    if len(shape) != len(strides) or len(shape) > 16:
        raise UnsafePickle("holds a tensor whose shape and strides differ in length")
    last = offset + sum((extent - 1) * step for extent, step in zip(shape, strides, strict=True))
    if 0 not in shape and last >= storage.numel:
        raise UnsafePickle("holds a tensor that reaches beyond its storage")
    if math.prod(shape) > storage.numel:
        raise UnsafePickle("holds a tensor that is larger than its storage")
    return LazyTensor(storage, offset, shape, strides)


def _rebuild_parameter(data: Any, *_: Any) -> LazyTensor:
    if not isinstance(data, LazyTensor):
        raise UnsafePickle("holds a parameter that is not a tensor")
    return data


def _persistent_object(meta: Any) -> Record:
    """NVIDIA's module with its source code: the class name and the state are kept, the code is not."""
    if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("class_name"), str):
        raise UnsafePickle("holds a persistent object of an unknown kind")
    return Record(meta["class_name"], (), meta.get("state"))


def _encode(text: Any, codec: Any = "latin1") -> bytes:
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise UnsafePickle("encodes a text in an unexpected way")
    return text.encode("latin1")


def view_of(data: Any) -> memoryview:
    """Bytes of a pickle as a writable memory view."""
    if isinstance(data, memoryview):
        return data
    if isinstance(data, (bytes, bytearray)):
        return memoryview(bytearray(data))
    raise UnsafePickle("holds bytes that are something else")


@dataclass
class _Array:
    """A numpy array that still waits for its state."""

    value: np.ndarray | None = None


def _dtype(spec: Any, *_: Any) -> np.dtype:
    if not isinstance(spec, str) or not _NUMERIC_DTYPE.fullmatch(spec):
        raise UnsafePickle("holds a numpy array that is not numeric")
    return np.dtype(spec)


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, np.dtype):
        raise UnsafePickle("holds a numpy number of an unknown type")
    view = view_of(data)
    if len(view) != dtype.itemsize:
        raise UnsafePickle("holds a numpy number of the wrong length")
    return np.frombuffer(bytes(view), dtype)[0].item()


def _build_array(array: _Array, state: Any) -> None:
    if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], np.dtype):
        raise UnsafePickle("holds a numpy array of an unknown form")
    _, shape, dtype, fortran, data = state
    flat = np.frombuffer(bytes(view_of(data)), dtype)
    array.value = flat.reshape(_integers(shape), order="F" if fortran else "C")


def container(kind: type) -> Callable[..., Any]:
    """The constructor of a list, tuple, set or frozenset."""

    def make(items: Any = ()) -> Any:
        if not isinstance(items, (list, tuple, set)):
            raise UnsafePickle("fills a container with something else")
        if kind in (set, frozenset):
            for item in items:
                check_key(item)
        return kind(items)

    return make


def _mapping(items: Any = (), *_: Any) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for pair in items if isinstance(items, (list, tuple)) else ():
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise UnsafePickle("fills a mapping with something else")
        check_key(pair[0])
        result[pair[0]] = pair[1]
    return result


def _reconstructor(cls: Any, base: Any, state: Any) -> Any:
    if not isinstance(cls, Name) or base != Name("builtins", "object") or state is not None:
        raise UnsafePickle("rebuilds an object in an unexpected way")
    return instantiate(cls, ())


_CALLABLE: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("torch", "Size"): container(tuple),
    ("torch", "device"): lambda *args: Record("device", args),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent_object,
    ("collections", "OrderedDict"): _mapping,
    ("collections", "defaultdict"): lambda *_: {},
    ("dnnlib.util", "EasyDict"): _mapping,
    ("dnnlib", "EasyDict"): _mapping,
    ("builtins", "dict"): _mapping,
    ("builtins", "set"): container(set),
    ("builtins", "frozenset"): container(frozenset),
    ("builtins", "list"): container(list),
    ("builtins", "tuple"): container(tuple),
    ("_codecs", "encode"): _encode,
    ("copyreg", "_reconstructor"): _reconstructor,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
}
# Names that may stand as a value and are never called.
_INERT = {("builtins", "object"), ("builtins", "int"), ("builtins", "float"), ("numpy", "ndarray")}
NESTED = Name("torch.storage", "_load_from_bytes")
# Classes that become a `Record`.
_RECORDS = re.compile(
    r"argparse\.Namespace|torch\.nn\.modules\.[a-z]+\.[A-Z]\w*|pathlib\.(Pure)?(Posix|Windows)?Path|"
    r"torch\.(float|half|int|long|bool|bfloat)[0-9]*|torch\.(cuda\.)?[A-Z][a-z]+Tensor"
)


def _canonical(module: str, name: str) -> Name:
    """Old and new spellings of the same name made one."""
    module = {"__builtin__": "builtins", "copy_reg": "copyreg", "pathlib._local": "pathlib"}.get(module, module)
    module = re.sub(r"^numpy\._core\b", "numpy.core", module)
    return Name(module, name)


def resolve(module: str, name: str) -> Name:
    """A name that a checkpoint may use. Raises UnsafePickle for any other."""
    found = _canonical(module, name)
    key = (found.module, found.name)
    if key in _CALLABLE or key in _INERT or found == NESTED or _RECORDS.fullmatch(f"{found.module}.{found.name}"):
        return found
    if found.module in ("torch", "torch.cuda", "torch.storage") and found.name in STORAGE_DTYPES:
        return Name("torch", found.name)
    if found.module == "dnnlib.tflib.network":
        raise UnsafePickle(
            "was saved by the TensorFlow version of StyleGAN2; use the PyTorch one (stylegan2-ada-pytorch's ffhq.pkl)"
        )
    raise UnsafePickle(f"names {module}.{name}, which no known checkpoint needs; nothing of the file was run")


def instantiate(target: Any, args: tuple[Any, ...]) -> Any:
    """What "calling" a name gives: a function of this module, or a `Record`. Raises UnsafePickle for any other."""
    if not isinstance(target, Name):
        raise UnsafePickle("calls something that is not a name")
    function = _CALLABLE.get((target.module, target.name))
    if function is not None:
        return function(*args)
    if _RECORDS.fullmatch(f"{target.module}.{target.name}"):
        return Record(target.name, args)
    raise UnsafePickle(f"calls {target.module}.{target.name}, which is not allowed; nothing of the file was run")


def check_key(key: Any) -> None:
    """Raise UnsafePickle unless the key is a plain value."""
    # Only plain keys: hashing a tuple nested a million deep would crash the interpreter itself.
    if not isinstance(key, _KEY_TYPES):
        raise UnsafePickle("uses a key that is not a plain value")


def set_items(target: Any, items: list[Any]) -> dict[Any, Any]:
    """Set keys and values, which alternate in `items`, in a dict and return it."""
    if not isinstance(target, dict) or len(items) % 2:
        raise UnsafePickle("sets items of something that is not a mapping")
    for key, value in zip(items[::2], items[1::2], strict=True):
        check_key(key)
        target[key] = value
    return target


def build(target: Any, state: Any) -> Any:
    """Give an object its state, as the instruction BUILD does; returns the object."""
    if isinstance(target, Record):
        target.state = state
    elif isinstance(target, _Array):
        _build_array(target, state)
    elif isinstance(target, np.dtype):
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise UnsafePickle("holds a numpy type of an unknown form")
        return target.newbyteorder(order)
    elif not isinstance(target, dict):  # attributes of a mapping (a state dict's versions) are of no use here
        raise UnsafePickle("gives a state to something that has none")
    return target
