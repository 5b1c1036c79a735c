/** The page: what is pressed, dropped and shown. The codec runs in worker.js. */

import { Recording, readSound, wav } from "./audio.js";
import { BANDS, HOP } from "./mel.js";
import { drawGrid, drawMel, onTheme } from "./pictures.js";
import { Player } from "./player.js";

const LONGEST_RECORDING = 60; // seconds

const $ = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
const radios = [...document.querySelectorAll('input[name="heard"]')].map(
  (x) => /** @type {HTMLInputElement} */ (x),
);

/** @type {any} what the codec says of itself, and its patches */
let codec;
/** @type {any} what is open: `pcx`, `grid`, `mels` of both tracks, ... */
let open = null;
/** @type {Promise<Recording> | null} */
let recording = null;
let seed = 1;
let opening = 0;
let decodings = 0;

// ---- the worker

/** @type {Worker} */
let worker;
/** @type {Map<number, {resolve: (value: any) => void, reject: (error: Error) => void}>} */
const waiting = new Map();

/** @param {string} action @param {object} [what] @param {Transferable[]} [transfer] @returns {Promise<any>} */
function ask(action, what = {}, transfer = []) {
  const id = ask.count++;
  worker.postMessage({ id, do: action, ...what }, transfer);
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}
ask.count = 0;

/** @type {Record<string, (data: any) => void>} */
const events = {
  progress({ share }) {
    $("progress").value = share;
  },
  mask({ mask, lost }) {
    open.mask = mask;
    const percent = $("loss").valueAsNumber;
    const count = lost ? `${lost} of ${mask.length} columns` : "none";
    $("lost").textContent = percent ? `${percent} %: ${count}` : count;
    redraw();
  },
  part({ at, samples, frame, mel }) {
    if (!open) return;
    player.put(1, at, samples);
    open.mels[1].set(mel, frame * BANDS);
    open.done = Math.max(open.done, at + samples.length);
    $("progress").value = open.done / open.samples || 0;
    redraw();
  },
};

function startWorker() {
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data }) => {
    if (data.event) {
      events[data.event](data);
      return;
    }
    const { resolve, reject } = /** @type {any} */ (waiting.get(data.id));
    waiting.delete(data.id);
    if (data.error === undefined) resolve(data.result);
    else reject(new Error(data.error));
  };
  worker.onerror = (event) => say(`The codec cannot run here: ${event.message}`, true);
}

// ---- what is said

/** @param {string} text */
function say(text, trouble = false) {
  $("status").textContent = text;
  $("status").classList.toggle("trouble", trouble);
}

/** @param {boolean} busy */
function setBusy(busy) {
  $("progress").hidden = !busy;
  $("progress").value = 0;
  for (const id of ["open", "example"]) $(id).disabled = busy || !codec;
  $("record").disabled = (busy || !codec) && !recording;
}

const seconds = (/** @type {number} */ s) => `${s < 9.95 ? s.toFixed(1) : Math.round(s)} s`;
const bytes = (/** @type {number} */ n) =>
  n < 1e6 ? `${(n / 1e3).toFixed(1)} kB` : `${(n / 1e6).toFixed(1)} MB`;
const ratio = (/** @type {number} */ n) => (n < 10 ? n.toFixed(1) : n.toFixed(0));
const kbits = (/** @type {number} */ n) => `${(n / 1000).toFixed(2)} kbit/s`;
const clock = (/** @type {number} */ s) =>
  `${Math.floor(s / 60)}:${(s % 60).toFixed(1).padStart(4, "0")}`;

/** @param {[string, string][]} facts */
function showFacts(facts) {
  $("facts").replaceChildren(
    ...facts.map(([name, value]) => {
      const [row, dt, dd] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
      dt.textContent = name;
      dd.textContent = value;
      row.append(dt, dd);
      return row;
    }),
  );
}

// ---- opening

/**
 * Shows what a job makes of a sound or a stream, and decodes it.
 * @param {string} name
 * @param {() => Promise<any>} job
 */
async function show(name, job) {
  const own = ++opening;
  player.pause();
  setBusy(true);
  try {
    const found = await job();
    if (own !== opening) return;
    const frames = Math.ceil(found.samples / HOP);
    open = { ...found, name, done: 0, complete: false, mask: new Uint8Array(found.columns) };
    open.mels = [found.mel ?? new Uint8Array(frames * BANDS), new Uint8Array(frames * BANDS)];
    player.reset(found.samples);
    if (found.original) player.put(0, 0, found.original);
    radios[0].disabled = !found.original;
    if (!found.original) radios[1].checked = true;
    $("loss").value = 0;
    $("shake").disabled = true;
    hear();
    describe();
    $("result").hidden = false;
    moved(0, true);
    const decoding = await decode(0, 0);
    if (own !== opening) return;
    // Not complete if packets were lost meanwhile: then that goes on.
    if (decoding.complete) describe(decoding.seconds, found.seconds);
    const damages = found.damages.length;
    say(
      damages ? "Decoded. The file is damaged; what is lost is concealed." : "Decoded.",
      damages > 0,
    );
  } catch (error) {
    if (own === opening) say(`${name}: ${/** @type {Error} */ (error).message}`, true);
  } finally {
    if (own === opening) setBusy(false);
  }
}

/**
 * Decodes what is open anew, what is heard next first.
 * @param {number} loss share of columns
 * @param {number} from sample
 */
async function decode(loss, from) {
  const [own, what] = [++decodings, open];
  setComplete(false);
  const found = await ask("decode", { loss, seed, from });
  if (own === decodings && what === open && found.complete) setComplete(true);
  return found;
}

/** @param {boolean} complete whether all of what is open is decoded */
function setComplete(complete) {
  open.complete = complete;
  $("save-wav").disabled = player.heard === 1 && !complete;
}

/** @param {number} [decoding] seconds that it took @param {number} [encoding] the same */
function describe(decoding, encoding) {
  const length = open.samples / codec.rate;
  const speed = (/** @type {number} */ took) => ratio(length / took);
  $("name").textContent = open.title ?? open.name;
  const size = open.pcx.byteLength;
  /** @type {[string, string][]} */
  const facts = [
    ["Length", seconds(length)],
    ["Grid", `${open.columns} × ${codec.rows} indices`],
    ["Bare indices", kbits(open.bitRate)],
    ["File", length ? `${bytes(size)}, ${kbits((size * 8) / length)}` : bytes(size)],
  ];
  if (open.original) facts.push(["As WAV", bytes(2 * open.samples)]);
  if (encoding && decoding) {
    facts.push(["Coding and decoding", `${speed(encoding)} and ${speed(decoding)} × real time`]);
  } else if (decoding) {
    facts.push(["Decoding", `${speed(decoding)} × real time`]);
  }
  showFacts(facts);
  $("damages").hidden = !open.damages.length;
  $("damages").replaceChildren(
    ...open.damages.slice(0, 20).map((/** @type {any} */ { start, end, reason }) => {
      const item = document.createElement("li");
      const where =
        end > start ? `${start.toFixed(2)} to ${end.toFixed(2)} s lost` : `${start.toFixed(2)} s`;
      item.textContent = `${where}: ${reason}`;
      return item;
    }),
  );
  $("mel").setAttribute("aria-label", `Mel spectrogram, ${seconds(length)}`);
  const grid = `Grid of ${open.columns} columns`;
  $("grid").setAttribute(
    "aria-label",
    `${grid}, ${codec.melRows} mel rows, each cell drawn as its patch`,
  );
  $("phases").setAttribute(
    "aria-label",
    `${grid}, ${codec.rows - codec.melRows} phase rows, coloured by index`,
  );
}

/** @param {File} file */
function openFile(file) {
  return show(file.name, async () => {
    const buffer = await file.arrayBuffer();
    if (/\.pcx$/i.test(file.name) || new Uint8Array(buffer)[0] === 0x89) {
      say(`Opening ${file.name} …`);
      return ask("open", { pcx: buffer });
    }
    return encode(file.name, () => readSound(buffer));
  });
}

/** @param {string} name @param {() => Promise<{samples: Float32Array, rate: number}>} read */
async function encode(name, read) {
  say(`Coding ${name} …`);
  let sound;
  try {
    sound = await read();
  } catch {
    throw new Error("this browser cannot read it as sound");
  }
  if (!sound.samples.length) throw new Error("there is no sound in it");
  return ask("encode", sound);
}

$("open").onclick = () => $("file").click();
$("file").onchange = () => {
  const [file] = $("file").files;
  $("file").value = "";
  if (file) openFile(file);
};
$("example").onclick = async () => {
  const response = await fetch("example.flac");
  openFile(new File([await response.blob()], "Example"));
};

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("source").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("source").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("source").classList.remove("over");
  const file = event.dataTransfer?.files[0];
  if (file && !$("open").disabled) openFile(file);
});

$("record").onclick = async () => {
  if (recording) {
    const stopping = recording;
    recording = null;
    showRecording(false);
    await show("Recording", async () => {
      const sound = await (await stopping).stop();
      return encode("the recording", async () => sound);
    });
    return;
  }
  player.pause();
  showRecording(true);
  const own = Recording.start((level, s) => {
    if (recording !== own) return; // the last ones come after the end
    $("level").value = level;
    $("recorded").textContent = clock(s);
    if (s >= LONGEST_RECORDING) $("record").click();
  });
  recording = own;
  try {
    await own;
    if (recording === own) say("Recording …");
  } catch (error) {
    if (recording !== own) return; // `show` says so
    recording = null;
    showRecording(false);
    say(`The microphone cannot be used: ${/** @type {Error} */ (error).message}`, true);
  }
};

/** @param {boolean} running */
function showRecording(running) {
  $("record").textContent = running ? "Stop" : "Record";
  $("record").classList.toggle("running", running);
  $("recorded").textContent = "";
  for (const id of ["level", "recorded"]) $(id).hidden = !running;
}

// ---- listening

/** @param {number} position in samples */
function moved(position, ended = false) {
  const length = open?.samples || 1;
  for (const plot of document.querySelectorAll(".plot")) {
    /** @type {HTMLElement} */ (plot).style.setProperty("--at", String(position / length));
  }
  if (ended || document.activeElement !== $("seek") || player.playing)
    $("seek").value = position / codec.rate;
  $("seek").max = length / codec.rate;
  $("seek").setAttribute(
    "aria-valuetext",
    `${(position / codec.rate).toFixed(1)} of ${seconds(length / codec.rate)}`,
  );
  $("clock").textContent = `${clock(position / codec.rate)} / ${clock(length / codec.rate)}`;
  $("play").textContent = player.playing ? "Pause" : "Play";
}

const player = new Player(16000, moved);

function togglePlay() {
  if (!open) return;
  if (player.playing) player.pause();
  else player.play();
  moved(player.position);
}

function hear() {
  player.heard = radios[0].checked ? 0 : 1;
  $("shown").textContent = radios[0].checked ? "original" : "decoded";
  setComplete(open.complete);
  redraw();
}

/** @param {number} sample */
function seek(sample) {
  player.position = Math.min(Math.max(Math.round(sample), 0), Math.max(0, open.samples - 1));
  moved(player.position);
}

$("play").onclick = togglePlay;
for (const radio of radios) radio.onchange = hear;
$("seek").oninput = () => seek($("seek").valueAsNumber * codec.rate);

document.addEventListener("keydown", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
  if (!open || !plain) return;
  if (event.key === " " && !(/** @type {any} */ (target).closest("button, input[type=radio]"))) {
    event.preventDefault();
    togglePlay();
  }
  const radio = radios[["1", "2"].indexOf(event.key)];
  if (radio && !radio.disabled) {
    radio.checked = true;
    hear();
  }
});

// ---- lost packets

function lose() {
  const loss = $("loss").valueAsNumber / 100;
  $("shake").disabled = !loss;
  radios[1].checked = true;
  hear();
  decode(loss, player.playing ? player.position : 0).catch((error) => say(error.message, true));
}

$("loss").oninput = () => {
  $("loss").setAttribute("aria-valuetext", `${$("loss").value} %`);
  $("lost").textContent = `${$("loss").value} %`;
  lose();
};
$("shake").onclick = () => {
  seed++;
  lose();
};

// ---- saving

/** @param {ArrayBuffer} content @param {string} type @param {string} ending */
function save(content, type, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = `${open.name.replace(/\.[^.]*$/, "")}${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

$("save").onclick = () => save(open.pcx, "application/octet-stream", ".pcx");
$("save-wav").onclick = () => {
  const ending = player.heard ? ".decoded.wav" : ".wav";
  save(wav(player.tracks[player.heard], codec.rate), "audio/wav", ending);
};

// ---- pictures

let drawing = false;

function redraw() {
  if (drawing || !open) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    if ($("result").hidden || !open) return;
    drawMel($("mel"), open.mels[player.heard]);
    drawGrid($("grid"), $("phases"), { ...open, ...codec, placeAt });
  });
}

/** A share of the pictures' width -> columns from the start. @param {number} x */
function placeAt(x) {
  const sample = x * open.samples;
  // Of a chain, each stream's columns start anew.
  let [low, high] = [0, open.columns];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (open.starts[middle] <= sample) low = middle;
    else high = middle;
  }
  return low + Math.min((sample - open.starts[low]) / codec.columnSamples, 1 - 1e-6);
}

for (const id of ["mel", "grid", "phases"]) {
  const canvas = $(id);
  const share = (/** @type {PointerEvent} */ event) => event.offsetX / canvas.clientWidth;
  canvas.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) =>
    seek(share(event) * open.samples),
  );
  if (id === "mel") continue;
  canvas.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
    if (!open.columns) return;
    const place = placeAt(Math.min(Math.max(share(event), 0), 0.9999));
    const column = Math.floor(place);
    const [first, count] =
      id === "grid" ? [0, codec.melRows] : [codec.melRows, codec.rows - codec.melRows];
    const up = 1 - event.offsetY / canvas.clientHeight;
    const row = first + Math.min(Math.max(Math.floor(up * count), 0), count - 1);
    const what = open.mask[column] ? "lost" : `index ${open.grid[column * codec.rows + row]}`;
    $("cell").textContent = `column ${column}, row ${row}: ${what}`;
  });
  canvas.addEventListener("pointerleave", () => ($("cell").textContent = ""));
}
new ResizeObserver(redraw).observe($("mel"));
onTheme(redraw);

// ---- start

/** Waits for a service worker; rejects if it cannot keep the files. @param {ServiceWorker} worker */
const activated = (worker) =>
  new Promise((resolve, reject) => {
    const look = () => {
      if (worker.state === "activated") resolve(undefined);
      if (worker.state === "redundant") reject(new Error("not every file could be kept"));
    };
    worker.onstatechange = look;
    look();
  });

/** Once all files are kept, what the page asks for comes from there. */
async function keepFiles() {
  if (!navigator.serviceWorker) return false;
  try {
    const { installing, active } = await navigator.serviceWorker.register("sw.js");
    if (!active && installing) await activated(installing);
    if (!navigator.serviceWorker.controller) {
      await new Promise((resolve) => {
        navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true });
        setTimeout(resolve, 1000);
      });
    }
    return true;
  } catch {
    return false; // a private window, or no space: the page works, but needs its server
  }
}

setBusy(true);
const kept = await keepFiles();
startWorker();
try {
  codec = await ask("load");
  say("Ready.");
  ask("warmUp");
  if (kept) $("offline").textContent = "This page also works without a network.";
} catch (error) {
  say(`The codec cannot be loaded: ${/** @type {Error} */ (error).message}`, true);
} finally {
  setBusy(false);
}
