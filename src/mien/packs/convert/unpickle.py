"""Interprets pickles without running them.

A pickle is a program; `pickle.load` runs it. Here the opcodes are decoded one by one (`pickletools` does that without
running anything) and interpreted by a small machine of our own that knows containers, tensors, numpy arrays and a
closed list of names. A name is never imported: it is a `Name`, and "calling" one looks it up in a table of functions
written here. What is not in the table ends the reading with `Refused`, before anything was done.

`packs/convert/torchfile.py` reads whole checkpoint files with it.
"""

from __future__ import annotations

import math
import pickletools
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


class Refused(Exception):
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
        """A contiguous copy in memory. Raises Refused for an expanded tensor: with a stride of 0 it can claim terabytes
        from four bytes, and no network here has one."""
        if self.storage.numel == 0 or 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        if self.storage.data is None or math.prod(self.shape) > self.storage.numel:
            raise Refused("holds a tensor that is larger than its storage")
        flat = torch.frombuffer(self.storage.data, dtype=self.dtype, count=self.storage.numel)
        return flat.as_strided(self.shape, self.stride, self.offset).clone(memory_format=torch.contiguous_format)


class Cursor:
    """File-like reading of a memory view, which copies only what is asked for."""

    def __init__(self, view: memoryview) -> None:
        self.view, self.position = view, 0

    def tell(self) -> int:
        return self.position

    def read(self, size: int) -> bytes:
        if size < 0:
            raise ValueError("negative length")
        data = bytes(self.view[self.position : self.position + size])
        self.position += len(data)
        return data

    def take(self, size: int) -> memoryview:
        if size < 0 or size > len(self.view) - self.position:
            raise ValueError("cut short")
        self.position += size
        return self.view[self.position - size : self.position]

    def readline(self) -> bytes:
        # Text arguments of a pickle are short; a line without an end is refused rather than read to the file's end.
        chunk = bytes(self.view[self.position : self.position + 65536])
        end = chunk.find(b"\n")
        if end < 0:
            raise ValueError("a line does not end")
        self.position += end + 1
        return chunk[: end + 1]


# --- What may be "called" ----------------------------------------------------------------------------------------


def _integers(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or not all(type(v) is int and v >= 0 for v in value):
        raise Refused("holds a tensor whose shape is not a row of whole numbers")
    return tuple(value)


def rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> LazyTensor:
    if not isinstance(storage, Storage) or type(offset) is not int or offset < 0:
        raise Refused("holds a tensor without a storage")
    shape, strides = _integers(size), _integers(stride)
    if len(shape) != len(strides) or len(shape) > 16:
        raise Refused("holds a tensor whose shape and strides differ in length")
    last = offset + sum((extent - 1) * step for extent, step in zip(shape, strides, strict=True))
    if 0 not in shape and last >= storage.numel:
        raise Refused("holds a tensor that reaches beyond its storage")
    return LazyTensor(storage, offset, shape, strides)


def _rebuild_parameter(data: Any, *_: Any) -> LazyTensor:
    if not isinstance(data, LazyTensor):
        raise Refused("holds a parameter that is not a tensor")
    return data


def _persistent_object(meta: Any) -> Record:
    """NVIDIA's module with its source code: the class name and the state are kept, the code is not."""
    if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("class_name"), str):
        raise Refused("holds a persistent object of an unknown kind")
    return Record(meta["class_name"], (), meta.get("state"))


def _encode(text: Any, codec: Any = "latin1") -> bytes:
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise Refused("encodes a text in an unexpected way")
    return text.encode("latin1")


def view_of(data: Any) -> memoryview:
    if isinstance(data, memoryview):
        return data
    if isinstance(data, (bytes, bytearray)):
        return memoryview(bytearray(data))
    raise Refused("holds bytes that are something else")


@dataclass
class _Array:
    """A numpy array that still waits for its state."""

    value: np.ndarray | None = None


def _dtype(spec: Any, *_: Any) -> np.dtype:
    if not isinstance(spec, str) or not _NUMERIC_DTYPE.fullmatch(spec):
        raise Refused("holds a numpy array that is not numeric")
    return np.dtype(spec)


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, np.dtype):
        raise Refused("holds a numpy number of an unknown type")
    view = view_of(data)
    if len(view) != dtype.itemsize:
        raise Refused("holds a numpy number of the wrong length")
    return np.frombuffer(bytes(view), dtype)[0].item()


def _build_array(array: _Array, state: Any) -> None:
    if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], np.dtype):
        raise Refused("holds a numpy array of an unknown form")
    _, shape, dtype, fortran, data = state
    flat = np.frombuffer(bytes(view_of(data)), dtype)
    array.value = flat.reshape(_integers(shape), order="F" if fortran else "C")


def _container(kind: type) -> Callable[..., Any]:
    def make(items: Any = ()) -> Any:
        if not isinstance(items, (list, tuple, set)):
            raise Refused("fills a container with something else")
        if kind in (set, frozenset):
            for item in items:
                check_key(item)
        return kind(items)

    return make


def _mapping(items: Any = (), *_: Any) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for pair in items if isinstance(items, (list, tuple)) else ():
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise Refused("fills a mapping with something else")
        check_key(pair[0])
        result[pair[0]] = pair[1]
    return result


def _reconstructor(cls: Any, base: Any, state: Any) -> Any:
    if not isinstance(cls, Name) or base != Name("builtins", "object") or state is not None:
        raise Refused("rebuilds an object in an unexpected way")
    return _instantiate(cls, ())


_CALLABLE: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("torch", "Size"): _container(tuple),
    ("torch", "device"): lambda *args: Record("device", args),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent_object,
    ("collections", "OrderedDict"): _mapping,
    ("collections", "defaultdict"): lambda *_: {},
    ("dnnlib.util", "EasyDict"): _mapping,
    ("dnnlib", "EasyDict"): _mapping,
    ("builtins", "dict"): _mapping,
    ("builtins", "set"): _container(set),
    ("builtins", "frozenset"): _container(frozenset),
    ("builtins", "list"): _container(list),
    ("builtins", "tuple"): _container(tuple),
    ("_codecs", "encode"): _encode,
    ("copyreg", "_reconstructor"): _reconstructor,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
}
# Names that may stand as a value and are never called.
_INERT = {("builtins", "object"), ("builtins", "int"), ("builtins", "float"), ("numpy", "ndarray")}
_NESTED = Name("torch.storage", "_load_from_bytes")
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


def _resolve(module: str, name: str) -> Name:
    found = _canonical(module, name)
    key = (found.module, found.name)
    if key in _CALLABLE or key in _INERT or found == _NESTED or _RECORDS.fullmatch(f"{found.module}.{found.name}"):
        return found
    if found.module in ("torch", "torch.cuda", "torch.storage") and found.name in STORAGE_DTYPES:
        return Name("torch", found.name)
    if found.module == "dnnlib.tflib.network":
        raise Refused(
            "was saved by the TensorFlow version of StyleGAN2; use the PyTorch one (stylegan2-ada-pytorch's ffhq.pkl)"
        )
    raise Refused(f"names {module}.{name}, which no known checkpoint needs; nothing of the file was run")


def _instantiate(target: Any, args: tuple[Any, ...]) -> Any:
    if not isinstance(target, Name):
        raise Refused("calls something that is not a name")
    function = _CALLABLE.get((target.module, target.name))
    if function is not None:
        return function(*args)
    if _RECORDS.fullmatch(f"{target.module}.{target.name}"):
        return Record(target.name, args)
    raise Refused(f"calls {target.module}.{target.name}, which is not allowed; nothing of the file was run")


def check_key(key: Any) -> None:
    # Only plain keys: hashing a tuple nested a million deep would crash the interpreter itself.
    if not isinstance(key, _KEY_TYPES):
        raise Refused("uses a key that is not a plain value")


# --- The machine -------------------------------------------------------------------------------------------------

_MARK = object()
_PUSH_ARGUMENT = re.compile(
    "INT|BININT[12]?|LONG[14]?|FLOAT|BINFLOAT|STRING|BINSTRING|SHORT_BINSTRING|UNICODE|SHORT_BINUNICODE|BINUNICODE8?"
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_BYTES_HEADER = {"BINBYTES": 5, "SHORT_BINBYTES": 2, "BINBYTES8": 9}


def interpret(
    cursor: Cursor,
    persistent: Callable[[Any], Any] | None = None,
    nested: Callable[[Any], Any] | None = None,
) -> Any:
    """Interprets one pickle from the cursor's position and leaves the cursor behind its end.

    `persistent` turns a persistent id into the object it stands for, `nested` the bytes of a file within the pickle
    into a storage; without them, a pickle that needs them is refused.
    Raises `Refused`, or on damage one of the errors of the decoders (`ValueError`, `LookupError`, ...).
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def pop_mark() -> list[Any]:
        for i in range(len(stack) - 1, -1, -1):
            if stack[i] is _MARK:
                items = stack[i + 1 :]
                del stack[i:]
                return items
        raise ValueError("no mark")

    def pop() -> Any:
        value = stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value is needed")
        return value

    def arguments() -> tuple[Any, ...]:
        args = pop()
        if not isinstance(args, tuple):
            raise Refused("calls a name without arguments")
        return args

    operations: Any = pickletools.genops(cursor)  # type: ignore[arg-type]  # it needs read, readline and tell only
    for opcode, argument, position in operations:
        op = opcode.name
        if op == "PROTO":
            if argument > 5:
                raise Refused(f"is written in pickle protocol {argument}, which is not known")
        elif op == "FRAME":
            continue
        elif op == "STOP":
            result = pop()
            if stack:
                raise ValueError("values left over")
            return result
        elif _PUSH_ARGUMENT.fullmatch(op):
            stack.append(argument)
        elif op in _CONSTANTS:
            stack.append(_CONSTANTS[op]())
        elif op in _BYTES_HEADER:
            start = position + _BYTES_HEADER[op]
            # Short bytes are values; long ones are storages, and stay where they are.
            stack.append(argument if len(argument) < 256 else cursor.view[start : start + len(argument)])
        elif op == "MARK":
            stack.append(_MARK)
        elif op == "POP":
            stack.pop()
        elif op == "POP_MARK":
            pop_mark()
        elif op == "DUP":
            stack.append(stack[-1])
        elif op in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif op == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif op in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif op == "TUPLE":
            stack.append(tuple(pop_mark()))
        elif op in ("TUPLE1", "TUPLE2", "TUPLE3"):
            items = [pop() for _ in range(int(op[-1]))]
            stack.append(tuple(reversed(items)))
        elif op == "LIST":
            stack.append(pop_mark())
        elif op == "DICT":
            items = pop_mark()
            stack.append(_set_items({}, items))
        elif op == "FROZENSET":
            stack.append(_container(frozenset)(pop_mark()))
        elif op in ("APPEND", "APPENDS"):
            items = [pop()] if op == "APPEND" else pop_mark()
            if not isinstance(stack[-1], list):
                raise Refused("appends to something that is not a list")
            stack[-1].extend(items)
        elif op in ("SETITEM", "SETITEMS"):
            items = [pop(), pop()][::-1] if op == "SETITEM" else pop_mark()
            _set_items(stack[-1], items)
        elif op == "ADDITEMS":
            items = pop_mark()
            if not isinstance(stack[-1], set):
                raise Refused("adds to something that is not a set")
            for item in items:
                check_key(item)
            stack[-1].update(items)
        elif op == "GLOBAL":
            module, _, name = argument.partition(" ")
            stack.append(_resolve(module, name))
        elif op == "STACK_GLOBAL":
            name, module = pop(), pop()
            if not isinstance(name, str) or not isinstance(module, str):
                raise Refused("names something that is not text")
            stack.append(_resolve(module, name))
        elif op in ("REDUCE", "NEWOBJ"):
            args = arguments()
            target = pop()
            if nested is not None and isinstance(target, Name) and target == _NESTED:
                stack.append(nested(*args))
            else:
                stack.append(_instantiate(target, args))
        elif op == "BUILD":
            state = pop()
            stack[-1] = _build(stack[-1], state)
        elif op in ("BINPERSID", "PERSID"):
            if persistent is None:
                raise Refused("refers to data outside itself")
            stack.append(persistent(pop() if op == "BINPERSID" else argument))
        else:
            raise Refused(f"uses the pickle instruction {op}, which no known checkpoint needs")
    raise ValueError("no end")


def _set_items(target: Any, items: list[Any]) -> dict[Any, Any]:
    if not isinstance(target, dict) or len(items) % 2:
        raise Refused("sets items of something that is not a mapping")
    for key, value in zip(items[::2], items[1::2], strict=True):
        check_key(key)
        target[key] = value
    return target


def _build(target: Any, state: Any) -> Any:
    if isinstance(target, Record):
        target.state = state
    elif isinstance(target, _Array):
        _build_array(target, state)
    elif isinstance(target, np.dtype):
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise Refused("holds a numpy type of an unknown form")
        return target.newbyteorder(order)
    elif not isinstance(target, dict):  # attributes of a mapping (a state dict's versions) are of no use here
        raise Refused("gives a state to something that has none")
    return target
