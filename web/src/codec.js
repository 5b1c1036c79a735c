/** A loaded model: samples to a .pcx stream, and back. */

import { AudioError, ModelMismatchError, PcodecError } from "./errors.js";
import { Graph, fetchBytes, useWasm } from "./graphs.js";
import { hex, fromHex } from "./pcx/bytes.js";
import { Chain } from "./pcx/chain.js";
import { EntropyModel, readSafetensors } from "./pcx/entropy.js";
import { Header, MAX_RATE } from "./pcx/layout.js";
import { Writer } from "./pcx/writer.js";
import { resample } from "./resample.js";
import { StreamDecoder, StreamEncoder, clean, join } from "./streams.js";

/** @typedef {import("./graphs.js").ModelInfo} ModelInfo */
/** @typedef {import("./pcx/chain.js").Fault} Fault */

const BLOCK_COLUMNS = 32;

/** Bytes that the reader takes at once: it copies what follows a link of a chain. */
const PART_BYTES = 1 << 16;

/** Columns that are encoded between two reports of progress. */
const STEP_COLUMNS = 32;

/** What a stream and its model must have in common, besides the bitstream id. */
const GEOMETRY = /** @type {const} */ ([
  "sampleRate",
  "hop",
  "melBands",
  "patchBands",
  "patchFrames",
  "phaseRows",
  "bits",
]);

/**
 * What a .pcx stream holds.
 * @typedef {object} Content
 * @property {Header} header of the first link of a chain
 * @property {Record<string, unknown>} tags
 * @property {Fault[]} damages in seconds
 * @property {{samples: number, pieces: import("./pcx/parser.js").Piece[]}[]} links
 */

/** Encodes and decodes by one model. Its graphs are loaded when they are first needed. */
export class Codec {
  /**
   * @param {ModelInfo} info
   * @param {(file: string) => Promise<ArrayBuffer>} read a file of the model
   * @param {EntropyModel | null} entropy what reads blocks of type C
   */
  constructor(info, read, entropy) {
    this.info = info;
    this._read = read;
    this._entropy = entropy;
    /** @type {Partial<Record<"encoder" | "decoder", Promise<Graph>>>} */
    this._graphs = {};
  }

  /** Hz. */
  get rate() {
    return this.info.sample_rate;
  }

  get melRows() {
    return this.info.mel_bands / this.info.patch_bands;
  }

  /** Indices per column: of the mel's patches, then of the low band's phases. */
  get rows() {
    return this.melRows + this.info.phase_rows;
  }

  get bits() {
    return this.info.bits;
  }

  get columnSamples() {
    return this.info.hop * this.info.patch_frames;
  }

  /** @param {"encoder" | "decoder"} name */
  _graph(name) {
    return (this._graphs[name] ??= this._read(this.info[name].file)
      .then((bytes) => Graph.of(this.info[name], bytes))
      .catch((error) => {
        delete this._graphs[name]; // the next stream tries again
        throw error;
      }));
  }

  streamEncoder() {
    return new StreamEncoder(this._graph("encoder"), this);
  }

  streamDecoder() {
    return new StreamDecoder(this._graph("decoder"), this);
  }

  /**
   * Mono samples (full scale at 1) at a rate in Hz -> a .pcx stream, as Python writes it.
   * @param {Float32Array} samples
   * @param {number} rate
   * @param {Record<string, string>} [tags] what is known of the audio in words, such as its title
   * @param {(share: number) => unknown} [progress] is told how much is done, 0 to 1, and waited for
   * @returns {Promise<ArrayBuffer>}
   */
  async encode(samples, rate = this.rate, tags, progress) {
    if (!Number.isInteger(rate) || rate <= 0 || rate > MAX_RATE) {
      throw new AudioError(
        `a sample rate of ${rate} Hz: only whole numbers up to ${MAX_RATE} can be coded`,
      );
    }
    const own = resample(clean(samples), rate, this.rate);
    const writer = new Writer(this._header(rate, own.length));
    if (tags && Object.keys(tags).length) writer.tag(tags);
    const encoder = this.streamEncoder();
    const step = STEP_COLUMNS * this.columnSamples;
    for (let at = 0; at < own.length; at += step) {
      writer.write(await encoder.push(own.subarray(at, at + step)));
      await progress?.(at / own.length);
    }
    writer.write(await encoder.finish());
    writer.finish(own.length, { source_frames: samples.length });
    return writer.take().buffer;
  }

  /**
   * A .pcx stream -> mono samples at the codec's rate; lost parts are concealed.
   * @param {ArrayBuffer | Uint8Array} buffer
   */
  async decode(buffer) {
    const { tags, damages, links } = this.read(buffer);
    const found = [];
    for (const { samples, pieces } of links) {
      const decoder = this.streamDecoder();
      const parts = [];
      for (const { columns, indices } of pieces) {
        parts.push(await (indices ? decoder.push(indices) : decoder.conceal(columns)));
      }
      parts.push(await decoder.finish());
      found.push(join(Float32Array, parts).subarray(0, samples));
    }
    return { samples: join(Float32Array, found), rate: this.rate, tags, damages };
  }

  /**
   * Parses a .pcx stream without decoding it.
   * @param {ArrayBuffer | Uint8Array} buffer
   * @returns {Content}
   */
  read(buffer) {
    const chain = new Chain((header) => this._entropyOf(header));
    /** @type {Map<import("./pcx/parser.js").Parser, import("./pcx/parser.js").Piece[]>} */
    const found = new Map();
    const take = (/** @type {ReturnType<Chain["feed"]>} */ portions) => {
      for (const [parser, pieces] of portions) {
        if (!found.has(parser)) found.set(parser, []);
        found.get(parser)?.push(...pieces);
      }
    };
    const data = new Uint8Array(buffer);
    for (let at = 0; at < data.length; at += PART_BYTES) {
      take(chain.feed(data.subarray(at, at + PART_BYTES)));
    }
    take(chain.close());
    const [first] = found.keys();
    const links = [...found].map(([parser, pieces]) => {
      this._check(/** @type {Header} */ (parser.header));
      return { samples: parser.samples, pieces };
    });
    const header = /** @type {Header} */ (first.header);
    return { header, tags: first.tags, damages: chain.faults, links };
  }

  /** @param {number} sourceRate @param {number} samples */
  _header(sourceRate, samples) {
    const { info } = this;
    return new Header({
      sourceRate,
      samples,
      bitstreamId: fromHex(info.bitstream_id),
      sampleRate: info.sample_rate,
      hop: info.hop,
      melBands: info.mel_bands,
      patchBands: info.patch_bands,
      patchFrames: info.patch_frames,
      phaseRows: info.phase_rows,
      bits: info.bits,
      blockColumns: BLOCK_COLUMNS,
      serial: 0,
      entropyId: null,
    });
  }

  /** @param {Header} header */
  _check(header) {
    const own = this._header(header.sourceRate, 0);
    const wanted = hex(header.bitstreamId);
    if (wanted !== this.info.bitstream_id) {
      throw new ModelMismatchError(
        `the stream needs bitstream id ${wanted}; this is model ${this.info.model}, ${this.info.bitstream_id}`,
      );
    }
    const other = GEOMETRY.find((name) => header[name] !== own[name]);
    if (other) {
      throw new ModelMismatchError(
        `the stream has ${other} ${header[other]}; model ${this.info.model} has ${own[other]}`,
      );
    }
  }

  /** @param {Header} header */
  _entropyOf(header) {
    const wanted = hex(header.entropyId ?? new Uint8Array());
    if (!this._entropy || wanted !== this.info.entropy_id) {
      throw new ModelMismatchError(
        `the stream is compact, by entropy id ${wanted}, which is not installed`,
      );
    }
    return this._entropy;
  }
}

/**
 * Loads a model as `pcodec export` writes it.
 * @param {object} [options]
 * @param {URL | string} [options.graphs] its folder, with a slash at the end; default: that of this package
 * @param {URL | string} [options.wasm] ONNX Runtime's .wasm file, if it is not where its script looks
 */
export async function load({ graphs = new URL("../graphs/", import.meta.url), wasm } = {}) {
  const here = typeof location === "undefined" ? undefined : location.href;
  const folder = new URL(graphs, here);
  const read = (/** @type {string} */ file) => fetchBytes(new URL(file, folder));
  if (wasm) await useWasm(new URL(wasm, here));
  /** @type {ModelInfo} */
  const info = JSON.parse(new TextDecoder().decode(await read("pcodec.json")));
  if (!info.encoder || !info.decoder) throw new PcodecError(`${folder}: no exported model`);
  const rows = info.mel_bands / info.patch_bands;
  const geometry = { rows: rows + info.phase_rows, melRows: rows, bits: info.bits };
  const entropy = info.entropy_id
    ? new EntropyModel(readSafetensors(await read("entropy.safetensors")), geometry)
    : null;
  return new Codec(info, read, entropy);
}
