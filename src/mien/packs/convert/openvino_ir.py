"""Read the constants of an OpenVINO IR graph: an XML file of layers and edges beside a .bin of numbers.

No OpenVINO is needed: a `Const` layer names the offset, size, shape and type of its numbers. Nothing in the files can
run code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from mien.errors import PackError

_TYPES = {"f32": "<f4", "f16": "<f2", "i32": "<i4", "i64": "<i8"}


@dataclass(frozen=True)
class Layer:
    """One layer of a graph: its name and type, its attributes, and the ids of the layers that it reads."""

    name: str
    kind: str
    attributes: dict[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()


class Graph:
    """The layers of an IR graph by id, and the numbers of its constants.

    Args:
        xml: the graph.
        numbers: the .bin file that belongs to it.

    Raises:
        PackError: the XML is no IR graph.
    """

    def __init__(self, xml: bytes, numbers: bytes) -> None:
        try:
            root = ElementTree.fromstring(xml)
            inputs: dict[str, list[tuple[int, str]]] = {}
            for edge in root.iterfind("edges/edge"):
                inputs.setdefault(edge.attrib["to-layer"], []).append(
                    (int(edge.attrib["to-port"]), edge.attrib["from-layer"])
                )
            self.layers = {
                layer.attrib["id"]: Layer(
                    layer.attrib["name"],
                    layer.attrib["type"],
                    dict(data.attrib) if (data := layer.find("data")) is not None else {},
                    tuple(source for _, source in sorted(inputs.get(layer.attrib["id"], []))),
                )
                for layer in root.iterfind("layers/layer")
            }
        except (ElementTree.ParseError, KeyError, ValueError) as error:
            raise PackError(f"the file is no OpenVINO graph: {str(error).splitlines()[0]}.") from None
        self._numbers = numbers
        self._ids = {layer.name: key for key, layer in self.layers.items()}
        self._readers: dict[str, list[str]] = {}
        for key, layer in self.layers.items():
            for source in layer.inputs:
                self._readers.setdefault(source, []).append(key)

    def named(self, name: str) -> str:
        """The id of the layer of that name. Raises PackError where there is none."""
        if name not in self._ids:
            raise PackError(f"the graph has no layer {name}.")
        return self._ids[name]

    def readers(self, key: str) -> tuple[str, ...]:
        """The ids of the layers that read layer `key`."""
        return tuple(self._readers.get(key, ()))

    def reader(self, key: str, *, through: tuple[str, ...] = ()) -> str:
        """The first layer that reads layer `key`, past layers of the kinds `through`. Raises PackError."""
        queue = list(self._readers.get(key, []))
        while queue:
            found = queue.pop(0)
            if self.layers[found].kind not in through:
                return found
            queue += self._readers.get(found, [])
        raise PackError(f"nothing in the graph reads the layer {self.layers[key].name}.")

    def constant(self, key: str) -> NDArray[np.float32]:
        """The numbers of the `Const` layer `key`. Raises PackError where it is none, or lies outside of the file."""
        layer = self.layers[key]
        shape = [int(s) for s in layer.attributes.get("shape", "").split(",") if s.strip()]
        kind = _TYPES.get(layer.attributes.get("element_type", ""))
        if layer.kind != "Const" or kind is None:
            raise PackError(f"the layer {layer.name} of the graph is no constant of numbers.")
        offset, size = int(layer.attributes["offset"]), int(layer.attributes["size"])
        if (
            offset < 0
            or offset + size > len(self._numbers)
            or size != np.prod(shape, initial=1) * np.dtype(kind).itemsize
        ):
            raise PackError(f"the layer {layer.name} of the graph does not fit its file of numbers.")
        array = np.frombuffer(self._numbers, kind, size // np.dtype(kind).itemsize, offset)
        return array.reshape(shape).astype(np.float32)

    def constant_input(self, key: str) -> NDArray[np.float32] | None:
        """The numbers of the constant that layer `key` reads beside another layer; None where it reads none."""
        found = [source for source in self.layers[key].inputs if self.layers[source].kind == "Const"]
        return self.constant(found[-1]) if found else None

    def other_input(self, key: str) -> str:
        """The first layer that layer `key` reads and that is no constant. Raises PackError where there is none."""
        for source in self.layers[key].inputs:
            if self.layers[source].kind != "Const":
                return source
        raise PackError(f"the layer {self.layers[key].name} reads constants only.")
