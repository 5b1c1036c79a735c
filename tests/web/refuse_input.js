/**
 * What the package says of bad input, for test_coding.py: node refuse_input.js GRAPHS WORK, where WORK
 * has speech.f32, speech.pcx and other_hop.pcx, and is free for files.
 */

import { copyFileSync, cpSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { load } from "../../web/src/index.js";

const [graphs, work] = process.argv.slice(2);
const bytes = (name) => Uint8Array.from(readFileSync(join(work, name)));
const codec = await load({ graphs: pathToFileURL(`${graphs}/`) });
const speech = new Float32Array(bytes("speech.f32").buffer).slice(0, 5000);
const said = {};

const error = (job) =>
  Promise.resolve()
    .then(job)
    .then(
      () => null,
      (error) => `${error.name}: ${error.message}`,
    );

said.rates = [];
for (const rate of [1e6, NaN, 44100.5, 0, -8000]) {
  said.rates.push(await error(() => codec.encode(speech, rate)));
}
said.samples = [
  await error(() => codec.encode(Int16Array.of(1, 2), 16000)),
  await error(() => codec.encode([0, 0.5], 16000)),
  await error(() => codec.streamEncoder().push([0, 0.5])),
];
const title = "é".repeat(11000); // 6 bytes each
said.tags = await error(() => codec.encode(speech, 16000, { title }));
said.index = await error(() => codec.streamDecoder().push(Array(24).fill(0.5)));
said.hop = await error(() => codec.decode(bytes("other_hop.pcx")));

// A caller may fill its arrays again as soon as `push` has returned.
const coded = async (stream, array, after) => {
  const own = array.slice();
  const first = stream.push(own);
  after(own);
  return [...(await first), ...(await stream.finish())];
};
const [left, filled] = [() => {}, (array) => array.fill(0)];
const indices = await coded(codec.streamEncoder(), speech, left);
said.arrays = [
  [indices, await coded(codec.streamEncoder(), speech, filled)],
  [
    await coded(codec.streamDecoder(), Uint16Array.from(indices), left),
    await coded(codec.streamDecoder(), Uint16Array.from(indices), filled),
  ],
];

// What could not be read is read again.
const folder = join(work, "moved");
cpSync(graphs, folder, { recursive: true });
const moved = await load({ graphs: pathToFileURL(`${folder}/`) });
renameSync(join(folder, "decoder.onnx"), join(folder, "away"));
said.missing = await error(() => moved.decode(bytes("speech.pcx")));
writeFileSync(join(folder, "decoder.onnx"), "no graph");
said.broken = await error(() => moved.decode(bytes("speech.pcx")));
copyFileSync(join(folder, "away"), join(folder, "decoder.onnx"));
said.again = await error(() => moved.decode(bytes("speech.pcx")));

process.stdout.write(JSON.stringify(said));
