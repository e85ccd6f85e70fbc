"""Constants of an OpenVINO IR graph, read without OpenVINO."""

import numpy as np
import pytest

from mien.errors import PackError
from mien.packs.convert.openvino_ir import Graph

NUMBERS = np.arange(6, dtype="<f4").tobytes()
XML = b"""<net name="n" version="10"><layers>
<layer id="0" name="x" type="Parameter"><data shape="1, 2" element_type="f32"/></layer>
<layer id="1" name="weight" type="Const"><data element_type="f32" shape="3, 2" offset="0" size="24"/></layer>
<layer id="2" name="product" type="MatMul"><data transpose_a="false" transpose_b="true"/></layer>
<layer id="3" name="shape" type="ShapeOf"/>
<layer id="4" name="out" type="Result"/>
</layers><edges>
<edge from-layer="1" from-port="0" to-layer="2" to-port="1"/><edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
<edge from-layer="2" from-port="2" to-layer="3" to-port="0"/><edge from-layer="3" from-port="1" to-layer="4" to-port="0"/>
</edges></net>"""


def test_layers_and_constants():
    graph = Graph(XML, NUMBERS)
    product = graph.named("product")
    assert graph.layers[product].kind == "MatMul" and graph.layers[product].inputs == ("0", "1")
    assert np.array_equal(graph.constant_input(product), np.arange(6).reshape(3, 2))
    assert graph.other_input(product) == graph.named("x")
    assert graph.readers(graph.named("weight")) == (product,)
    assert graph.reader(product, through=("ShapeOf",)) == graph.named("out")
    assert graph.constant_input("3") is None


@pytest.mark.parametrize(
    ("xml", "what"),
    [
        (b"<net", "no OpenVINO graph"),
        (XML.replace(b'size="24"', b'size="20"'), "does not fit"),
        (XML.replace(b'offset="0"', b'offset="4"'), "does not fit"),
        (XML.replace(b'offset="0"', b'offset="-4"'), "does not fit"),
        (XML.replace(b'"f32" shape="3', b'"str" shape="3'), "no constant of numbers"),
    ],
)
def test_what_is_no_graph(xml, what):
    with pytest.raises(PackError, match=what):
        Graph(xml, NUMBERS).constant("1")


def test_a_name_that_is_not_there():
    with pytest.raises(PackError, match="no layer nothing"):
        Graph(XML, NUMBERS).named("nothing")
