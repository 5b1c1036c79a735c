/**
 * Blocks of type C: how likely each index is, given those before it in the same block.
 *
 * All in whole numbers below 2**24 ("Blocks of type C" in docs/format.md), so that every machine
 * computes the same.
 */

import { Decoder, TOTAL } from "./rans.js";

const MAX_ACTIVATION = 127;
/** Columns back that the first layer sees, and at which the second sees outputs of the first. */
const NEAR = [1, 2, 3, 4];
const FAR = [0, 3, 6];

const POWERS = [
  65536, 62757, 60097, 57549, 55109, 52772, 50535, 48393, 46341, 44376, 42495, 40693, 38968, 37316,
  35734, 34219,
];
const LIKELIHOODS = Int32Array.from({ length: 256 }, (_, k) => POWERS[k % 16] >> (k >> 4));

/** @typedef {{shape: number[], data: Int8Array | Int32Array}} Tensor */

/**
 * The whole numbers of a safetensors file by their names.
 * @param {ArrayBuffer} buffer
 * @returns {Record<string, Tensor>}
 */
export function readSafetensors(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  delete head.__metadata__;
  /** @type {Record<string, Tensor>} */
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: at }] of Object.entries(head)) {
    const bytes = buffer.slice(8 + length + at[0], 8 + length + at[1]);
    if (dtype !== "I8" && dtype !== "I32") throw new Error(`${name} holds no whole numbers`);
    tensors[name] = { shape, data: dtype === "I8" ? new Int8Array(bytes) : new Int32Array(bytes) };
  }
  return tensors;
}

/** floor((weight x + bias) / 2**shift), of some outputs. */
class Layer {
  /** @param {Record<string, Tensor>} tensors @param {string} name */
  constructor(tensors, name) {
    const of = (/** @type {string} */ part) => tensors[`entropy.${name}.${part}`];
    this.weight = of("weight").data;
    this.bias = of("bias").data; // of one row, or of each
    this.shift = of("shift").data;
    const [outputs, inputs] = of("weight").shape;
    this.outputs = outputs;
    this.inputs = inputs;
  }

  /**
   * @param {Int32Array} x inputs
   * @param {Int32Array} out where outputs `first`, ... go
   * @param {number} first
   * @param {number} row whose bias is taken
   */
  apply(x, out, first = 0, row = 0) {
    const { weight, bias, shift, inputs, outputs } = this;
    for (let i = 0; i < out.length; i++) {
      const output = first + i;
      let sum = bias[row * outputs + output];
      const at = output * inputs;
      for (let j = 0; j < inputs; j++) sum = (sum + Math.imul(weight[at + j], x[j])) | 0;
      out[i] = sum >> shift[output];
    }
    return out;
  }

  /**
   * The same, at least 0 and at most 127.
   * @param {Int32Array} x
   * @param {Int32Array} out
   */
  rectified(x, out, first = 0) {
    this.apply(x, out, first);
    for (let i = 0; i < out.length; i++) out[i] = Math.min(Math.max(out[i], 0), MAX_ACTIVATION);
    return out;
  }
}

/**
 * Logits -> frequencies, at least 1, that add up to `TOTAL`; in place.
 * @param {Int32Array} logits
 */
function frequencies(logits) {
  let first = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[first]) first = i;
  const largest = logits[first];
  let sum = 0;
  for (let i = 0; i < logits.length; i++) {
    logits[i] = LIKELIHOODS[Math.min(largest - logits[i], LIKELIHOODS.length - 1)];
    sum += logits[i];
  }
  let rest = TOTAL;
  for (let i = 0; i < logits.length; i++) {
    logits[i] = 1 + Math.floor((logits[i] * (TOTAL - logits.length)) / sum);
    rest -= logits[i];
  }
  logits[first] += rest;
  return logits;
}

/**
 * Rows whose likelihoods do not depend on one another, in the order of their coding.
 * @param {number} rows
 * @param {number} melRows
 */
function groups(rows, melRows) {
  const every = (
    /** @type {number} */ from,
    /** @type {number} */ to,
    /** @type {number} */ step,
  ) =>
    Array.from({ length: Math.max(0, Math.ceil((to - from) / step)) }, (_, i) => from + i * step);
  return [
    ...[0, 2, 1, 3].map((first) => every(first, melRows, 4)),
    every(melRows, rows, 2),
    every(melRows + 1, rows, 2),
  ].filter((group) => group.length);
}

/** The network, and blocks of bytes to indices by it. */
export class EntropyModel {
  /**
   * @param {Record<string, Tensor>} tensors
   * @param {{rows: number, melRows: number, bits: number}} geometry
   */
  constructor(tensors, { rows, melRows, bits }) {
    this.rows = rows;
    this.lower = 1 << (bits >> 1);
    this.groups = groups(rows, melRows);
    this.order = tensors["entropy.order"].data;
    this.embedding = tensors["entropy.embedding"].data;
    this.dim = tensors["entropy.embedding"].shape[1];
    this.near = new Layer(tensors, "near");
    this.far = new Layer(tensors, "far");
    this.column = new Layer(tensors, "column");
    this.mix = new Layer(tensors, "mix");
    this.coarse = new Layer(tensors, "coarse");
    this.fine = new Layer(tensors, "fine");
  }

  /**
   * A block's payload -> its indices; null if it does not hold them.
   * @param {Uint8Array} payload
   * @param {number} columns
   */
  decompress(payload, columns) {
    const { rows, dim, lower } = this;
    const decoder = new Decoder(payload);
    const grid = new Uint16Array(columns * rows);
    const size = rows * dim;
    const width = this.near.outputs;
    const hidden = this.mix.outputs;
    const known = new Int32Array((columns + NEAR.length) * size);
    const near = new Int32Array((columns + FAR[2]) * width);
    const seen = new Int32Array(this.near.inputs);
    const past = new Int32Array(this.far.inputs);
    const context = new Int32Array(this.column.inputs);
    const mixed = new Int32Array(hidden);
    const logits = new Int32Array(this.coarse.outputs);
    const fine = new Int32Array(lower);
    const features = Array.from({ length: rows }, () => new Int32Array(hidden));
    const places = new Int32Array(rows);
    for (let t = 0; t < columns; t++) {
      const now = (t + NEAR.length) * size;
      NEAR.forEach((back, i) =>
        seen.set(known.subarray(now - back * size, now - (back - 1) * size), i * size),
      );
      const at = (t + FAR[2]) * width;
      this.near.rectified(seen, near.subarray(at, at + width));
      FAR.forEach((back, i) =>
        past.set(near.subarray(at - back * width, at - (back - 1) * width), i * width),
      );
      this.far.rectified(past, context.subarray(0, width));
      context.fill(0, width);
      for (const group of this.groups) {
        for (const row of group) {
          this.column.rectified(context, mixed, row * hidden);
          this.mix.rectified(mixed, features[row]);
        }
        for (const row of group) {
          this.coarse.apply(features[row], logits, 0, row);
          places[row] = lower * decoder.symbol(frequencies(logits));
        }
        for (const row of group) {
          this.fine.apply(features[row], fine, places[row], row);
          places[row] += decoder.symbol(frequencies(fine));
          grid[t * rows + row] = this.order[places[row]];
        }
        for (const row of group) {
          const entry = this.embedding.subarray(places[row] * dim, (places[row] + 1) * dim);
          context.set(entry, width + row * dim);
        }
      }
      known.set(context.subarray(width), now);
    }
    return decoder.finished ? grid : null;
  }
}
