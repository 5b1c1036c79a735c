/** Streaming encoders and decoders. A file is a stream of one push: there is no other way. */

import { AudioError } from "./errors.js";
import { indicesTensor, lastTensor, lostTensor, samplesTensor } from "./graphs.js";

/** @typedef {import("./graphs.js").Graph} Graph */
/** @typedef {import("./graphs.js").State} State */

/** Columns per run of the networks: enough for speed, few enough for a phone's memory. */
const CHUNK_COLUMNS = 32;

/** Largest sample; floats may exceed full scale, but not the range of the codec. */
const MAX_SAMPLE = 4;

/** Calls that run one after the other, in the order in which they were made. */
class Queue {
  constructor() {
    /** @type {Promise<unknown>} */
    this._last = Promise.resolve();
    this._closed = false;
  }

  /**
   * @template T
   * @param {() => Promise<T>} step
   * @returns {Promise<T>}
   */
  _enqueue(step, closes = false) {
    if (this._closed) return Promise.reject(new Error("the stream has ended"));
    this._closed = closes;
    const done = this._last.then(step);
    this._last = done.catch(() => {});
    return done;
  }
}

/** Samples at the codec's rate -> indices, column by column, as soon as they are known. */
export class StreamEncoder extends Queue {
  /** @param {Promise<Graph>} graph @param {{columnSamples: number, rows: number}} geometry */
  constructor(graph, { columnSamples, rows }) {
    super();
    this._graph = graph;
    this._columnSamples = columnSamples;
    this._rows = rows;
    /** @type {State | null} */
    this._state = null;
    this._waiting = new Float32Array(0);
    this._taken = 0;
  }

  /**
   * Encodes the next samples, any number, and gives the columns that they complete.
   * @param {Float32Array} samples
   * @returns {Promise<Uint16Array>}
   */
  async push(samples) {
    const own = clean(samples).slice(); // the caller may use its array for the next ones
    return this._enqueue(() => this._push(own));
  }

  /**
   * Ends the stream and gives its last columns; the last one is filled with silence.
   * @returns {Promise<Uint16Array>}
   */
  finish() {
    return this._enqueue(async () => {
      const column = this._columnSamples;
      const ahead = lookAhead(await this._graph, column);
      const missing = Math.ceil(this._taken / column) * column - this._taken;
      return this._taken ? this._push(new Float32Array(missing + ahead)) : new Uint16Array(0);
    }, true);
  }

  /** @param {Float32Array} samples */
  async _push(samples) {
    this._taken += samples.length;
    const graph = await this._graph;
    const all = new Float32Array(this._waiting.length + samples.length);
    all.set(this._waiting);
    all.set(samples, this._waiting.length);
    const found = [];
    let at = 0;
    for (;;) {
      // The first call also takes what the first column needs to look ahead.
      const ahead = this._state ? 0 : lookAhead(graph, this._columnSamples);
      const there = Math.floor((all.length - at - ahead) / this._columnSamples);
      if (there < 1) break;
      const count = ahead + Math.min(there, CHUNK_COLUMNS) * this._columnSamples;
      const inputs = { samples: samplesTensor(all.slice(at, at + count)) };
      const [indices, state] = await graph.run(inputs, this._state ?? graph.start(), "indices");
      this._state = state;
      found.push(Uint16Array.from(/** @type {BigInt64Array} */ (indices.data), Number));
      at += count;
    }
    this._waiting = all.slice(at);
    return join(Uint16Array, found);
  }
}

/** Samples that the first call takes besides whole columns. */
const lookAhead = (/** @type {Graph} */ graph, /** @type {number} */ columnSamples) =>
  (graph.info.first_samples ?? 0) % columnSamples;

/**
 * Indices -> samples at the codec's rate, as soon as they are known.
 *
 * Lost columns are concealed: a network predicts them from those before, and a longer loss fades.
 */
export class StreamDecoder extends Queue {
  /**
   * @param {Promise<Graph>} graph
   * @param {{columnSamples: number, rows: number, bits: number}} geometry
   */
  constructor(graph, { columnSamples, rows, bits }) {
    super();
    this._graph = graph;
    this._columnSamples = columnSamples;
    this._rows = rows;
    this._entries = 2 ** bits;
    /** @type {State | null} */
    this._state = null;
    /**
     * Columns that wait, as the first call takes more than one.
     * @type {{indices: Uint16Array, lost: boolean[]}}
     */
    this._held = { indices: new Uint16Array(0), lost: [] };
  }

  /**
   * Decodes the next columns, and gives the samples that are known by then.
   * @param {ArrayLike<number>} indices of whole columns, column by column
   * @returns {Promise<Float32Array>}
   */
  async push(indices) {
    if (indices.length % this._rows) {
      throw new AudioError(`columns have ${this._rows} indices each`);
    }
    const own = Uint16Array.from(indices);
    if (own.some((index, i) => index !== indices[i] || index >= this._entries)) {
      throw new AudioError(`indices must be 0 to ${this._entries - 1}`);
    }
    return this._enqueue(() => this._push(own, false));
  }

  /**
   * Conceals a number of lost columns.
   * @param {number} columns
   * @returns {Promise<Float32Array>}
   */
  conceal(columns) {
    return this._enqueue(() => this._push(new Uint16Array(columns * this._rows), true));
  }

  /**
   * Ends the stream and gives its last samples, those that waited for later columns.
   * @returns {Promise<Float32Array>}
   */
  finish() {
    return this._enqueue(() => this._step(new Uint16Array(0), false, true), true);
  }

  /** Another stream that goes on from here, while this one goes its own way. */
  async fork() {
    await this._last;
    const other = new StreamDecoder(this._graph, {
      columnSamples: this._columnSamples,
      rows: this._rows,
      bits: Math.log2(this._entries),
    });
    other._state = this._state; // tensors are never written to
    other._held = this._held;
    return other;
  }

  /** @param {Uint16Array<ArrayBuffer>} indices @param {boolean} lost */
  async _push(indices, lost) {
    const found = [];
    // A lost column is predicted from those before it alone, so each has a call of its own.
    const step = (lost ? 1 : CHUNK_COLUMNS) * this._rows;
    for (let at = 0; at < indices.length; at += step) {
      found.push(await this._step(indices.slice(at, at + step), lost, false));
    }
    return join(Float32Array, found);
  }

  /**
   * @param {Uint16Array} indices
   * @param {boolean} lost
   * @param {boolean} last
   */
  async _step(indices, lost, last) {
    const graph = await this._graph;
    const columns = join(Uint16Array, [this._held.indices, indices]);
    const flags = [...this._held.lost, ...Array(indices.length / this._rows).fill(lost)];
    this._held = { indices: new Uint16Array(0), lost: [] };
    if (!this._state) {
      if (!flags.length) return new Float32Array(0);
      if (!last && flags.length < (graph.info.first_columns ?? 1)) {
        this._held = { indices: columns, lost: flags };
        return new Float32Array(0);
      }
    }
    const inputs = {
      indices: indicesTensor(columns, this._rows),
      lost: lostTensor(flags),
      last: lastTensor(last),
    };
    const [samples, state] = await graph.run(inputs, this._state ?? graph.start(), "samples");
    this._state = state;
    return /** @type {Float32Array} */ (samples.data);
  }
}

/**
 * Finite samples within the codec's range.
 * @param {Float32Array} samples
 */
export function clean(samples) {
  if (!(samples instanceof Float32Array)) {
    throw new AudioError("samples must be a Float32Array with full scale at 1");
  }
  if (samples.every((x) => Math.abs(x) <= MAX_SAMPLE)) return samples;
  return samples.map((x) =>
    Number.isFinite(x) ? Math.min(Math.max(x, -MAX_SAMPLE), MAX_SAMPLE) : 0,
  );
}

/**
 * @template {Float32Array | Uint16Array} T
 * @param {new (length: number) => T} type
 * @param {T[]} parts
 * @returns {T}
 */
export function join(type, parts) {
  const out = new type(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(/** @type {any} */ (part), at);
    at += part.length;
  }
  return out;
}
