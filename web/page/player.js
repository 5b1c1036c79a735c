/** Original and decoded speech in step, and an instant switch between them. */

export class Player {
  /** @param {number} rate Hz of the samples @param {(position: number, ended: boolean) => void} moved */
  constructor(rate, moved) {
    this.rate = rate;
    this.playing = false;
    this._position = 0;
    this._moved = moved;
    this._heard = 1;
    /** @type {Float32Array[]} */
    this.tracks = [new Float32Array(0), new Float32Array(0)];
    /** @type {AudioContext | null} */
    this._context = null;
    /** @type {MessagePort | null} */
    this._port = null;
  }

  /** @param {number} length in samples, of both tracks */
  reset(length) {
    this.pause();
    this.tracks = [new Float32Array(length), new Float32Array(length)];
    this._position = 0;
    this._port?.postMessage({ length });
  }

  /**
   * Sets what a track holds from a sample on.
   * @param {number} track
   * @param {number} at
   * @param {Float32Array} samples
   */
  put(track, at, samples) {
    this.tracks[track].set(samples, at);
    this._port?.postMessage({ track, at, samples });
  }

  get position() {
    return this._position;
  }

  set position(sample) {
    this._position = sample;
    this._port?.postMessage({ seek: sample });
  }

  get heard() {
    return this._heard;
  }

  set heard(track) {
    this._heard = track;
    this._port?.postMessage({ heard: track });
  }

  async play() {
    this.playing = true;
    if (!this._context) await this._open();
    await this._context?.resume();
    this._port?.postMessage({ playing: this.playing });
  }

  pause() {
    this.playing = false;
    this._port?.postMessage({ playing: false });
  }

  /** Browsers let a page make sound only after a click, so this waits for the first one. */
  async _open() {
    // The device's rate is not the codec's: the browser converts, both tracks alike.
    this._context = new AudioContext({ sampleRate: this.rate });
    await this._context.audioWorklet.addModule("worklets.js");
    const node = new AudioWorkletNode(this._context, "player", { outputChannelCount: [1] });
    node.connect(this._context.destination);
    node.port.onmessage = ({ data: { position, ended } }) => {
      if (!this.playing) return;
      this._position = position;
      if (ended) this.playing = false;
      this._moved(position, ended);
    };
    node.port.postMessage({ length: this.tracks[0].length });
    this.tracks.forEach((samples, track) => node.port.postMessage({ track, at: 0, samples }));
    node.port.postMessage({ seek: this._position, heard: this._heard });
    this._port = node.port;
  }
}
