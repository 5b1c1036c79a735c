/** The player for AudioWorklets, as an audio thread runs it: prints what it plays. */

const { port1: own, port2: outside } = new MessageChannel();
globalThis.sampleRate = 16000;
globalThis.AudioWorkletProcessor = class {
  port = own;
};
let player;
globalThis.registerProcessor = (name, Processor) => {
  if (name === "pcodec-player") player = new Processor({ processorOptions: { delay: 0.016 } });
};
await import("../../web/src/player.js");

const told = [];
outside.onmessage = ({ data }) => told.push(data);
const block = () => {
  const channels = [new Float32Array(128), new Float32Array(128)];
  player.process([], [channels]);
  if (channels[0].some((x, i) => x !== channels[1][i])) throw new Error("channels differ");
  return [...channels[0]];
};
const count = (from, to) => Float32Array.from({ length: to - from }, (_, i) => from + i);
const turn = () => new Promise((resolve) => setTimeout(resolve, 20));

// A worker's end of a channel.
const { port1, port2: worker } = new MessageChannel();
outside.postMessage({ port: port1 }, [port1]);
await turn();
const played = [block()];
worker.postMessage(count(1, 200));
await turn();
played.push(block()); // not yet enough
worker.postMessage(count(200, 301));
await turn();
played.push(block(), block(), block(), block());
worker.postMessage(count(301, 601));
await turn();
played.push(block(), block(), block()); // dry again
worker.postMessage(count(601, 651));
await turn();
played.push(block()); // too little
worker.postMessage({ end: true });
await turn();
played.push(block());
await turn();
process.stdout.write(JSON.stringify({ played: played.flat(), told }));
process.exit();
