"""Interprets pickles without running them.

A pickle is a program; `pickle.load` runs it. Here the opcodes are decoded one by one (`pickletools` does that without
running anything) and interpreted by a small machine that knows containers, tensors, numpy arrays and the closed list of
names of `pickle_names`. Anything else ends the reading with `UnsafePickle`.

`packs/convert/torchfile.py` reads whole checkpoint files with it.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable
from typing import Any

from mien.packs.convert.pickle_names import (
    NESTED,
    Name,
    UnsafePickle,
    build,
    check_key,
    container,
    instantiate,
    resolve,
    set_items,
)


class Cursor:
    """File-like reading of a memory view, which copies only what is asked for."""

    def __init__(self, view: memoryview) -> None:
        self.view, self.position = view, 0

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
_COLLECTIONS: dict[str, Callable[[list[Any]], Any]] = {
    "TUPLE": tuple,
    "LIST": list,
    "FROZENSET": container(frozenset),
    "DICT": lambda items: set_items({}, items),
}
_BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8")
_COPIED = (list, tuple, set, str, bytes, bytearray, memoryview)  # what a call may copy of what it is given
_GIVEN = 4  # to so many calls on average, at most: a text is encoded and the bytes become an array
_IN_PLACE = 256  # bytes from which a value stays in the file: short ones are values, long ones storages


def interpret(
    cursor: Cursor,
    persistent: Callable[[Any], Any] | None = None,
    nested: Callable[[Any], Any] | None = None,
) -> Any:
    """Interprets one pickle from the cursor's position and leaves the cursor behind its end.

    `persistent` turns a persistent id into the object it stands for, `nested` the bytes of a file within the pickle
    into a storage; without them, a pickle that needs them is refused.
    Raises `UnsafePickle`, or on damage one of the errors of the decoders (`ValueError`, `LookupError`, ...).
    """
    machine = _Machine(persistent, nested, _GIVEN * len(cursor.view))
    operations: Any = pickletools.genops(cursor)  # type: ignore[arg-type]  # it needs read and readline only
    for opcode, argument, _ in operations:
        op = opcode.name
        if op == "STOP":
            return machine.result()
        if op in _BYTES and len(argument) >= _IN_PLACE:  # the cursor stands behind its last byte
            machine.stack.append(cursor.view[cursor.position - len(argument) : cursor.position])
        elif op in _BYTES or _PUSH_ARGUMENT.fullmatch(op):
            machine.stack.append(argument)
        elif op in _CONSTANTS:
            machine.stack.append(_CONSTANTS[op]())
        else:
            machine.step(op, argument)
    raise ValueError("no end")


class _Machine:
    """The pickle machine's stack and memo, with one method for each group of instructions.

    `copied`: how many values and bytes calls may be given in all, since each may copy them. What a pickle holds takes a
    byte each at least, so that only one that gives the same thing to call after call needs many times its own bytes.
    """

    def __init__(
        self, persistent: Callable[[Any], Any] | None, nested: Callable[[Any], Any] | None, copied: int
    ) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._persistent, self._nested, self._left = persistent, nested, copied

    def result(self) -> Any:
        """The value that is left when the pickle ends."""
        value = self._pop()
        if self.stack:
            raise ValueError("values left over")
        return value

    def step(self, op: str, argument: Any) -> None:
        """Carry out one instruction. Raises UnsafePickle for one that no known checkpoint needs."""
        if op not in _INSTRUCTIONS:
            raise UnsafePickle(f"uses the pickle instruction {op}, which no known checkpoint needs")
        _INSTRUCTIONS[op](self, op, argument)

    def _pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value is needed")
        return value

    def _pop_mark(self) -> list[Any]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise ValueError("no mark")

    def _protocol(self, op: str, argument: Any) -> None:
        if argument > 5:
            raise UnsafePickle(f"is written in pickle protocol {argument}, which is not known")

    def _nothing(self, op: str, argument: Any) -> None:
        pass

    def _move(self, op: str, argument: Any) -> None:
        if op == "MARK":
            self.stack.append(_MARK)
        elif op == "POP":
            self.stack.pop()
        elif op == "POP_MARK":
            self._pop_mark()
        else:
            self.stack.append(self.stack[-1])

    def _put(self, op: str, argument: Any) -> None:
        self._memo[len(self._memo) if op == "MEMOIZE" else argument] = self.stack[-1]

    def _get(self, op: str, argument: Any) -> None:
        self.stack.append(self._memo[argument])

    def _short_tuple(self, op: str, argument: Any) -> None:
        items = [self._pop() for _ in range(int(op[-1]))]
        self.stack.append(tuple(reversed(items)))

    def _collect(self, op: str, argument: Any) -> None:
        items = self._pop_mark()
        fill = _COLLECTIONS[op]
        self.stack.append(fill(items))

    def _append(self, op: str, argument: Any) -> None:
        items = [self._pop()] if op == "APPEND" else self._pop_mark()
        if not isinstance(self.stack[-1], list):
            raise UnsafePickle("appends to something that is not a list")
        self.stack[-1].extend(items)

    def _set(self, op: str, argument: Any) -> None:
        items = [self._pop(), self._pop()][::-1] if op == "SETITEM" else self._pop_mark()
        set_items(self.stack[-1], items)

    def _add(self, op: str, argument: Any) -> None:
        items = self._pop_mark()
        if not isinstance(self.stack[-1], set):
            raise UnsafePickle("adds to something that is not a set")
        for item in items:
            check_key(item)
        self.stack[-1].update(items)

    def _name(self, op: str, argument: Any) -> None:
        if op == "GLOBAL":
            module, _, name = argument.partition(" ")
        else:
            name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise UnsafePickle("names something that is not text")
        self.stack.append(resolve(module, name))

    def _call(self, op: str, argument: Any) -> None:
        args = self._pop()
        if not isinstance(args, tuple):
            raise UnsafePickle("calls a name without arguments")
        target = self._pop()
        self._count(args)
        if self._nested is not None and isinstance(target, Name) and target == NESTED:
            self.stack.append(self._nested(*args))
        else:
            self.stack.append(instantiate(target, args))

    def _build(self, op: str, argument: Any) -> None:
        state = self._pop()
        self._count(state if isinstance(state, tuple) else ())
        self.stack[-1] = build(self.stack[-1], state)

    def _count(self, given: tuple[Any, ...]) -> None:
        self._left -= sum(len(value) for value in given if isinstance(value, _COPIED))
        if self._left < 0:
            raise UnsafePickle("gives the same values to call after call, which no known checkpoint does")

    def _refer(self, op: str, argument: Any) -> None:
        if self._persistent is None:
            raise UnsafePickle("refers to data outside itself")
        self.stack.append(self._persistent(self._pop() if op == "BINPERSID" else argument))


_INSTRUCTIONS: dict[str, Callable[[_Machine, str, Any], None]] = {
    "PROTO": _Machine._protocol,
    "FRAME": _Machine._nothing,
    **dict.fromkeys(("MARK", "POP", "POP_MARK", "DUP"), _Machine._move),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine._put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine._get),
    **dict.fromkeys(("TUPLE1", "TUPLE2", "TUPLE3"), _Machine._short_tuple),
    **dict.fromkeys(("TUPLE", "LIST", "DICT", "FROZENSET"), _Machine._collect),
    **dict.fromkeys(("APPEND", "APPENDS"), _Machine._append),
    **dict.fromkeys(("SETITEM", "SETITEMS"), _Machine._set),
    "ADDITEMS": _Machine._add,
    **dict.fromkeys(("GLOBAL", "STACK_GLOBAL"), _Machine._name),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine._call),
    "BUILD": _Machine._build,
    **dict.fromkeys(("BINPERSID", "PERSID"), _Machine._refer),
}
