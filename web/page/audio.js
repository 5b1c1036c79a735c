/** Files and the microphone as mono samples; samples as WAV files. */

/**
 * The sample rate that a WAV or FLAC file states; null for others.
 * @param {ArrayBuffer} buffer
 */
export function statedRate(buffer) {
  const bytes = new Uint8Array(buffer);
  const text = (/** @type {number} */ at) => String.fromCharCode(...bytes.subarray(at, at + 4));
  const raw = new DataView(buffer);
  if (bytes.length > 42 && text(0) === "fLaC") return raw.getUint32(18) >>> 12 || null;
  if (bytes.length > 44 && text(0) === "RIFF" && text(8) === "WAVE") {
    for (let at = 12; at + 16 < bytes.length; at += 8 + raw.getUint32(at + 4, true)) {
      if (text(at) === "fmt ") return raw.getUint32(at + 12, true) || null;
    }
  }
  return null;
}

/**
 * Samples of 16 bits as what they are over 32768, which browsers are free to scale otherwise:
 * Chromium divides those above 0 by 32767. Others stay.
 * @param {Float32Array} samples
 */
function exact(samples) {
  for (const scale of [32768, 32767]) {
    const off = (/** @type {number} */ x) => Math.abs(x * scale - Math.round(x * scale));
    if (samples.every((x) => off(x > 0 ? x : (x * 32768) / scale) < 0.01)) {
      return samples.map((x) => Math.round(x * (x > 0 ? scale : 32768)) / 32768);
    }
  }
  return samples;
}

/**
 * A sound file -> mono samples at its own rate, where it states that as WAV and FLAC do.
 * @param {ArrayBuffer} buffer
 */
export async function readSound(buffer) {
  const rate = statedRate(buffer) ?? 48000;
  // At its own rate nothing is resampled by the browser.
  const sound = await new OfflineAudioContext(1, 1, rate).decodeAudioData(buffer);
  const channels = Array.from({ length: sound.numberOfChannels }, (_, i) =>
    exact(sound.getChannelData(i)),
  );
  if (channels.length === 1) return { samples: channels[0], rate };
  const samples = channels[0].map(
    (_, i) => channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length,
  );
  return { samples, rate };
}

/** A recording from the microphone, until `stop`. */
export class Recording {
  /** @param {(level: number, seconds: number) => void} heard is called ten times per second */
  static async start(heard) {
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false },
    });
    try {
      const context = new AudioContext();
      await context.audioWorklet.addModule("worklets.js");
      return new Recording(stream, context, heard);
    } catch (error) {
      for (const track of stream.getTracks()) track.stop();
      throw error;
    }
  }

  /**
   * @param {MediaStream} stream
   * @param {AudioContext} context
   * @param {(level: number, seconds: number) => void} heard
   */
  constructor(stream, context, heard) {
    this._stream = stream;
    this._context = context;
    /** @type {Float32Array[]} */
    this._parts = [];
    let [count, told, peak] = [0, 0, 0];
    const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => {
      this._parts.push(data);
      count += data.length;
      for (const x of data) peak = Math.max(peak, Math.abs(x));
      if (count < told + context.sampleRate / 10) return;
      heard(peak, count / context.sampleRate);
      [told, peak] = [count, 0];
    };
    context.createMediaStreamSource(stream).connect(node);
  }

  async stop() {
    for (const track of this._stream.getTracks()) track.stop();
    const rate = this._context.sampleRate;
    await this._context.close();
    const samples = new Float32Array(this._parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of this._parts) {
      samples.set(part, at);
      at += part.length;
    }
    return { samples, rate };
  }
}

/**
 * Samples as a WAV file of 16 bits.
 * @param {Float32Array} samples
 * @param {number} rate
 */
export function wav(samples, rate) {
  const out = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (/** @type {number} */ at, /** @type {string} */ s) =>
    [...s].forEach((c, i) => out.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  out.setUint32(4, out.byteLength - 8, true);
  text(8, "WAVEfmt ");
  out.setUint32(16, 16, true);
  out.setUint16(20, 1, true);
  out.setUint16(22, 1, true);
  out.setUint32(24, rate, true);
  out.setUint32(28, 2 * rate, true);
  out.setUint16(32, 2, true);
  out.setUint16(34, 16, true);
  text(36, "data");
  out.setUint32(40, 2 * samples.length, true);
  samples.forEach((x, i) =>
    out.setInt16(44 + 2 * i, Math.min(Math.max(Math.round(x * 32768), -32768), 32767), true),
  );
  return out.buffer;
}
