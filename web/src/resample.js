/** Conversion of sample rates by a windowed sinc, offline. */

/** Zero crossings of the sinc on either side. */
const CROSSINGS = 32;
/** Of the Kaiser window: about 100 dB of attenuation. */
const BETA = 10;
/** Cut-off, as a share of the lower of both Nyquist frequencies. */
const CUTOFF = 0.95;

/** The modified Bessel function of order 0. */
function bessel(/** @type {number} */ x) {
  let sum = 1;
  let term = 1;
  for (let k = 1; term > 1e-12 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

/** @param {number} a @param {number} b @returns {number} */
const gcd = (a, b) => (b ? gcd(b, a % b) : a);

/** Number of samples at a new rate that cover `length` samples at `rate`. */
export const resampledLength = (
  /** @type {number} */ length,
  /** @type {number} */ rate,
  /** @type {number} */ newRate,
) => Math.ceil((length * newRate) / rate);

/**
 * Samples at another rate; the same array if the rates are equal.
 * @param {Float32Array} samples
 * @param {number} rate Hz
 * @param {number} newRate Hz
 */
export function resample(samples, rate, newRate) {
  if (rate === newRate) return samples;
  const divisor = gcd(rate, newRate);
  const phases = newRate / divisor;
  const step = rate / divisor;
  const scale = CUTOFF * Math.min(1, newRate / rate);
  const reach = CROSSINGS / scale; // input samples on either side
  const half = Math.ceil(reach);
  /** @type {Map<number, Float64Array>} taps by the fraction of an input sample */
  const kernels = new Map();
  const kernel = (/** @type {number} */ phase) => {
    const known = kernels.get(phase);
    if (known) return known;
    const taps = new Float64Array(2 * half + 1);
    for (let k = -half; k <= half; k++) {
      const x = k - phase / phases;
      const inside = 1 - (x / reach) ** 2;
      if (inside <= 0) continue;
      const sinc = x ? Math.sin(Math.PI * scale * x) / (Math.PI * x) : scale;
      taps[k + half] = (sinc * bessel(BETA * Math.sqrt(inside))) / bessel(BETA);
    }
    if (kernels.size < 4096) kernels.set(phase, taps);
    return taps;
  };
  const out = new Float32Array(resampledLength(samples.length, rate, newRate));
  for (let i = 0; i < out.length; i++) {
    const centre = Math.floor((i * step) / phases);
    const taps = kernel((i * step) % phases);
    const from = Math.max(0, centre - half);
    const to = Math.min(samples.length - 1, centre + half);
    let sum = 0;
    for (let j = from; j <= to; j++) sum += samples[j] * taps[j - centre + half];
    out[i] = sum;
  }
  return out;
}
