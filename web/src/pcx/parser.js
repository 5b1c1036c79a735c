/** `Parser` takes bytes as they come and gives columns, gaps and a list of damages. */

import { VersionError } from "../errors.js";
import { concat, crc32, find, startsWith, view } from "./bytes.js";
import {
  END_BYTES,
  END_MARK,
  HEAD_BYTES,
  HEADER_BYTES,
  Header,
  MAGIC,
  MAX_HEADER,
  MAX_PAYLOAD,
  OVERHEAD,
  SYNC,
  readEnd,
  readHead,
} from "./layout.js";
import { unpack } from "./packing.js";

/** How many damages a reader keeps: an endless bad stream must not fill the memory. */
export const MAX_NOTES = 10_000;

/** Bytes of tags that a reader keeps. */
const MAX_TAGS = 1 << 17;

/** A gap is believed up to this many columns, and `GAP_FACTOR` more for each that was read. */
const GAP = 1024;
const GAP_FACTOR = 8;

/**
 * Columns in order of time; `indices` is null where they are lost.
 * @typedef {{firstColumn: number, columns: number, indices: Uint16Array | null}} Piece
 */

/**
 * Something wrong with a stream. Columns are 0 if no audio is lost.
 * @typedef {{firstColumn: number, columns: number, reason: string}} Damage
 */

/**
 * What decodes blocks of type C: a payload and its columns to indices, null if it does not hold them.
 * @typedef {{decompress(payload: Uint8Array, columns: number): Uint16Array | null}} EntropyDecoder
 */

/**
 * Reads a stream from bytes as they come; never trusts what no checksum covers.
 *
 * `feed` gives the pieces that are complete; after `close` there is nothing more. Where another
 * stream follows, this one ends, and `rest` is what was fed of that (see `Chain`).
 */
export class Parser {
  /** @param {(header: Header) => EntropyDecoder} entropy finds what decodes blocks of type C */
  constructor(entropy) {
    /** @type {Header | null} */
    this.header = null;
    /** @type {Record<string, unknown>} */
    this.tags = {};
    /** @type {import("./layout.js").End | null} */
    this.end = null;
    /** @type {Damage[]} */
    this.damages = [];
    this.nextColumn = 0;
    this.lostColumns = 0;
    this.blocks = 0;
    this.bytesRead = 0;
    /** @type {Uint8Array | null} of another stream that follows, from its header on */
    this.rest = null;

    this._entropy = entropy;
    /** @type {EntropyDecoder | null} */
    this._decoder = null;
    /** @type {Uint8Array} */
    this._buffer = new Uint8Array(0);
    this._offset = 0; // of the buffer in the stream
    /** @type {string | null} */
    this._searching = null;
    this._trailing = "";
    this._indicesCrc = 0;
    this._tagBytes = 0;
    this._blockOffset = 0;
    this._indexOffset = 0;
    this._wasted = 0; // bytes checked in vain
  }

  /** Length of the audio, at the codec's rate: as stated, if the columns can hold it. */
  get samples() {
    const header = this._header;
    const held = this.nextColumn * header.columnSamples;
    return Math.min((this.end ? this.end.samples : header.samples) ?? held, held);
  }

  /**
   * Takes the next bytes. Throws FormatError and its kin on a header it can't read.
   * @param {Uint8Array} data
   * @returns {Piece[]}
   */
  feed(data) {
    if (this.rest) return [];
    this._buffer = this._buffer.length ? concat([this._buffer, data]) : data;
    this.bytesRead += data.length;
    if (!this.header) {
      const buffer = this._buffer;
      // A wrong magic is refused as soon as it is there, a short header only at the end.
      if (buffer.length < MAGIC.length || startsWith(buffer, MAGIC)) {
        const valid = buffer.length >= HEADER_BYTES && this._headerValid(0);
        const wanted = valid
          ? Math.min(MAX_HEADER, view(buffer).getUint16(10, true))
          : HEADER_BYTES;
        if (buffer.length < wanted) return [];
      }
      this._takeHeader();
    }
    return [...this._blocks(false)];
  }

  /**
   * Says that no bytes follow; gives the last pieces.
   * @returns {Piece[]}
   */
  close() {
    if (!this.header) this._takeHeader();
    const header = this._header;
    const pieces = [...this._blocks(true)];
    if (this.end && this.end.columns > this.nextColumn) pieces.push(...this._gap(this.end.columns));
    if (this._searching !== null) this._note(0, this._searching);
    if (this._trailing) this._note(0, this._trailing);
    if (!this.end) {
      const stated = Math.ceil((header.samples ?? 0) / header.columnSamples);
      this._note(Math.max(0, stated - this.nextColumn), "the end of the stream is missing");
    } else if (this.end.columns < this.nextColumn) {
      this._note(0, "the stream holds more columns than its end states");
    } else if (this.end.samples > this.nextColumn * header.columnSamples) {
      this._note(0, "the stream states more samples than its columns hold");
    } else if (header.samples !== null && header.samples !== this.end.samples) {
      this._note(0, "header and end state different lengths");
    } else if (!this.damages.length) {
      if (this.end.indicesCrc !== this._indicesCrc) {
        this._note(0, "the checksum over all indices does not match");
      } else if (this.end.indexOffset !== this._indexOffset) {
        this._note(0, "a block that held no columns is missing, or was put in");
      }
    }
    return pieces;
  }

  get _header() {
    if (!this.header) throw new Error("the header is not there yet");
    return this.header;
  }

  _headerValid(/** @type {number} */ at) {
    const header = this._buffer.subarray(at, at + HEADER_BYTES);
    return crc32(header.subarray(0, 60)) === view(header).getUint32(60, true);
  }

  _takeHeader() {
    const [header, length] = Header.fromBytes(this._buffer);
    this.header = header;
    this._buffer = this._buffer.subarray(length);
    this._offset += length;
  }

  /** @param {number} columns @param {string} reason */
  _note(columns, reason, firstColumn = this.nextColumn) {
    this.lostColumns += columns;
    if (this.damages.length < MAX_NOTES) this.damages.push({ firstColumn, columns, reason });
  }

  /**
   * Lost columns up to `until`, if that can be believed.
   * @param {number} until
   * @returns {Piece[]}
   */
  _gap(until) {
    const firstColumn = this.nextColumn;
    const missing = until - firstColumn;
    const read = Math.floor(this._blockOffset / this._header.columnBytes);
    if (this.lostColumns + missing > GAP + GAP_FACTOR * read) {
      this._note(0, `a jump to column ${until} is not believed`);
      return [];
    }
    this._note(missing, this._searching ?? "blocks are missing");
    this._searching = null;
    this.nextColumn = until;
    return [{ firstColumn, columns: missing, indices: null }];
  }

  /**
   * Takes every whole block from the buffer.
   * @param {boolean} final
   * @returns {Generator<Piece>}
   */
  *_blocks(final) {
    const buffer = this._buffer;
    let position = 0;
    while (!this.end) {
      const found = find(buffer, SYNC, position);
      const limit = found < 0 ? buffer.length : found;
      const following = this._nextStream(position, limit, final);
      const rest = buffer.subarray(position, following ?? limit);
      // The first bytes of a sync or a header may be the last ones here.
      const begun =
        found < 0 &&
        following === null &&
        (startsWith(MAGIC, rest) || (rest.length === 1 && rest[0] === SYNC[0]));
      if (this._searching === null && rest.length && (final || !begun)) {
        this._searching = "unknown bytes between blocks";
      }
      if (following !== null) {
        position = this._leave(following);
        break;
      }
      if (found < 0) {
        position = Math.max(position, buffer.length - (final ? 0 : MAGIC.length - 1));
        break;
      }
      position = found;
      const raw = buffer.subarray(position, position + HEAD_BYTES);
      if (raw.length < HEAD_BYTES) {
        if (!final) break;
        position = this._lost(position, "the last block is cut off");
        continue;
      }
      const head = readHead(raw);
      if (!head || !this._plausible(head)) {
        position = this._lost(position, "a block's head is damaged");
        continue;
      }
      const size = OVERHEAD + head.length;
      if (buffer.length < position + size) {
        if (!final) break;
        position = this._lost(position, "the last block is cut off");
        continue;
      }
      const content = buffer.subarray(position, position + size);
      const marked = head.type !== "Z" || find(content, END_MARK, size - 8) === size - 8;
      if (crc32(content.subarray(0, -4)) !== view(content).getUint32(size - 4, true) || !marked) {
        this._wasted += size;
        position = this._lost(position, "a block's checksum does not match");
        continue;
      }
      this._blockOffset = this._offset + position;
      position += size;
      yield* this._takeBlock(head, content.subarray(HEAD_BYTES, -4));
    }
    if (this.end && !this.rest) position = this._takeTrailing(position, final);
    this._buffer = buffer.subarray(position);
    this._offset += position;
  }

  /**
   * Where another stream's header starts in a part of the buffer, as far as it is there.
   * @param {number} start
   * @param {number} stop
   * @param {boolean} final
   */
  _nextStream(start, stop, final) {
    for (
      let at = find(this._buffer, MAGIC, start, stop);
      at >= 0;
      at = find(this._buffer, MAGIC, at + 1, stop)
    ) {
      const whole = this._buffer.length - at >= HEADER_BYTES;
      if (whole ? this._headerValid(at) : !final) return at;
    }
    return null;
  }

  /** Ends this stream where another one's header starts, once that is whole. */
  _leave(/** @type {number} */ following) {
    if (this._buffer.length - following < HEADER_BYTES) return following;
    this.rest = this._buffer.slice(following);
    this.bytesRead -= this.rest.length;
    return this._buffer.length;
  }

  /**
   * Looks for another stream after the end; returns what of the buffer is done with.
   * @param {number} position
   * @param {boolean} final
   */
  _takeTrailing(position, final) {
    const buffer = this._buffer;
    const following = this._nextStream(position, buffer.length, final);
    const rest = buffer.subarray(position, following ?? undefined);
    const begun = following === null && startsWith(MAGIC, rest);
    if (rest.length && !this._trailing && (final || !begun)) {
      this._trailing = startsWith(rest, MAGIC)
        ? "another stream follows, but its header is damaged"
        : "bytes after the end of the stream";
    }
    if (following !== null) return this._leave(following);
    return Math.max(position, buffer.length - (final ? 0 : MAGIC.length - 1));
  }

  /**
   * Goes on searching after a sync that led to no block.
   * @param {number} position
   * @param {string} reason
   */
  _lost(position, reason) {
    this._searching ??= reason;
    return position + SYNC.length;
  }

  /**
   * Whether a valid head has a length that its type can have.
   * @param {NonNullable<ReturnType<typeof readHead>>} head
   */
  _plausible(head) {
    // Hostile heads must not make the reader check the same bytes again and again.
    if (this._wasted > 16 * this.bytesRead + (1 << 20)) return false;
    const { columnBytes, entropyId } = this._header;
    if (head.type === "A") return head.columns > 0 && head.length === head.columns * columnBytes;
    if (head.type === "C" && entropyId) {
      return head.length > 0 && head.length < head.columns * columnBytes;
    }
    return head.type !== "Z" || head.length === END_BYTES;
  }

  /**
   * @param {NonNullable<ReturnType<typeof readHead>>} head
   * @param {Uint8Array} payload
   * @returns {Generator<Piece>}
   */
  *_takeBlock(head, payload) {
    if (head.flags) {
      throw new VersionError(`block flags 0x${head.flags.toString(16)}: a feature unknown here`);
    }
    if (head.type === "A" || (head.type === "C" && this._header.entropyId)) {
      yield* this._takeColumns(head, payload);
    } else if (head.type === "Z") {
      this.end = readEnd(payload);
    } else if (head.type === "I") {
      this._indexOffset ||= this._blockOffset;
    } else if (head.type === "t") {
      this._takeTags(payload);
    } else if (!/^[a-z]$/.test(head.type)) {
      throw new VersionError(`block type ${JSON.stringify(head.type)}: a feature unknown here`);
    }
  }

  /** @param {Uint8Array} payload */
  _takeTags(payload) {
    const full = this._tagBytes > MAX_TAGS;
    this._tagBytes += payload.length;
    if (this._tagBytes > MAX_TAGS && !full) {
      // Much of it may have been replaced; counting what is left is slow, so it is rare.
      const kept = JSON.stringify(this.tags).length;
      this._tagBytes = payload.length + (kept <= MAX_TAGS / 2 ? kept : MAX_TAGS);
    }
    let tags = null;
    if (this._tagBytes <= MAX_TAGS && payload.length <= MAX_PAYLOAD) {
      try {
        tags = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload));
      } catch {
        // noted below
      }
    }
    if (tags && typeof tags === "object" && !Array.isArray(tags)) {
      for (const [name, value] of Object.entries(tags)) {
        Object.defineProperty(this.tags, name, {
          value,
          enumerable: true,
          configurable: true,
          writable: true,
        });
      }
    } else {
      this._note(0, "unreadable tags");
    }
  }

  /**
   * @param {NonNullable<ReturnType<typeof readHead>>} head
   * @param {Uint8Array} payload
   * @returns {Generator<Piece>}
   */
  *_takeColumns(head, payload) {
    const { firstColumn: first, columns } = head;
    if (first > this.nextColumn) {
      const gap = this._gap(first);
      if (!gap.length) return;
      yield* gap;
    } else if (this._searching !== null) {
      this._note(0, this._searching);
      this._searching = null;
    }
    this.blocks++;
    const skip = this.nextColumn - first;
    if (skip) {
      this._note(0, `columns ${first} to ${first + columns} come again or out of order`);
      if (skip >= columns) return;
    }
    this._indicesCrc = crc32(payload, this._indicesCrc);
    const indices = this._indices(head, payload);
    const { rows } = this._header;
    if (!indices) this._note(columns - skip, "a block does not hold its indices");
    yield {
      firstColumn: this.nextColumn,
      columns: columns - skip,
      indices: indices && indices.subarray(skip * rows),
    };
    this.nextColumn += columns - skip;
  }

  /**
   * @param {NonNullable<ReturnType<typeof readHead>>} head
   * @param {Uint8Array} payload
   */
  _indices(head, payload) {
    const header = this._header;
    if (head.type === "A") return unpack(payload, header.rows, header.bits);
    this._decoder ??= this._entropy(header);
    return this._decoder.decompress(payload, head.columns);
  }
}
