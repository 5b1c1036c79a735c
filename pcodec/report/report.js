"use strict";

const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const data = JSON.parse(find("#data").textContent);
const still = matchMedia("(prefers-reduced-motion: reduce)");

/** An element with properties, attributes (those with a hyphen) and children. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

function save(name, value) {
  const blob = new Blob([JSON.stringify(value, null, 1)], { type: "application/json" });
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// ---- the table

for (const header of all("table.results th[data-better]")) {
  header.setAttribute("aria-sort", "none");
  find("button", header).addEventListener("click", () => {
    const row = header.parentElement;
    const column = [...row.children].indexOf(header);
    const before = header.getAttribute("aria-sort");
    const first = header.dataset.better === "lower" ? "ascending" : "descending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = before === first ? other : first;
    for (const th of row.children) th.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const body = header.closest("table").tBodies[0];
    const value = (tr) => {
      const cell = tr.cells[column];
      return column ? parseFloat(cell.dataset.value) : cell.firstChild.textContent;
    };
    const sorted = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (!column) return sign * x.localeCompare(y, undefined, { numeric: true });
      // What is missing comes last, whichever way.
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return sign * (x - y);
    });
    body.append(...sorted);
  });
}

// ---- sound

const FADE = 0.005; // seconds from one version to the other
let context = null;
const decoded = new Map(); // <audio> -> promise of an AudioBuffer, of one sample at a time

function decode(audio) {
  if (!decoded.has(audio)) {
    const text = atob(audio.src.slice(audio.src.indexOf(",") + 1));
    const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
    decoded.set(audio, context.decodeAudioData(bytes.buffer));
  }
  return decoded.get(audio);
}

/**
 * All versions of a sample, played at once, all but one of them silent: a switch is a change
 * of volumes, and nothing can get out of step.
 */
class Player {
  static last = null; // the one that keys mean when nothing has the focus
  static sounding = null;
  static of = new Map();

  constructor(root, audios, seconds) {
    Object.assign(this, { root, audios, seconds });
    Object.assign(this, { at: 0, heard: 0, playing: false, wanted: false, loop: false });
    this.onselect = () => {};
    Player.of.set(root, this);
    this.button = make("button", { type: "button", className: "play" });
    this.slider = make("input", {
      type: "range", className: "seek", min: 0, max: seconds, step: 0.01, value: 0,
      "aria-label": "Position",
    });
    this.clock = make("span", { className: "clock" });
    this.looping = make("input", { type: "checkbox" });
    this.button.addEventListener("click", () => this.toggle());
    this.slider.addEventListener("input", () => this.seek(this.slider.valueAsNumber));
    this.looping.addEventListener("change", () => this.setLoop(this.looping.checked));
    root.addEventListener("focusin", () => { Player.last = this; });
    const label = make("label", { className: "check" }, this.looping, " loop");
    find(".transport", root).append(this.button, this.slider, this.clock, label);
    find(".transport", root).hidden = false;
    this.radios = all(".choice input", root);
    this.radios.forEach((radio, i) => radio.addEventListener("change", () => this.select(i)));
    this.select(0);
    this.draw();
  }

  /** Seconds from the start. */
  get position() {
    if (!this.playing) return this.at;
    const now = this.at + Math.max(0, context.currentTime - this.since);
    return this.loop ? now % this.seconds : Math.min(now, this.seconds);
  }

  async play() {
    if (Player.sounding !== this) Player.sounding?.pause();
    Player.last = Player.sounding = this;
    this.wanted = true;
    context ??= new AudioContext();
    context.resume();
    for (const other of decoded.keys()) if (!this.audios.includes(other)) decoded.delete(other);
    this.root.setAttribute("aria-busy", "true");
    this.draw();
    try {
      const buffers = await Promise.all(this.audios.map(decode));
      if (this.wanted && !this.playing) this.start(buffers);
    } catch (error) {
      this.wanted = false;
      this.clock.textContent = `cannot be played here (${error.message || error})`;
      throw error;
    } finally {
      this.root.removeAttribute("aria-busy");
    }
    this.draw();
  }

  start(buffers) {
    if (this.at >= this.seconds - 0.01) this.at = 0;
    this.since = context.currentTime + 0.02;
    this.sum = new GainNode(context);
    this.sum.connect(context.destination);
    this.gains = [];
    this.sources = buffers.map((buffer, i) => {
      const source = new AudioBufferSourceNode(context, { buffer, loop: this.loop });
      const gain = new GainNode(context, { gain: Number(i === this.heard) });
      this.gains.push(gain);
      source.connect(gain).connect(this.sum);
      source.start(this.since, this.at);
      return source;
    });
    this.sources[0].onended = () => {
      [this.playing, this.wanted, this.at] = [false, false, 0];
      this.draw();
    };
    this.playing = true;
    const step = () => {
      if (!this.playing) return;
      this.draw();
      if (still.matches) setTimeout(step, 250);
      else requestAnimationFrame(step);
    };
    step();
  }

  pause() {
    this.wanted = false;
    if (this.playing) {
      this.at = this.position;
      this.playing = false;
      this.sources[0].onended = null;
      this.sum.gain.setTargetAtTime(0, context.currentTime, FADE / 3);
      for (const source of this.sources) source.stop(context.currentTime + 2 * FADE);
    }
    this.draw();
  }

  toggle() {
    if (this.wanted) this.pause();
    else this.play();
  }

  seek(seconds) {
    const going = this.wanted;
    this.pause();
    this.at = Math.min(Math.max(0, seconds), this.seconds);
    if (going && this.at < this.seconds) this.play();
    this.draw();
  }

  setLoop(loop) {
    const at = this.position;
    this.loop = this.looping.checked = loop;
    if (this.playing) {
      [this.at, this.since] = [at, context.currentTime];
      for (const source of this.sources) source.loop = loop;
    }
  }

  select(i) {
    if (!(i in this.audios)) return;
    this.heard = i;
    if (this.radios[i]) this.radios[i].checked = true;
    if (this.playing) {
      const now = context.currentTime;
      this.gains.forEach(({ gain }, k) => {
        gain.cancelScheduledValues(now);
        gain.setValueAtTime(gain.value, now);
        gain.linearRampToValueAtTime(Number(k === i), now + FADE);
      });
    }
    for (const figure of all(".track", this.root)) {
      figure.classList.toggle("heard", Number(figure.dataset.track) === i);
    }
    this.onselect(i);
  }

  draw() {
    const at = this.position;
    this.button.textContent = this.wanted ? "Pause" : "Play";
    this.button.dataset.state = this.wanted ? "playing" : "paused";
    this.slider.value = at;
    this.slider.setAttribute("aria-valuetext", `${at.toFixed(1)} of ${this.seconds.toFixed(1)} s`);
    this.clock.textContent = `${at.toFixed(1)} / ${this.seconds.toFixed(1)} s`;
    for (const cursor of all(".cursor", this.root)) {
      cursor.hidden = false;
      cursor.style.left = `${(100 * at) / this.seconds}%`;
    }
  }

  /** Whether a key meant something here. */
  key(event) {
    const on = event.target;
    const slides = on.type === "range";
    const { key } = event;
    if (key === " " && on.type !== "checkbox") this.toggle();
    else if (/^[0-9]$/.test(key)) this.select(Number(key));
    else if (key === "l" || key === "L") this.setLoop(!this.loop);
    else if (key === "ArrowLeft" && !slides) this.seek(this.position - 0.5);
    else if (key === "ArrowRight" && !slides) this.seek(this.position + 0.5);
    else if (key === "ArrowUp" && !slides) this.step(-1);
    else if (key === "ArrowDown" && !slides) this.step(1);
    else return false;
    return true;
  }

  step(by) {
    const count = this.audios.length;
    this.select((this.heard + by + count) % count);
    // A group's focus is where its choice is.
    if (this.radios.includes(document.activeElement)) this.radios[this.heard].focus();
  }

  close() {
    this.pause();
    Player.of.delete(this.root);
    if (Player.last === this) Player.last = null;
  }
}

function playerOf(event) {
  const on = event.target;
  if (event.ctrlKey || event.altKey || event.metaKey || on.type === "text") return null;
  const root = on.closest?.(".player");
  return root ? Player.of.get(root) : on === document.body ? Player.last : null;
}

document.addEventListener("keydown", (event) => {
  if (playerOf(event)?.key(event)) event.preventDefault();
});
// Firefox presses a button when the key comes up.
document.addEventListener("keyup", (event) => {
  if (event.key === " " && event.target.type !== "checkbox" && playerOf(event)) {
    event.preventDefault();
  }
});

// ---- the open part

all(".sample").forEach((root) => {
  const audios = all(".track audio", root);
  const transport = find(".transport", root);
  const player = new Player(root, audios, Number(transport.dataset.seconds));
  for (const audio of audios) audio.removeAttribute("controls");
  find(".choice", root).hidden = false;
  const together = make("input", { type: "checkbox" });
  transport.append(make("label", { className: "check" }, together, " all pictures"));
  const tracks = find(".tracks", root);
  tracks.classList.add("one");
  together.addEventListener("change", () => tracks.classList.toggle("one", !together.checked));
  for (const panel of all(".panel", root)) {
    panel.addEventListener("click", (event) => {
      Player.last = player;
      const { left, width } = panel.getBoundingClientRect();
      player.select(Number(panel.parentElement.dataset.track));
      player.seek(((event.clientX - left) / width) * player.seconds);
    });
  }
});
for (const element of all("#open .actions, #open .keys")) element.hidden = false;
find("#save-results").addEventListener("click", () => save("results.json", data.results));

let closed = [];
addEventListener("beforeprint", () => {
  closed = all("details:not([open])");
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
});

// ---- the blind part

const WORDS = ["bad", "poor", "fair", "good", "excellent"];
const KEY = `pcodec-listening ${data.results.created} ${data.results.data}`;

/** Numbers from 0 to 1 that a seed decides (mulberry32). */
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function shuffled(list, draw) {
  const result = [...list];
  for (let i = result.length - 1; i > 0; i--) {
    const k = Math.floor(draw() * (i + 1));
    [result[i], result[k]] = [result[k], result[i]];
  }
  return result;
}

/** What a sample's letters may hide. */
function conditions(sample) {
  const audios = all(".track audio", find(`#sample-${sample}`));
  return [
    ...data.samples[sample].codecs.map((codec, i) => ({ codec, kind: "codec", audio: audios[i + 1] })),
    { codec: "reference", kind: "hidden reference", audio: audios[0] },
    { codec: "anchor", kind: "3.5 kHz low-pass", audio: find(".anchor", find(`#sample-${sample}`)) },
  ];
}

const blind = { session: null, player: null };

function fresh() {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0];
  return { seed, listener: "", started: new Date().toISOString(), trial: 0, scores: {} };
}

/** The samples in the order of a session, each with its conditions in theirs. */
function trials({ seed }) {
  const order = shuffled(data.samples.keys(), random(seed));
  return order.map((sample) => ({
    sample, hidden: shuffled(conditions(sample), random(seed + 1 + sample)),
  }));
}

function keep() {
  try {
    localStorage.setItem(KEY, JSON.stringify(blind.session));
  } catch { /* a browser may forbid it; then a reload forgets */ }
}

function kept() {
  try {
    const session = JSON.parse(localStorage.getItem(KEY));
    return session && Number.isInteger(session.seed) && session.scores ? session : null;
  } catch {
    return null;
  }
}

const letter = (i) => (i < 26 ? String.fromCharCode(65 + i) : `A${letter(i - 26)}`);
const place = (sample, i) => `${sample}/${i}`;

function progress() {
  const list = trials(blind.session);
  const total = list.reduce((sum, { hidden }) => sum + hidden.length, 0);
  return { total, rated: Object.keys(blind.session.scores).length };
}

function tell() {
  const { total, rated } = progress();
  find("#status").textContent = `${rated} of ${total} rated`;
}

function show() {
  blind.player?.close();
  const { session } = blind;
  const list = trials(session);
  const { sample, hidden } = list[session.trial];
  find("#trial").textContent = `Sample ${session.trial + 1} of ${list.length}`;
  find("#previous").disabled = session.trial === 0;
  find("#next").disabled = session.trial === list.length - 1;

  const names = ["reference", ...hidden.map((_, i) => letter(i))];
  const choice = make("fieldset", { className: "choice" }, make("legend", {}, "Heard"));
  names.forEach((name, i) => {
    const radio = make("input", { type: "radio", name: "blind" });
    const digit = make("kbd", {}, i < 10 ? String(i) : "\u00b7");
    choice.append(make("label", {}, radio, make("span", {}, digit, ` ${name}`)));
  });
  const words = make("p", { className: "words", "aria-hidden": "true" });
  words.append(...WORDS.map((word) => make("span", {}, word)));
  const rows = make("ol", { className: "stimuli" });
  hidden.forEach((_, i) => {
    const known = session.scores[place(sample, i)];
    const value = make("output", {}, known ? String(known.score) : "\u2013");
    const slider = make("input", {
      type: "range", min: 0, max: 100, step: 1, value: known ? known.score : 50,
      "aria-label": `Score of ${letter(i)}`,
    });
    const row = make("li", { className: known ? "rated" : "" });
    const speak = () => {
      const word = WORDS[Math.min(4, Math.floor(slider.valueAsNumber / 20))];
      const said = row.classList.contains("rated") ? `${slider.value}, ${word}` : "not rated";
      slider.setAttribute("aria-valuetext", said);
    };
    const rate = () => {
      const at = new Date().toISOString();
      session.scores[place(sample, i)] = { score: slider.valueAsNumber, at };
      value.textContent = slider.value;
      row.classList.add("rated");
      speak();
      tell();
      keep();
    };
    slider.addEventListener("input", rate);
    slider.addEventListener("click", rate); // where it stands already
    for (const name of ["focus", "pointerdown"]) {
      slider.addEventListener(name, () => blind.player.select(i + 1));
    }
    speak();
    row.append(make("span", { className: "letter" }, letter(i)), slider, value);
    rows.append(row);
  });
  const root = make("div", { className: "player" });
  root.append(make("div", { className: "transport", hidden: true }), choice, words, rows);
  find("#stage").replaceChildren(root);
  const seconds = Number(find(`#sample-${sample} .transport`).dataset.seconds);
  const audios = [find(`#sample-${sample} .track audio`), ...hidden.map(({ audio }) => audio)];
  blind.player = new Player(root, audios, seconds);
  blind.player.onselect = (heard) => {
    [...rows.children].forEach((row, i) => row.classList.toggle("heard", i + 1 === heard));
  };
  Player.last = blind.player;
  tell();
}

function turn(toBlind) {
  Player.sounding?.pause();
  find("#open").hidden = toBlind;
  find("#blind").hidden = !toBlind;
  find(".skip").hidden = toBlind;
  document.title = toBlind ? "Blind listening test" : find("#open h1").textContent;
  scrollTo(0, 0);
  if (toBlind) {
    blind.session ??= kept() ?? fresh();
    blind.session.trial = Math.min(blind.session.trial, data.samples.length - 1);
    find("#listener").value = blind.session.listener;
    show();
    find("#listener").focus();
  } else {
    blind.player.close();
    find("#to-blind").focus();
  }
}

function move(by) {
  blind.session.trial += by;
  keep();
  show();
  find("#trial").focus();
}

function answers() {
  const { session } = blind;
  return {
    format: "pcodec-listening/1",
    data: data.results.data,
    evaluated: data.results.created,
    listener: session.listener,
    seed: session.seed,
    started: session.started,
    saved: new Date().toISOString(),
    answers: trials(session).flatMap(({ sample, hidden }, trial) =>
      hidden.map(({ codec, kind }, i) => ({
        file: data.samples[sample].file,
        trial: trial + 1,
        order: i + 1,
        letter: letter(i),
        codec,
        kind,
        score: session.scores[place(sample, i)]?.score ?? null,
        rated: session.scores[place(sample, i)]?.at ?? null,
      })),
    ),
  };
}

find("#to-blind").addEventListener("click", () => turn(true));
find("#leave").addEventListener("click", () => turn(false));
find("#previous").addEventListener("click", () => move(-1));
find("#next").addEventListener("click", () => move(1));
find("#listener").addEventListener("input", (event) => {
  blind.session.listener = event.target.value.trim();
  keep();
});
find("#anew").addEventListener("click", () => {
  if (progress().rated && !confirm("Forget all scores, and draw a new order?")) return;
  blind.session = { ...fresh(), listener: blind.session.listener };
  keep();
  show();
});
find("#save-answers").addEventListener("click", () => {
  if (!blind.session.listener) {
    find("#status").textContent = "First say who listens: a name or a number.";
    find("#listener").focus();
    return;
  }
  const { total, rated } = progress();
  const name = blind.session.listener.replace(/[^\p{L}\p{N}_-]+/gu, "-");
  save(`listening-${name}-${blind.session.seed}.json`, answers());
  const rest = total - rated;
  find("#status").textContent = rest ? `Saved; ${rest} are not rated yet.` : "Saved, all rated.";
});
