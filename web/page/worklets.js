/** What runs on the audio thread: the player of two tracks, and the recorder. */

const FADE = 80; // samples of a switch, 5 ms at 16 kHz
const REPORT = 4; // blocks between two reports of the position

/**
 * Plays one of two tracks that run in step. Messages: {length} of both, {track, at, samples} what a
 * track holds from a sample on, {playing}, {seek} to a sample, {heard} the track.
 */
class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.tracks = [new Float32Array(0), new Float32Array(0)];
    this.position = 0;
    this.playing = false;
    this.heard = 1;
    this.mix = 1; // 0: the first track, 1: the second
    this.blocks = 0;
    this.port.onmessage = ({ data }) => {
      if ("length" in data) {
        this.tracks = [new Float32Array(data.length), new Float32Array(data.length)];
        this.position = 0;
      }
      if ("track" in data) this.tracks[data.track].set(data.samples, data.at);
      if ("seek" in data) this.position = data.seek;
      if ("playing" in data) this.playing = data.playing;
      if ("heard" in data) this.heard = data.heard;
    };
  }

  process(_, [[out]]) {
    if (!this.playing) return true;
    const [first, second] = this.tracks;
    for (let i = 0; i < out.length && this.position < first.length; i++, this.position++) {
      this.mix += Math.min(Math.max(this.heard - this.mix, -1 / FADE), 1 / FADE);
      out[i] = first[this.position] * (1 - this.mix) + second[this.position] * this.mix;
    }
    const ended = this.position >= first.length;
    if (ended) {
      this.playing = false;
      this.position = 0;
    }
    if (ended || this.blocks++ % REPORT === 0) {
      this.port.postMessage({ position: this.position, ended });
    }
    return true;
  }
}

/** Hands on what the microphone hears, mixed to one channel. */
class Recorder extends AudioWorkletProcessor {
  process([channels]) {
    if (channels.length) {
      const mono = channels[0].map(
        (_, i) => channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length,
      );
      this.port.postMessage(mono, [mono.buffer]);
    }
    return true;
  }
}

registerProcessor("player", Player);
registerProcessor("recorder", Recorder);
