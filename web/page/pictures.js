/** Pictures of the mel spectrogram and of the grid of indices. */

import { BANDS } from "./mel.js";

/** From silence to loud, in the page's colours. */
const RAMPS = {
  light: ["fbfaf6", "d6e0ec", "8fb1da", "3f74b8", "1d4482", "0d1f45", "05091c"],
  dark: ["181b1f", "1c2c45", "274f86", "4584cc", "8fb8ee", "d6e4f5", "fffdf6"],
};
/** From index 0 to the last one; no order is meant. */
const NUMBERS = {
  light: ["eef3e4", "bcd8bb", "7fb49a", "43876f", "1c5547"],
  dark: ["1b2a26", "24514a", "3d8271", "7cb99d", "d3ecd2"],
};
const LOST = { light: "c8501e", dark: "f0976b" };

/** @param {string} colour */
const rgb = (colour) => [0, 2, 4].map((at) => parseInt(colour.slice(at, at + 2), 16));

/** @param {string[]} stops */
function ramp(stops) {
  return Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    const [a, b] = [rgb(stops[low]), rgb(stops[low + 1])];
    return a.map((value, c) => Math.round(value + (b[c] - value) * (at - low)));
  });
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const theme = () => (dark.matches ? "dark" : "light");

/** Calls when the colours change. @param {() => void} redraw */
export const onTheme = (redraw) => dark.addEventListener("change", redraw);

/**
 * Fits a canvas to its place on the screen.
 * @param {HTMLCanvasElement} canvas
 */
function fitted(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  canvas.width = Math.max(1, Math.round(width * devicePixelRatio));
  canvas.height = Math.max(1, Math.round(height * devicePixelRatio));
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
}

/**
 * Draws rows of colours, as many pixels wide as the canvas, stretched to its height.
 * @param {CanvasRenderingContext2D} context
 * @param {number} rows
 * @param {(x: number) => number} columnAt of a share of the width, 0 to 1: a column
 * @param {(column: number, row: number) => number[]} colour row 0 is the lowest
 * @param {boolean} smooth
 */
function draw(context, rows, columnAt, colour, smooth) {
  const { width, height } = context.canvas;
  const image = new ImageData(width, rows);
  for (let x = 0; x < width; x++) {
    const column = columnAt((x + 0.5) / width);
    for (let row = 0; row < rows; row++) {
      const [r, g, b] = colour(column, row);
      const at = ((rows - 1 - row) * width + x) * 4;
      image.data[at] = r;
      image.data[at + 1] = g;
      image.data[at + 2] = b;
      image.data[at + 3] = 255;
    }
  }
  const small = new OffscreenCanvas(width, rows);
  /** @type {OffscreenCanvasRenderingContext2D} */ (small.getContext("2d")).putImageData(
    image,
    0,
    0,
  );
  context.imageSmoothingEnabled = smooth;
  context.drawImage(small, 0, 0, width, height);
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Uint8Array} levels frame by frame
 */
export function drawMel(canvas, levels) {
  const colours = ramp(RAMPS[theme()]);
  const frames = levels.length / BANDS;
  const at = (/** @type {number} */ x) => Math.min(Math.floor(x * frames), frames - 1);
  draw(
    fitted(canvas),
    BANDS,
    at,
    (frame, band) => colours[levels[frame * BANDS + band] ?? 0],
    true,
  );
}

/**
 * The grid's mel rows as the patches that its indices stand for, its phase rows by number.
 * @param {HTMLCanvasElement} mel
 * @param {HTMLCanvasElement} phases
 * @param {{grid: Uint16Array, mask: Uint8Array, rows: number, melRows: number, bits: number,
 *   patches: Uint8Array, placeAt: (x: number) => number}} what placeAt: a share of the width -> columns
 */
export function drawGrid(mel, phases, { grid, mask, rows, melRows, bits, patches, placeAt }) {
  const colours = ramp(RAMPS[theme()]);
  const numbers = ramp(NUMBERS[theme()]);
  const lost = rgb(LOST[theme()]);
  const bands = BANDS / melRows;
  const frames = patches.length / 2 ** bits / bands;
  const columns = mask.length;
  const shown = (/** @type {number} */ place) => Math.min(Math.floor(place), columns - 1);
  const [upper, lower] = [fitted(mel), fitted(phases)];
  if (!columns) return;
  // A column of the picture is a frame of a patch.
  draw(
    upper,
    BANDS,
    (x) => Math.floor(Math.min(placeAt(x), columns - 1e-6) * frames),
    (at, band) => {
      const column = Math.floor(at / frames);
      if (mask[column]) return lost;
      const index = grid[column * rows + Math.floor(band / bands)];
      return colours[patches[(index * bands + (band % bands)) * frames + (at % frames)]];
    },
    false,
  );
  draw(
    lower,
    rows - melRows,
    (x) => shown(placeAt(x)),
    (column, row) =>
      mask[column] ? lost : numbers[(grid[column * rows + melRows + row] * 255) >> bits],
    false,
  );
  lines(upper, melRows, placeAt);
  lines(lower, rows - melRows, placeAt);
}

/**
 * Thin lines between the cells, where these are large enough for them.
 * @param {CanvasRenderingContext2D} context
 * @param {number} rows
 * @param {(x: number) => number} placeAt
 */
function lines(context, rows, placeAt) {
  const { width, height } = context.canvas;
  context.fillStyle = theme() === "dark" ? "rgb(0 0 0 / 0.35)" : "rgb(255 255 255 / 0.4)";
  for (let row = 1; row < rows; row++)
    context.fillRect(0, Math.round((row * height) / rows), width, 1);
  if (width / (placeAt(1) || 1) < 5 * devicePixelRatio) return;
  for (let x = 1; x < width; x++) {
    if (Math.floor(placeAt(x / width)) !== Math.floor(placeAt((x - 1) / width)))
      context.fillRect(x, 0, 1, height);
  }
}
