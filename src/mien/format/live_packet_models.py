"""How likely the whole numbers of live packets are (`mien.format.live_packets`), counted on four clips of people who
talk.

The context of a number is how active the frame's numbers before it are, and how far from zero the reference lies: a
number that stays near zero moves little. Chances are those of a 1, in 1/65536, as `range_coder.Bit` has them.
"""

from __future__ import annotations

from dataclasses import dataclass

_EDGES = (2, 5, 9, 15, 24, 40, 70)  # of activity, in 1/8 steps
_MOST = 128

Table = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class BitModels:
    """`start`: activity before the first number; `nonzero [8, 4]` by context and magnitude class;
    `more [8, 4]`: larger than 1, 2, 3, and than any size from 4 on."""

    start: int
    nonzero: Table
    more: Table

    @staticmethod
    def context(activity: int) -> int:
        """Which of the eight contexts an activity falls into."""
        return sum(activity > edge for edge in _EDGES)

    @staticmethod
    def magnitude_class(base: int) -> int:
        """How far from zero a reference's number lies: 0, 1, 2 to 3, or more."""
        return min(abs(base).bit_length(), 3)

    @staticmethod
    def next_activity(activity: int, size: int) -> int:
        """The activity after a difference of this size."""
        return activity + ((min(8 * size, _MOST) - activity) >> 2)


DELTA = BitModels(
    8,
    (
        (9356, 12430, 21840, 27430),
        (19198, 25796, 38474, 40892),
        (26328, 29326, 44230, 51628),
        (30612, 42168, 54718, 57446),
        (30904, 46010, 56136, 59588),
        (33680, 48506, 58436, 62512),
        (32724, 48716, 61150, 64198),
        (32768, 26214, 32768, 32768),
    ),
    (
        (17062, 28124, 32066, 34226),
        (27018, 35486, 39268, 41230),
        (31998, 40672, 43678, 45210),
        (37816, 44414, 47432, 47080),
        (40756, 45050, 49384, 48244),
        (43766, 48706, 49766, 49778),
        (50788, 53658, 53198, 47538),
        (32768, 32768, 32768, 32768),
    ),
)

KEY = BitModels(
    16,
    (
        (34888, 32768, 32768, 32768),
        (40980, 32768, 32768, 32768),
        (45200, 32768, 32768, 32768),
        (48316, 32768, 32768, 32768),
        (46728, 32768, 32768, 32768),
        (49132, 32768, 32768, 32768),
        (48356, 32768, 32768, 32768),
        (32768, 32768, 32768, 32768),
    ),
    (
        (25740, 32768, 47224, 27306),
        (33184, 44474, 44990, 37490),
        (36314, 44666, 44188, 38918),
        (38530, 43660, 47460, 41156),
        (37594, 44154, 46646, 45840),
        (46610, 41246, 47070, 45938),
        (49572, 46198, 34952, 50116),
        (32768, 32768, 32768, 32768),
    ),
)
