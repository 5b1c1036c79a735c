/**
 * An AudioWorklet that plays a live stream: `audioWorklet.addModule` of this file, then
 * `new AudioWorkletNode(context, "pcodec-player", { processorOptions: { delay: 0.1 } })`.
 *
 * Its port takes samples (Float32Array) at the context's rate, or {port}, another MessagePort to take
 * them from, such as one whose other end a worker holds. It begins when `delay` seconds are there,
 * and again so after it ran dry; it says {dry: times} on its own port then. {end: true} after the
 * last samples plays what is left.
 */

class PcodecPlayer extends AudioWorkletProcessor {
  constructor({ processorOptions: { delay = 0.1 } = {} } = {}) {
    super();
    this._parts = [];
    this._waiting = 0; // samples
    this._used = 0; // of the first part
    this._delay = delay * sampleRate;
    this._playing = false;
    this._ended = false;
    this._dry = 0;
    const take = ({ data }) => {
      if (data.port) {
        data.port.onmessage = take;
      } else if (data.end) {
        this._ended = true;
      } else if (data.length) {
        this._ended = false;
        this._parts.push(data);
        this._waiting += data.length;
      }
    };
    this.port.onmessage = take;
  }

  process(_, [channels]) {
    this._playing ||= this._waiting > 0 && (this._ended || this._waiting >= this._delay);
    const [out] = channels;
    let at = 0;
    while (this._playing && at < out.length && this._parts.length) {
      const [part] = this._parts;
      const count = Math.min(out.length - at, part.length - this._used);
      out.set(part.subarray(this._used, this._used + count), at);
      at += count;
      this._used += count;
      this._waiting -= count;
      if (this._used === part.length) {
        this._parts.shift();
        this._used = 0;
      }
    }
    if (this._playing && at < out.length) {
      this._playing = false;
      if (!this._ended) this.port.postMessage({ dry: ++this._dry });
    }
    for (const channel of channels.slice(1)) channel.set(out);
    return true;
  }
}

registerProcessor("pcodec-player", PcodecPlayer);
