/** What the JavaScript reader says of streams: node read_streams.js STREAMS.json [ENTROPY.safetensors] */

import { readFileSync } from "node:fs";

import { Chain } from "../../web/src/pcx/chain.js";
import { crc32 } from "../../web/src/pcx/bytes.js";
import { EntropyModel, readSafetensors } from "../../web/src/pcx/entropy.js";
import { ModelMismatchError } from "../../web/src/errors.js";

const [streams, numbers] = process.argv.slice(2);
const bytes = (path) => Uint8Array.from(readFileSync(path)).buffer;
const wanted = JSON.parse(readFileSync(streams, "utf8"));

function entropy({ rows, melRows, bits, entropyId }) {
  if (!numbers || Buffer.from(entropyId).toString("hex") !== wanted.entropy_id) {
    throw new ModelMismatchError("another entropy model");
  }
  return new EntropyModel(readSafetensors(bytes(numbers)), { rows, melRows, bits });
}

function read(data, size) {
  const chain = new Chain(entropy);
  const pieces = [];
  try {
    for (let at = 0; at < data.length; at += size)
      pieces.push(...chain.feed(data.subarray(at, at + size)));
    pieces.push(...chain.close());
  } catch (error) {
    return { error: `${error.name}: ${error.message}` };
  }
  const links = new Map();
  for (const [parser, found] of pieces) links.set(parser, [...(links.get(parser) ?? []), ...found]);
  return {
    links: [...links].map(([{ header, samples, tags }, found]) => ({
      samples,
      tags,
      source_rate: header.sourceRate,
      bitstream_id: Buffer.from(header.bitstreamId).toString("hex"),
      pieces: found.map(({ firstColumn, columns, indices }) => [
        firstColumn,
        columns,
        indices && crc32(new Uint8Array(indices.slice().buffer)),
      ]),
    })),
    faults: chain.faults.map(({ start, end, reason }) => [start, end, reason]),
  };
}

const results = wanted.streams.map(([data, size]) =>
  read(Uint8Array.from(Buffer.from(data, "base64")), size),
);
process.stdout.write(JSON.stringify(results));
