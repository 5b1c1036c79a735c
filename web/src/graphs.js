/** The exported graphs of a model, and their state from one call to the next. */

import * as ort from "onnxruntime-web/wasm";

import { PcodecError } from "./errors.js";

/** @typedef {{input: string, output: string, dtype: string, shape: number[]}} StateTensor */
/**
 * @typedef {object} GraphInfo
 * @property {string} file
 * @property {StateTensor[]} states
 * @property {number} [first_samples] of an encoder: the fewest that its first call takes
 * @property {number} [first_columns] of a decoder: the same
 */

/**
 * `pcodec.json`, which `pcodec export` writes beside the graphs.
 * @typedef {object} ModelInfo
 * @property {string} model
 * @property {string} bitstream_id
 * @property {string | null} [entropy_id]
 * @property {number} sample_rate
 * @property {number} hop
 * @property {number} mel_bands
 * @property {number} patch_bands
 * @property {number} patch_frames
 * @property {number} phase_rows
 * @property {number} bits
 * @property {GraphInfo} encoder
 * @property {GraphInfo} decoder
 */

/**
 * The bytes of a file of the model.
 * @param {URL} url
 * @returns {Promise<ArrayBuffer>}
 */
export async function fetchBytes(url) {
  try {
    if (url.protocol === "file:") {
      const files = "node:fs/promises"; // Node's fetch reads no files; a variable, so that no bundler looks
      const { readFile } = await import(files);
      return Uint8Array.from(await readFile(url)).buffer;
    }
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    return await response.arrayBuffer();
  } catch (error) {
    throw new PcodecError(`${url}: ${/** @type {Error} */ (error).message}`);
  }
}

/**
 * Where ONNX Runtime's WebAssembly file is; by default beside the script.
 * @param {URL} url
 */
export async function useWasm(url) {
  ort.env.wasm.wasmBinary ??= await fetchBytes(url);
}

/** The state of a stream: a tensor for each input of the graph that is not new. */
/** @typedef {Record<string, ort.Tensor>} State */

/** One graph, ready to run. */
export class Graph {
  /** @param {GraphInfo} info @param {ArrayBuffer} bytes of its file */
  static async of(info, bytes) {
    ort.env.wasm.numThreads = 1; // more would need a page of its own origin, and gain little
    try {
      return new Graph(info, await ort.InferenceSession.create(new Uint8Array(bytes)));
    } catch (error) {
      throw new PcodecError(`${info.file}: ${/** @type {Error} */ (error).message}`);
    }
  }

  /** @param {GraphInfo} info @param {ort.InferenceSession} session */
  constructor(info, session) {
    this.info = info;
    this._session = session;
  }

  /** The state at the start of a stream: zeros. @returns {State} */
  start() {
    return Object.fromEntries(
      this.info.states.map(({ input, dtype, shape }) => {
        const count = shape.reduce((product, size) => product * size, 1);
        return [input, new ort.Tensor(/** @type {any} */ (dtype), zeros(dtype, count), shape)];
      }),
    );
  }

  /**
   * One call: its output by name, and the state of the next call.
   * @param {Record<string, ort.Tensor>} inputs
   * @param {State} state
   * @param {string} output
   * @returns {Promise<[ort.Tensor, State]>}
   */
  async run(inputs, state, output) {
    const results = await this._session.run({ ...inputs, ...state });
    const next = this.info.states.map(({ input, output }) => [input, results[output]]);
    return [results[output], Object.fromEntries(next)];
  }
}

/** @param {string} dtype @param {number} count @returns {any} */
function zeros(dtype, count) {
  const types = { float32: Float32Array, float64: Float64Array, int64: BigInt64Array };
  const type = types[/** @type {keyof typeof types} */ (dtype)];
  if (!type) throw new PcodecError(`states of type ${dtype} are unknown here`);
  return new type(count);
}

/** @param {Float32Array} samples */
export const samplesTensor = (samples) => new ort.Tensor("float32", samples, [1, samples.length]);

/** @param {Uint16Array} indices column by column @param {number} rows */
export const indicesTensor = (indices, rows) =>
  new ort.Tensor("int64", BigInt64Array.from(indices, BigInt), [1, indices.length / rows, rows]);

/** @param {boolean[]} lost of each column */
export const lostTensor = (lost) =>
  new ort.Tensor("bool", Uint8Array.from(lost, Number), [1, lost.length]);

/** @param {boolean} last */
export const lastTensor = (last) => new ort.Tensor("int64", BigInt64Array.of(last ? 1n : 0n), []);
