/** Checksums and byte strings. */

const CRC32 = new Uint32Array(256).map((_, i) => {
  for (let bit = 0; bit < 8; bit++) i = i & 1 ? (i >>> 1) ^ 0xedb88320 : i >>> 1;
  return i >>> 0;
});

const CRC16 = new Uint16Array(256).map((_, i) => {
  i <<= 8;
  for (let bit = 0; bit < 8; bit++) i = i & 0x8000 ? (i << 1) ^ 0x1021 : i << 1;
  return i;
});

/**
 * CRC-32 as of zlib; `crc` is that of the bytes before.
 * @param {Uint8Array} bytes
 */
export function crc32(bytes, crc = 0) {
  crc = ~crc;
  for (let i = 0; i < bytes.length; i++) crc = CRC32[(crc ^ bytes[i]) & 0xff] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/**
 * CRC-16/XMODEM.
 * @param {Uint8Array} bytes
 */
export function crc16(bytes) {
  let crc = 0;
  for (let i = 0; i < bytes.length; i++) crc = ((crc << 8) & 0xffff) ^ CRC16[(crc >> 8) ^ bytes[i]];
  return crc;
}

/** @param {Uint8Array} bytes */
export const view = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** @param {Uint8Array[]} parts */
export function concat(parts) {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/**
 * Where `what` first lies in `bytes[from:to]`, -1 if nowhere.
 * @param {Uint8Array} bytes
 * @param {Uint8Array} what
 */
export function find(bytes, what, from = 0, to = bytes.length) {
  for (let at = bytes.indexOf(what[0], from); at >= 0; at = bytes.indexOf(what[0], at + 1)) {
    if (at + what.length > to) return -1;
    if (what.every((byte, i) => bytes[at + i] === byte)) return at;
  }
  return -1;
}

/**
 * Whether `bytes` begin with `start`.
 * @param {Uint8Array} bytes
 * @param {Uint8Array} start
 */
export const startsWith = (bytes, start) =>
  bytes.length >= start.length && start.every((byte, i) => bytes[i] === byte);

/** @param {Uint8Array} bytes */
export const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** @param {string} text */
export const fromHex = (text) =>
  Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
