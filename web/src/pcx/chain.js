/** Streams one after the other, as `cat a.pcx b.pcx` makes them: the links of a chain. */

import { PcodecError } from "../errors.js";
import { MAX_NOTES, Parser } from "./parser.js";

/**
 * Something wrong with a chain, in seconds from its start; `end` is `start` if no audio is lost.
 * @typedef {{start: number, end: number, reason: string}} Fault
 */

/** @typedef {import("./parser.js").Piece} Piece */

/**
 * Reads one stream or more from bytes as they come: `feed`, then `close`.
 *
 * Each gives [parser, pieces] in order, where a new parser is a new link. A link that cannot be
 * read throws FormatError and its kin, with its place.
 */
export class Chain {
  /** @param {(header: import("./layout.js").Header) => import("./parser.js").EntropyDecoder} entropy */
  constructor(entropy) {
    this._entropy = entropy;
    this.parser = new Parser(entropy);
    /** Of the link that is being read, from 1. */
    this.number = 1;
    /** Seconds, where it starts. */
    this.start = 0;
    /** @type {Fault[]} of the links that were read */
    this.faults = [];
  }

  /** @param {Uint8Array} data */
  feed(data) {
    return this._read(data, false);
  }

  close() {
    return this._read(new Uint8Array(0), true);
  }

  /**
   * @param {Uint8Array} data
   * @param {boolean} final
   * @returns {[Parser, Piece[]][]}
   */
  _read(data, final) {
    /** @type {[Parser, Piece[]][]} */
    const found = [];
    for (;;) {
      const parser = this.parser;
      let pieces;
      try {
        pieces = parser.feed(data);
        if (final || parser.rest) pieces.push(...parser.close());
      } catch (error) {
        if (error instanceof PcodecError && this.number > 1) {
          error.message = `stream ${this.number}, from ${this.start.toFixed(2)} s: ${error.message}`;
        }
        throw error;
      }
      found.push([parser, pieces]);
      if (final || parser.rest) this._endLink();
      if (!parser.rest) return found;
      data = parser.rest;
      this.parser = new Parser(this._entropy);
      this.number++;
    }
  }

  _endLink() {
    const { header, damages, samples } = this.parser;
    if (!header) return;
    const column = header.columnSamples / header.sampleRate;
    for (const { firstColumn, columns, reason } of damages) {
      if (this.faults.length >= MAX_NOTES) break;
      const start = this.start + firstColumn * column;
      this.faults.push({ start, end: start + columns * column, reason });
    }
    this.start += samples / header.sampleRate;
  }
}
