"""Symbols of given frequencies to bytes, and back: range asymmetric numeral systems.

Duda 2013 (arXiv 1311.2540, section 5.2), with bytes that go in and out of a state of 32 bits.
All in whole numbers, so the same on every machine.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

TOTAL_BITS = 16
TOTAL = 1 << TOTAL_BITS
"""What the frequencies of all symbols of an alphabet add up to."""

LOWEST = 1 << 24
"""of the state between two symbols; it begins, and a decoder ends, with this one"""


def encode(symbols: Sequence[tuple[int, int]]) -> bytes:
    """Symbols, each as the sum of the frequencies below its own and its own, to bytes.

    encode([(0, 65536)]) == bytes([1, 0, 0, 0])
    """
    state, out = LOWEST, bytearray()
    for below, frequency in reversed(symbols):
        most = frequency << (32 - TOTAL_BITS)
        while state >= most:
            out.append(state & 0xFF)
            state >>= 8
        state = (state // frequency << TOTAL_BITS) + state % frequency + below
    out += state.to_bytes(4, "little")
    out.reverse()
    return bytes(out)


class Decoder:
    """Symbols from bytes, one after the other. Bytes that are missing are zeros."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 4
        self._state = int.from_bytes(data[:4], "big")

    def symbol(self, sums: list[int]) -> int:
        """The next symbol. sums: of the frequencies below each symbol; the last one is `TOTAL`."""
        state = self._state
        place = state & (TOTAL - 1)
        symbol = bisect_right(sums, place) - 1
        below = sums[symbol]
        state = (sums[symbol + 1] - below) * (state >> TOTAL_BITS) + place - below
        while state < LOWEST:
            # Behind the end of the data, and with a state of zero, which none of its own makes.
            rest = self._data[self._position : self._position + 1]
            self._position += 1
            state = state << 8 | (rest[0] if rest else 0)
            if not rest and not state:
                state = LOWEST
        self._state = state
        return symbol

    @property
    def finished(self) -> bool:
        """Whether the symbols so far are all that the bytes stand for, and the bytes whole."""
        return self._state == LOWEST and self._position == len(self._data)
