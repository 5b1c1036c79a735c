/** `Writer` packs columns into blocks as they come; it needs no output that can seek. */

import { AudioError } from "../errors.js";
import { concat, crc32, view } from "./bytes.js";
import { Header, MAX_PAYLOAD, RUN_BYTES, block, endBytes } from "./layout.js";
import { pack } from "./packing.js";

/** Makes a stream of blocks of type A: header at once, blocks as they fill, index and end. */
export class Writer {
  /** @param {Header} header */
  constructor(header) {
    this.header = header;
    this.columns = 0;
    /** @type {Uint8Array[]} */
    this._parts = [];
    this._offset = 0;
    this._indicesCrc = 0;
    /** @type {{offset: number, first: number, blocks: number, columns: number}[]} */
    this._runs = [];
    this._waiting = new Uint16Array(0);
    this._put(header.toBytes());
  }

  /** What was written since the last call. */
  take() {
    const bytes = concat(this._parts);
    this._parts = [];
    return bytes;
  }

  /** @param {Uint8Array} bytes */
  _put(bytes) {
    this._parts.push(bytes);
    this._offset += bytes.length;
  }

  /** @param {Uint16Array} columns indices, column by column */
  write(columns) {
    const all = new Uint16Array(this._waiting.length + columns.length);
    all.set(this._waiting);
    all.set(columns, this._waiting.length);
    const size = this.header.blockColumns * this.header.rows;
    let at = 0;
    for (; at + size <= all.length; at += size) this._block(all.subarray(at, at + size));
    this._waiting = all.slice(at);
  }

  /** @param {Uint16Array} indices */
  _block(indices) {
    const payload = pack(indices, this.header.rows, this.header.bits);
    const columns = indices.length / this.header.rows;
    const run = this._runs.at(-1);
    if (run?.columns === columns) run.blocks++;
    else this._runs.push({ offset: this._offset, first: this.columns, blocks: 1, columns });
    this._put(block("A", payload, this.columns, columns));
    this._indicesCrc = crc32(payload, this._indicesCrc);
    this.columns += columns;
  }

  /** @param {Record<string, unknown>} tags */
  tag(tags) {
    const ascii = JSON.stringify(tags).replace(
      /[\u0080-\uffff]/g,
      (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
    );
    if (ascii.length > MAX_PAYLOAD) {
      throw new AudioError(`tags of ${ascii.length} bytes: at most ${MAX_PAYLOAD} can be kept`);
    }
    this._put(block("t", new TextEncoder().encode(ascii)));
  }

  /**
   * Ends the stream.
   * @param {number} samples at the codec's rate
   * @param {Record<string, unknown>} [tags]
   */
  finish(samples, tags) {
    if (this._waiting.length) this._block(this._waiting);
    this._waiting = new Uint16Array(0);
    if (tags) this.tag(tags);
    const indexOffset = this._runs.length ? this._offset : 0;
    const runs = new Uint8Array(this._runs.length * RUN_BYTES);
    this._runs.forEach((run, i) => {
      const out = view(runs.subarray(i * RUN_BYTES));
      out.setBigUint64(0, BigInt(run.offset), true);
      out.setUint32(8, run.first, true);
      out.setUint32(12, run.blocks, true);
      out.setUint8(16, run.columns);
    });
    const whole = Math.floor(MAX_PAYLOAD / RUN_BYTES) * RUN_BYTES;
    for (let at = 0; at < runs.length; at += whole) {
      this._put(block("I", runs.slice(at, at + whole)));
    }
    const { columns, _indicesCrc: indicesCrc } = this;
    this._put(block("Z", endBytes({ columns, samples, indicesCrc, indexOffset })));
  }
}
