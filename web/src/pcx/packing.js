/** Grids of indices to packed columns and back. A grid is one array, column by column. */

/** Bytes of a packed column; 0 if it does not fill whole bytes. */
export function columnBytes(/** @type {number} */ rows, /** @type {number} */ bits) {
  return bits >= 1 && bits <= 16 && rows >= 1 && (rows * bits) % 8 === 0 ? (rows * bits) / 8 : 0;
}

/**
 * @param {Uint16Array} indices whole columns of `rows` indices
 * @param {number} rows
 * @param {number} bits of an index
 */
export function pack(indices, rows, bits) {
  const size = columnBytes(rows, bits);
  if (!size || indices.length % rows) throw new RangeError("not whole columns");
  const out = new Uint8Array((indices.length / rows) * size);
  let held = 0;
  let count = 0;
  let at = 0;
  for (const index of indices) {
    if (index >> bits) throw new RangeError(`indices must be 0 to ${2 ** bits - 1}`);
    held = ((held & 0xff) << bits) | index;
    count += bits;
    for (; count >= 8; at++) {
      count -= 8;
      out[at] = held >> count;
    }
  }
  return out;
}

/**
 * @param {Uint8Array} payload packed columns
 * @param {number} rows
 * @param {number} bits of an index
 */
export function unpack(payload, rows, bits) {
  const size = columnBytes(rows, bits);
  if (!size || payload.length % size) throw new RangeError("not whole columns");
  const out = new Uint16Array((payload.length / size) * rows);
  let held = 0;
  let count = 0;
  let at = 0;
  for (const byte of payload) {
    held = ((held << 8) | byte) & 0xffffff;
    count += 8;
    for (; count >= bits; at++) {
      count -= bits;
      out[at] = (held >> count) & ((1 << bits) - 1);
    }
  }
  return out;
}
