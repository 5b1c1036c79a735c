/** The codec, off the page's own thread. Answers messages {id, do, ...}; tells of progress. */

import { PcodecError, load, resample } from "../src/index.js";
import { HOP, framesOf, level, melLevels } from "./mel.js";

/** Columns that are decoded before the page hears of them. */
const PART_COLUMNS = 16;
/** Least columns between two decoders that are kept, to go on from there with other losses. */
const KEPT_COLUMNS = 32;
/** Most decoders that are kept: each has 145 kB. */
const MOST_KEPT = 64;

const loading = load({
  graphs: new URL("graphs/", self.location.href),
  wasm: new URL("ort.wasm", self.location.href),
});

/**
 * A stream of a chain, as it is decoded. `position` and `column` are those of its start.
 * @typedef {object} Link
 * @property {Uint16Array} grid
 * @property {Uint8Array} lost 1 for columns that the file lacks
 * @property {number} samples
 * @property {number} position
 * @property {number} column
 * @property {{column: number, position: number, decoder: any}[]} kept decoders along the way
 */

/** @type {Link[]} */
let links = [];
let decoded = new Float32Array(0);
let run = 0;
let opened = 0;

/** Lets messages in. */
const pause = () =>
  new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve(undefined);
    };
    port2.postMessage(0);
  });

/** Numbers from 0 to 1 that depend on a seed alone (mulberry32). @param {number} seed */
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** @param {ArrayBuffer} pcx */
async function take(pcx) {
  const codec = await loading;
  run++;
  const { header, tags, damages, links: found } = codec.read(pcx);
  const { rows, columnSamples } = codec;
  let [position, column] = [0, 0];
  links = found.map(({ samples, pieces }) => {
    const columns = pieces.reduce((sum, piece) => sum + piece.columns, 0);
    const grid = new Uint16Array(columns * rows);
    const lost = new Uint8Array(columns).fill(1);
    for (const { firstColumn, columns, indices } of pieces) {
      if (!indices) continue;
      grid.set(indices, firstColumn * rows);
      lost.fill(0, firstColumn, firstColumn + columns);
    }
    const link = { grid, lost, samples, position, column, kept: [] };
    position += samples;
    column += columns;
    return link;
  });
  decoded = new Float32Array(position);
  const grid = new Uint16Array(column * rows);
  const starts = new Float32Array(column); // of columns, in samples
  for (const link of links) {
    grid.set(link.grid, link.column * rows);
    link.lost.forEach((_, i) => (starts[link.column + i] = link.position + i * columnSamples));
  }
  const { bitRate } = header;
  const title = typeof tags.title === "string" ? tags.title : undefined;
  return { samples: position, columns: column, grid, starts, title, damages, bitRate };
}

const actions = {
  async load() {
    const codec = await loading;
    await Promise.all([codec._graph("encoder"), codec._graph("decoder")]);
    const response = await fetch("graphs/patches.f32");
    const patches = new Float32Array(await response.arrayBuffer());
    const sorted = patches.slice().sort();
    const [low, high] = [0.002, 0.998].map((share) => sorted[Math.floor(share * sorted.length)]);
    const levels = Uint8Array.from(patches, (nepers) => level(nepers, low, high));
    const { rows, melRows, columnSamples, rate, bits } = codec;
    return { rows, melRows, columnSamples, rate, bits, patches: levels };
  },

  /** Runs what browsers compile better once they have seen it run. */
  async warmUp() {
    const codec = await loading;
    await codec.decode(await codec.encode(new Float32Array(codec.rate)));
  },

  /** @param {{samples: Float32Array, rate: number}} sound */
  async encode({ samples, rate }) {
    const own = ++opened;
    const check = () => {
      if (own !== opened) throw new PcodecError("something else was opened meanwhile");
    };
    const codec = await loading;
    run++; // what is decoded still is of no use
    const began = performance.now();
    const pcx = await codec.encode(samples, rate, undefined, async (share) => {
      self.postMessage({ event: "progress", share });
      await pause();
      check();
    });
    const seconds = (performance.now() - began) / 1000;
    const original = resample(samples, rate, codec.rate);
    const mel = melLevels(original, 0, Math.ceil(original.length / HOP));
    check();
    return { pcx, original, mel, seconds, ...(await take(pcx)) };
  },

  /** @param {{pcx: ArrayBuffer}} file */
  async open({ pcx }) {
    opened++;
    return { pcx, ...(await take(pcx)) };
  },

  /**
   * Decodes all, with some columns lost, and what is heard next first.
   * @param {{loss: number, seed: number, from: number}} what share of columns; sample
   */
  async decode({ loss, seed, from }) {
    const codec = await loading;
    const own = ++run;
    const draw = random(seed);
    const masks = links.map((link) => link.lost.map((gone) => (draw() < loss || gone ? 1 : 0)));
    const lost = masks.reduce((sum, mask) => sum + mask.reduce((a, b) => a + b, 0), 0);
    const mask = Uint8Array.from(masks.flatMap((part) => [...part]));
    self.postMessage({ event: "mask", mask, lost });
    const apart = Math.max(KEPT_COLUMNS, mask.length / MOST_KEPT);
    let busy = 0; // ms that the codec took

    /** From where to begin in a link, so that its samples from `from` on are right. */
    const entry = (/** @type {Link} */ link) =>
      link.kept.findLast(({ position }) => position <= from) ?? {
        column: 0,
        position: link.position,
        decoder: codec.streamDecoder(),
      };
    let first = Math.max(
      0,
      links.findLastIndex((link) => link.position <= from),
    );
    const begin = links.length ? entry(links[first]) : null;
    /** @type {[number, typeof begin, number][]} link, where it is entered, column where it is left */
    const tour = [];
    for (let i = first; i < links.length; i++) {
      tour.push([i, i === first ? begin : null, links[i].lost.length]);
    }
    for (let i = 0; i <= first && begin; i++) {
      const end = i === first ? begin.column : links[i].lost.length;
      if (end) tour.push([i, null, end]);
    }

    for (const [i, at, end] of tour) {
      const link = links[i];
      const limit = link.position + link.samples;
      let { column, position, decoder } = at
        ? { ...at, decoder: await at.decoder.fork() }
        : { column: 0, position: link.position, decoder: codec.streamDecoder() };
      const put = (/** @type {Float32Array} */ samples) => {
        const kept = samples.slice(0, Math.max(0, limit - position));
        decoded.set(kept, position);
        const frames = Math.ceil(decoded.length / HOP);
        const [frame, last] = framesOf(position, position + kept.length, frames);
        const mel = melLevels(decoded, frame, last);
        self.postMessage({ event: "part", at: position, samples: kept, frame, mel });
        position += samples.length;
      };
      while (column < end) {
        let count = 1;
        const most = Math.min(PART_COLUMNS, end - column);
        while (count < most && masks[i][column + count] === masks[i][column]) count++;
        const { rows } = codec;
        const began = performance.now();
        const samples = await (masks[i][column]
          ? decoder.conceal(count)
          : decoder.push(link.grid.subarray(column * rows, (column + count) * rows)));
        busy += performance.now() - began;
        put(samples);
        column += count;
        const latest = link.kept.at(-1)?.column ?? 0;
        if (!loss && column >= latest + apart) {
          link.kept.push({ column, position, decoder: await decoder.fork() });
        }
        await pause();
        if (own !== run) return { complete: false };
      }
      if (end === link.lost.length) put(await decoder.finish());
    }
    return { complete: true, seconds: busy / 1000 };
  },
};

self.onmessage = async ({ data: { id, do: action, ...rest } }) => {
  try {
    self.postMessage({
      id,
      result: await actions[/** @type {keyof typeof actions} */ (action)](
        /** @type {any} */ (rest),
      ),
    });
  } catch (error) {
    const known = error instanceof PcodecError;
    if (!known) console.error(error);
    self.postMessage({ id, error: known ? error.message : `something went wrong: ${error}` });
  }
};
