/** pcodec-speech: a neural speech codec at 7.5 kbit/s, in the browser and in Node. */

import { load } from "./codec.js";

export { Codec, load } from "./codec.js";
export * from "./errors.js";
export { pack, unpack } from "./pcx/packing.js";
export { Header } from "./pcx/layout.js";
export { Parser } from "./pcx/parser.js";
export { Chain } from "./pcx/chain.js";
export { Writer } from "./pcx/writer.js";
export { resample, resampledLength } from "./resample.js";
export { StreamDecoder, StreamEncoder } from "./streams.js";

/** @type {ReturnType<typeof load> | undefined} */
let shared;

const codec = () =>
  (shared ??= load().catch((error) => {
    shared = undefined; // the next call tries again
    throw error;
  }));

/**
 * Mono samples at a rate in Hz -> a .pcx stream, by the model of this package.
 * @param {Float32Array} samples
 * @param {number} rate
 */
export const encode = async (samples, rate) => (await codec()).encode(samples, rate);

/**
 * A .pcx stream -> its mono samples and their rate, by the model of this package.
 * @param {ArrayBuffer | Uint8Array} buffer
 */
export const decode = async (buffer) => (await codec()).decode(buffer);
