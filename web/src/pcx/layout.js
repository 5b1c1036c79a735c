/** The bytes of a .pcx stream, version 1: its header, and its blocks. See docs/format.md. */

import { ChecksumError, FormatError, TruncatedError, VersionError } from "../errors.js";
import { concat, crc16, crc32, startsWith, view } from "./bytes.js";
import { columnBytes } from "./packing.js";

const ascii = (/** @type {string} */ text) => Uint8Array.from(text, (c) => c.charCodeAt(0));

export const MAGIC = ascii("\x89PCX\r\n\x1a\n");
export const SYNC = ascii("\xf5\xb2");
export const END_MARK = ascii("PCXZ");
export const HEADER_BYTES = 64;
export const ENTROPY_BYTES = 20;
export const HEAD_BYTES = 14;
export const END_BYTES = 32;
export const RUN_BYTES = 17;
/** Bytes of a block besides its payload. */
export const OVERHEAD = HEAD_BYTES + 4;
export const MAX_HEADER = 4096;
export const MAX_PAYLOAD = 0xffff;
export const MAX_RATE = 768_000;
const UNKNOWN = 0xffff_ffff_ffff_ffffn;

/** @type {[Uint8Array, string][]} */
const LOOKS_LIKE = [
  [ascii("RIFF"), "a WAV file"],
  [ascii("OggS"), "an Ogg file"],
  [ascii("fLaC"), "a FLAC file"],
  [ascii("ID3"), "an MP3 file"],
  [ascii("\xff\xfb"), "an MP3 file"],
  [ascii("\x0a"), "a PC Paintbrush image"],
  [ascii("\x89PCX"), "a .pcx stream damaged by text-mode or 7-bit transfer"],
];

/**
 * The stream's fixed facts. Rates in Hz, lengths in samples at the codec's rate.
 * @typedef {object} HeaderFields
 * @property {number} sourceRate
 * @property {Uint8Array} bitstreamId 16 bytes
 * @property {number} sampleRate
 * @property {number} hop
 * @property {number} melBands
 * @property {number} patchBands
 * @property {number} patchFrames
 * @property {number} phaseRows
 * @property {number} bits of an index
 * @property {number | null} samples null if unknown
 * @property {number} blockColumns
 * @property {number} serial
 * @property {Uint8Array | null} entropyId null if there are no blocks of type C
 */

export class Header {
  constructor(/** @type {HeaderFields} */ fields) {
    this.sourceRate = fields.sourceRate;
    this.bitstreamId = fields.bitstreamId;
    this.sampleRate = fields.sampleRate;
    this.hop = fields.hop;
    this.melBands = fields.melBands;
    this.patchBands = fields.patchBands;
    this.patchFrames = fields.patchFrames;
    this.phaseRows = fields.phaseRows;
    this.bits = fields.bits;
    this.samples = fields.samples;
    this.blockColumns = fields.blockColumns;
    this.serial = fields.serial;
    this.entropyId = fields.entropyId;
  }

  get melRows() {
    return Math.floor(this.melBands / this.patchBands);
  }

  /** Indices per column: of the mel's patches, then of the low band's phases. */
  get rows() {
    return this.melRows + this.phaseRows;
  }

  get columnSamples() {
    return this.hop * this.patchFrames;
  }

  get columnBytes() {
    return columnBytes(this.rows, this.bits);
  }

  /** bit/s of the bare indices. */
  get bitRate() {
    return (this.columnBytes * 8 * this.sampleRate) / this.columnSamples;
  }

  toBytes() {
    const bytes = new Uint8Array(HEADER_BYTES);
    const out = view(bytes);
    bytes.set(MAGIC);
    out.setUint8(8, this.entropyId ? 0x11 : 0x10);
    out.setUint8(9, this.samples === null ? 1 : 0);
    out.setUint16(10, HEADER_BYTES + (this.entropyId ? ENTROPY_BYTES : 0), true);
    out.setUint32(12, this.sourceRate, true);
    out.setUint32(16, this.sampleRate, true);
    out.setUint16(20, this.hop, true);
    out.setUint16(22, this.melBands, true);
    out.setUint8(24, 1);
    out.setUint8(25, this.patchBands);
    out.setUint8(26, this.patchFrames);
    out.setUint8(27, this.bits);
    out.setBigUint64(28, this.samples === null ? UNKNOWN : BigInt(this.samples), true);
    bytes.set(this.bitstreamId, 36);
    out.setUint16(52, this.blockColumns, true);
    out.setUint16(54, this.phaseRows, true);
    out.setUint32(56, this.serial, true);
    out.setUint32(60, crc32(bytes.subarray(0, 60)), true);
    return this.entropyId ? concat([bytes, withChecksum(this.entropyId)]) : bytes;
  }

  /**
   * The header at the start of some bytes, and its length.
   * @param {Uint8Array} data
   * @returns {[Header, number]}
   */
  static fromBytes(data) {
    if (!data.length) throw new FormatError("the file is empty");
    if (!startsWith(data, MAGIC.subarray(0, data.length))) {
      const [, what] = LOOKS_LIKE.find(([start]) => startsWith(data, start)) ?? [];
      throw new FormatError(`not a .pcx speech stream${what ? `: this looks like ${what}` : ""}`);
    }
    if (data.length < HEADER_BYTES) {
      throw new TruncatedError(`the header is cut off after ${data.length} bytes`);
    }
    const raw = view(data);
    if (crc32(data.subarray(0, 60)) !== raw.getUint32(60, true)) {
      throw new ChecksumError("the header is damaged: its checksum does not match");
    }
    const version = raw.getUint8(8);
    if (version >> 4 !== 1) {
      const named = `${version >> 4}.${version & 15}`;
      throw new VersionError(`format version ${named}; this reader knows version 1`);
    }
    const flags = raw.getUint8(9);
    if (flags & ~1) {
      throw new VersionError("reserved bits of the header are set: a feature unknown here");
    }
    const length = raw.getUint16(10, true);
    if (length < HEADER_BYTES || length > MAX_HEADER) {
      throw new FormatError(`a header of ${length} bytes is not possible`);
    }
    const samples = raw.getBigUint64(28, true);
    const header = new Header({
      sourceRate: raw.getUint32(12, true),
      sampleRate: raw.getUint32(16, true),
      hop: raw.getUint16(20, true),
      melBands: raw.getUint16(22, true),
      patchBands: raw.getUint8(25),
      patchFrames: raw.getUint8(26),
      bits: raw.getUint8(27),
      samples: flags & 1 || samples === UNKNOWN ? null : Number(samples),
      bitstreamId: data.slice(36, 52),
      blockColumns: raw.getUint16(52, true),
      phaseRows: raw.getUint16(54, true),
      serial: raw.getUint32(56, true),
      entropyId: entropyId(data.subarray(HEADER_BYTES, length)),
    });
    const { sourceRate, sampleRate, hop, melBands, patchBands, patchFrames, blockColumns } = header;
    const sizes = [sourceRate, sampleRate, hop, patchBands, patchFrames, melBands, blockColumns];
    if (raw.getUint8(24) !== 1 || sizes.includes(0) || melBands % patchBands) {
      throw new FormatError("the header states an impossible geometry");
    }
    if (!header.columnBytes) {
      const column = `a column of ${header.rows} x ${header.bits} bits`;
      throw new FormatError(
        `the header states an impossible geometry: ${column} does not fill whole bytes`,
      );
    }
    if (Math.min(blockColumns, 255) * header.columnBytes > MAX_PAYLOAD) {
      throw new FormatError("the header states an impossible geometry: too large a block");
    }
    if (Math.max(sourceRate, sampleRate) > MAX_RATE) {
      throw new FormatError("the header states an impossible sample rate");
    }
    return [header, length];
  }
}

/** @param {Uint8Array} rest what follows the first 64 bytes of a header */
function entropyId(rest) {
  if (rest.length < ENTROPY_BYTES) return null;
  const id = rest.slice(0, 16);
  if (crc32(id) !== view(rest).getUint32(16, true)) {
    throw new ChecksumError("the header is damaged: its second checksum does not match");
  }
  return id;
}

/** @param {Uint8Array[]} parts */
function withChecksum(...parts) {
  const bytes = concat([...parts, new Uint8Array(4)]);
  view(bytes).setUint32(bytes.length - 4, crc32(bytes.subarray(0, -4)), true);
  return bytes;
}

/**
 * A whole block: head, payload, checksum.
 * @param {string} type
 * @param {Uint8Array} payload
 */
export function block(type, payload, firstColumn = 0, columns = 0) {
  const head = new Uint8Array(HEAD_BYTES);
  const out = view(head);
  head.set(SYNC);
  out.setUint8(2, type.charCodeAt(0));
  out.setUint32(4, firstColumn, true);
  out.setUint8(8, columns);
  out.setUint16(9, payload.length & 0xffff, true);
  out.setUint8(11, payload.length >> 16);
  out.setUint16(12, crc16(head.subarray(0, 12)), true);
  return withChecksum(head, payload);
}

/**
 * The head of a block, null if its checksum does not match.
 * @param {Uint8Array} raw its 14 bytes
 */
export function readHead(raw) {
  const head = view(raw);
  if (crc16(raw.subarray(0, 12)) !== head.getUint16(12, true)) return null;
  return {
    type: String.fromCharCode(raw[2]),
    flags: raw[3],
    firstColumn: head.getUint32(4, true),
    columns: raw[8],
    length: head.getUint16(9, true) | (raw[11] << 16),
  };
}

/** @typedef {{columns: number, samples: number, indicesCrc: number, indexOffset: number}} End */

/** @param {End} end */
export function endBytes(end) {
  const bytes = new Uint8Array(END_BYTES);
  const out = view(bytes);
  out.setBigUint64(0, BigInt(end.columns), true);
  out.setBigUint64(8, BigInt(end.samples), true);
  out.setUint32(16, end.indicesCrc, true);
  out.setBigUint64(20, BigInt(end.indexOffset), true);
  bytes.set(END_MARK, 28);
  return bytes;
}

/**
 * @param {Uint8Array} payload
 * @returns {End}
 */
export function readEnd(payload) {
  const raw = view(payload);
  return {
    columns: Number(raw.getBigUint64(0, true)),
    samples: Number(raw.getBigUint64(8, true)),
    indicesCrc: raw.getUint32(16, true),
    indexOffset: Number(raw.getBigUint64(20, true)),
  };
}
