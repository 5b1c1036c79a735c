/** Bytes to symbols of given frequencies: range asymmetric numeral systems, see docs/format.md. */

export const TOTAL_BITS = 16;

/** What the frequencies of all symbols of an alphabet add up to. */
export const TOTAL = 1 << TOTAL_BITS;

const LOWEST = 1 << 24;

/** Symbols from bytes, one after the other. Bytes that are missing are zeros. */
export class Decoder {
  /** @param {Uint8Array} data */
  constructor(data) {
    this._data = data;
    this._position = 4;
    this._state = 0; // below 2**32
    for (let i = 0; i < 4; i++) this._state = this._state * 256 + (data[i] ?? 0);
  }

  /**
   * The next symbol.
   * @param {ArrayLike<number>} frequencies of all symbols
   */
  symbol(frequencies) {
    const place = this._state % TOTAL;
    let symbol = 0;
    let below = 0;
    while (below + frequencies[symbol] <= place) below += frequencies[symbol++];
    let state = frequencies[symbol] * Math.floor(this._state / TOTAL) + place - below;
    while (state < LOWEST) {
      const there = this._position < this._data.length;
      state = state * 256 + (there ? this._data[this._position] : 0);
      this._position++;
      // After the end of the data, with a state of zero, which none of its own makes.
      if (!there && !state) state = LOWEST;
    }
    this._state = state;
    return symbol;
  }

  /** Whether the symbols so far are all that the bytes stand for, and the bytes whole. */
  get finished() {
    return this._state === LOWEST && this._position === this._data.length;
  }
}
