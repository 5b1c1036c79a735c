/**
 * Codes and decodes by the package, for test_coding.py: node code_speech.js GRAPHS WORK, where WORK has
 * speech.f32, speech.pcx, damaged.pcx, compact.pcx, chain.pcx and lost.json, and gets what comes out.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { load } from "../../web/src/index.js";

const [graphs, work] = process.argv.slice(2);
const read = (name) => Uint8Array.from(readFileSync(join(work, name))).buffer;
const write = (name, array) =>
  writeFileSync(
    join(work, name),
    new Uint8Array(array.buffer ?? array, array.byteOffset ?? 0, array.byteLength),
  );

const codec = await load({ graphs: pathToFileURL(`${graphs}/`) });
const speech = new Float32Array(read("speech.f32"));
const said = {};

for (const name of ["speech", "damaged", "compact", "chain"]) {
  const { samples, rate, tags, damages } = await codec.decode(read(`${name}.pcx`));
  write(`${name}.out.f32`, samples);
  said[name] = { rate, tags, damages };
}
write("encoded.pcx", await codec.encode(speech, 16000));
write("empty.pcx", await codec.encode(new Float32Array(0), 16000));
write("short.pcx", await codec.encode(speech.slice(0, 700).fill(NaN, 500), 16000));

// In pieces of any length, as they come from a microphone and from a network.
const encoder = codec.streamEncoder();
const grid = [];
for (let at = 0, size = 100; at < speech.length; at += size, size = (size * 7) % 3001) {
  grid.push(...(await encoder.push(speech.subarray(at, at + size))));
}
grid.push(...(await encoder.finish()));
write("grid.u16", Uint16Array.from(grid));
const lost = JSON.parse(readFileSync(join(work, "lost.json"), "utf8"));
const decoder = codec.streamDecoder();
const parts = [];
const { rows } = codec;
for (let i = 0; i < lost.length; i++) {
  const column = grid.slice(i * rows, (i + 1) * rows);
  parts.push(...(await (lost[i] ? decoder.conceal(1) : decoder.push(column))));
}
parts.push(...(await decoder.finish()));
write("lost.out.f32", Float32Array.from(parts));
said.errors = [];
for (const job of [
  () => decoder.push([1, 2, 3]),
  () => codec.streamDecoder().push(Array(24).fill(1024)),
  () => decoder.push(grid.slice(0, rows)),
  () => codec.decode(new Uint8Array([1, 2, 3]).buffer),
  () => codec.decode(read("other.pcx")),
]) {
  said.errors.push(
    await Promise.resolve()
      .then(job)
      .then(
        () => null,
        (error) => `${error.name}: ${error.message}`,
      ),
  );
}

// Of several runs the quickest, in time of this process.
const seconds = async (job) => {
  let least = Infinity;
  for (let i = 0; i < 3; i++) {
    const before = process.cpuUsage();
    await job();
    const { user, system } = process.cpuUsage(before);
    least = Math.min(least, (user + system) / 1e6);
  }
  return least;
};
said.encode_seconds = await seconds(() => codec.encode(speech, 16000));
said.decode_seconds = await seconds(() => codec.decode(read("speech.pcx")));
process.stdout.write(JSON.stringify(said));
