/** Log-mel levels of samples, as the codec's front end sees them, for the pictures. */

export const HOP = 128;
export const BANDS = 80;
const WINDOW = 512;
const N_FFT = 1024;
const RATE = 16000;
/** Levels from the quietest to the loudest that the pictures show, natural logarithms. */
const LOW = -9.5;
const HIGH = 1;

/** A natural log of a mel magnitude -> 0 to 255, from the lowest shown to the highest. */
export const level = (/** @type {number} */ nepers, low = LOW, high = HIGH) =>
  Math.min(Math.max(Math.round(((nepers - low) / (high - low)) * 255), 0), 255);

const HANN = Float64Array.from(
  { length: WINDOW },
  (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / WINDOW),
);
const COS = Float64Array.from({ length: N_FFT / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / N_FFT));
const SIN = Float64Array.from({ length: N_FFT / 2 }, (_, i) => Math.sin((2 * Math.PI * i) / N_FFT));
const REVERSED = Uint16Array.from({ length: N_FFT }, (_, i) => {
  let r = 0;
  for (let bit = 1; bit < N_FFT; bit <<= 1, i >>= 1) r = (r << 1) | (i & 1);
  return r;
});
const FILTERS = filters();

/** Slaney's mel filters of unit area: of each band its first bin and its weights. */
function filters() {
  const step = 27 / Math.log(6.4);
  const top = 15 + Math.log(RATE / 2 / 1000) * step;
  const edge = (/** @type {number} */ i) => {
    const mel = (top * i) / (BANDS + 1);
    return mel < 15 ? (mel * 200) / 3 : 1000 * Math.exp((mel - 15) / step);
  };
  return Array.from({ length: BANDS }, (_, band) => {
    const [low, centre, high] = [edge(band), edge(band + 1), edge(band + 2)];
    const first = Math.ceil((low * N_FFT) / RATE);
    const weights = [];
    for (let bin = first; (bin * RATE) / N_FFT < high; bin++) {
      const hz = (bin * RATE) / N_FFT;
      const slope = Math.min((hz - low) / (centre - low), (high - hz) / (high - centre));
      weights.push((slope * 2) / (high - low));
    }
    return { first, weights };
  });
}

const real = new Float64Array(N_FFT);
const imaginary = new Float64Array(N_FFT);

/** The Fourier transform of `real` and `imaginary`, in place, their input in bit-reversed order. */
function transform() {
  for (let size = 2; size <= N_FFT; size *= 2) {
    const half = size / 2;
    const stride = N_FFT / size;
    for (let start = 0; start < N_FFT; start += size) {
      for (let k = 0; k < half; k++) {
        const a = start + k;
        const b = a + half;
        const c = COS[k * stride];
        const s = SIN[k * stride];
        const x = real[b] * c + imaginary[b] * s;
        const y = imaginary[b] * c - real[b] * s;
        real[b] = real[a] - x;
        imaginary[b] = imaginary[a] - y;
        real[a] += x;
        imaginary[a] += y;
      }
    }
  }
}

/**
 * Levels of frames `from` to `to` of samples: frame by frame, low bands first.
 * @param {Float32Array} samples at 16 kHz
 * @param {number} from
 * @param {number} to
 */
export function melLevels(samples, from, to) {
  const out = new Uint8Array(Math.max(0, to - from) * BANDS);
  for (let frame = from; frame < to; frame++) {
    real.fill(0);
    imaginary.fill(0);
    const start = frame * HOP + HOP / 2 - WINDOW / 2;
    for (let i = 0; i < WINDOW; i++) real[REVERSED[i]] = HANN[i] * (samples[start + i] ?? 0);
    transform();
    FILTERS.forEach(({ first, weights }, band) => {
      let sum = 0;
      for (let i = 0; i < weights.length; i++) {
        const bin = first + i;
        sum += weights[i] * Math.sqrt(real[bin] ** 2 + imaginary[bin] ** 2);
      }
      out[(frame - from) * BANDS + band] = level(Math.log(Math.max(sum, 1e-5)));
    });
  }
  return out;
}

/**
 * The frames whose picture depends on samples from `at` to `end`.
 * @param {number} at
 * @param {number} end
 * @param {number} count of all frames
 * @returns {[number, number]}
 */
export const framesOf = (at, end, count) => [
  Math.max(0, Math.floor((at - WINDOW / 2) / HOP)),
  Math.min(count, Math.ceil((end + WINDOW / 2) / HOP)),
];
