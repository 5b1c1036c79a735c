"""Entropy coding of symbols with given frequencies: range asymmetric numeral systems (rANS).

Duda 2013 (arXiv 1311.2540, section 5.2), with a state of 32 bits that is renormalised by bytes.
All arithmetic is in integers, so it is the same on every machine.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

TOTAL_BITS = 16
TOTAL = 1 << TOTAL_BITS
"""Sum of the frequencies of all symbols of an alphabet."""

MIN_STATE = 1 << 24
"""Lower bound of the state. An encoder starts, and a decoder ends, in this state."""


def encode(symbols: Sequence[tuple[int, int]]) -> bytes:
    """Encodes symbols as bytes.

    symbols: per symbol, the sum of the frequencies of all symbols before it in the alphabet, and
    its own frequency.

    encode([(0, 65536)]) == bytes([1, 0, 0, 0])
    """
    state, out = MIN_STATE, bytearray()
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
    """Decodes symbols from bytes, one by one. Missing bytes count as zeros."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 4
        self._state = int.from_bytes(data[:4], "big")

    def symbol(self, sums: list[int]) -> int:
        """The next symbol. sums: cumulative frequencies (symbols + 1), from 0 to `TOTAL`."""
        state = self._state
        place = state & (TOTAL - 1)
        symbol = bisect_right(sums, place) - 1
        below = sums[symbol]
        state = (sums[symbol + 1] - below) * (state >> TOTAL_BITS) + place - below
        while state < MIN_STATE:
            # After the end of the data zeros follow. A state of 0, which valid data never reaches,
            # would stay 0 for ever.
            rest = self._data[self._position : self._position + 1]
            self._position += 1
            state = state << 8 | (rest[0] if rest else 0)
            if not rest and not state:
                state = MIN_STATE
        self._state = state
        return symbol

    @property
    def finished(self) -> bool:
        """Whether the symbols so far are exactly those that were encoded."""
        return self._state == MIN_STATE and self._position == len(self._data)
