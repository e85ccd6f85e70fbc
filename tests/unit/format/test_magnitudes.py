"""Magnitudes: compiled and in Python they are the same bytes, and come back as they were."""

from __future__ import annotations

import numpy as np
import pytest

from mien.errors import StreamError
from mien.format import magnitudes
from mien.format.magnitudes import decode_magnitudes, encode_magnitudes

compiled = pytest.mark.skipif(magnitudes._library() is None, reason="no C compiler here: Python's is all there is")
LARGEST = 2**18 + 10


def arrays(spread: float, seed: int = 0) -> list[np.ndarray]:
    random = np.random.RandomState(seed)
    made = [np.abs(np.rint(random.laplace(0, spread, n))).astype(np.int64) for n in (1, 700, 0, 3000)]
    return [np.minimum(a, LARGEST) for a in made]


def in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(magnitudes, "_library", lambda: None)


@compiled
@pytest.mark.parametrize("spread", [0.01, 0.4, 3.0, 40.0, 1e4, 1e7])
def test_compiled_and_python_are_the_same_bytes_and_numbers(monkeypatch: pytest.MonkeyPatch, spread: float) -> None:
    wanted = arrays(spread)
    data, lengths = encode_magnitudes(wanted), [len(a) for a in wanted]
    back = decode_magnitudes(data, lengths)
    in_python(monkeypatch)
    assert encode_magnitudes(wanted) == data
    for a, b, c in zip(wanted, back, decode_magnitudes(data, lengths), strict=True):
        assert a.dtype == b.dtype == c.dtype == np.int64
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


@compiled
def test_compiled_and_python_read_broken_bytes_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.RandomState(3)
    broken = [random.bytes(random.randint(1, 400)) for _ in range(60)] + [b"", b"\xff" * 90, b"\0" * 9]

    def read(data: bytes) -> list[list[int]] | None:
        try:
            return [a.tolist() for a in decode_magnitudes(data, [30, 500])]
        except StreamError:
            return None

    found = [read(data) for data in broken]
    in_python(monkeypatch)
    assert found == [read(data) for data in broken]
    assert None in found and any(found)


@pytest.mark.parametrize("native", [True, False])
def test_the_largest_number_fits_and_the_next_does_not(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    if not native:
        in_python(monkeypatch)
    (back,) = decode_magnitudes(encode_magnitudes([np.array([LARGEST])]), [1])
    assert back.tolist() == [LARGEST]
    with pytest.raises(ValueError, match="too large"):
        encode_magnitudes([np.array([LARGEST + 1])])


def test_no_arrays_and_empty_ones() -> None:
    assert decode_magnitudes(encode_magnitudes([]), []) == []
    assert [len(a) for a in decode_magnitudes(b"", [0, 0])] == [0, 0]
