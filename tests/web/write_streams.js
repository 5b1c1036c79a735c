/** Streams as the JavaScript writer writes them: node write_streams.js COLUMNS... */

import { Header } from "../../web/src/pcx/layout.js";
import { Writer } from "../../web/src/pcx/writer.js";

const written = process.argv
  .slice(2)
  .map(Number)
  .map((columns) => {
    const samples = columns * 512 - 7;
    const header = new Header({
      sourceRate: 44100,
      bitstreamId: Uint8Array.from({ length: 16 }, (_, i) => i),
      sampleRate: 16000,
      hop: 128,
      melBands: 80,
      patchBands: 4,
      patchFrames: 4,
      phaseRows: 4,
      bits: 10,
      samples,
      blockColumns: 32,
      serial: 3,
      entropyId: null,
    });
    const writer = new Writer(header);
    writer.tag({ title: "Grüße" });
    const indices = Uint16Array.from({ length: columns * 24 }, (_, i) => (i * 101) % 1024);
    for (let at = 0; at < indices.length; at += 24 * 5)
      writer.write(indices.subarray(at, at + 24 * 5));
    writer.finish(samples, { source_frames: columns * 1411 });
    return Buffer.from(writer.take()).toString("base64");
  });
process.stdout.write(JSON.stringify(written));
