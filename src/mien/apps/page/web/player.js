// What plays: a stream, the face that is seen, how its curves are bent, and the clock. No element of the page is known here
// but the one that plays the sound.

import { Decoder } from "./decoder.js";
import { groupsOf } from "./curves.js";
import { Frames } from "./frames.js";
import { readPack } from "./pack.js";
import { readPerson, readStream, PARAMETERS } from "./stream.js";
import { readMark } from "./watermark.js";

async function bytes(path) {
  const answer = await fetch(new URL(path, document.baseURI));
  if (!answer.ok) throw new Error(`${path} is not there (${answer.status})`);
  return answer.arrayBuffer();
}

/** What `work` gives, or an error with this sentence. */
async function orSay(sentence, work) {
  try {
    return await work();
  } catch (error) {
    throw new Error(sentence, { cause: error });
  }
}

export class Player {
  /** `sound`: an audio element. */
  constructor(sound) {
    this.decoder = new Decoder();
    this.frames = new Frames(this.decoder, (index) => this.request(index));
    this.sound = sound;
    this.playing = false;
    this.speed = 1;
    this.position = 0; // seconds
    this.bends = {};
    this.packs = new Map();
    this.files = new Map();
  }

  /** Reads what the folder holds. */
  async load() {
    const facts = await bytes("page.json");
    this.facts = await orSay("page.json is damaged", async () => JSON.parse(new TextDecoder().decode(facts)));
    const compiled = bytes("mien.wasm").then((data) =>
      orSay("this browser cannot run the decoder: it needs WebAssembly with SIMD", () => WebAssembly.compile(data)));
    const [wasm] = await Promise.all([compiled, this.open(0)]);
    this.wasm = wasm;
    await this.see(this.faces[0]);
  }

  /** Reads stream number `index` with its pack; the face stays to be chosen. */
  async open(index) {
    this.frames.halt();
    this.shift = null;
    const about = this.facts.streams[index];
    const pack = this.facts.packs[about.pack];
    const [stream, buffer] = await Promise.all([this.streamOf(about), this.packs.get(about.pack) ?? bytes(pack.file)]);
    this.packs.set(about.pack, buffer);
    if (stream.pack !== about.pack) throw new Error("the stream belongs to another pack");
    this.pause();
    Object.assign(this, { about, pack, stream, buffer, position: 0 });
    this.known = new Map(pack.channels.map((c) => [`${c.layer},${c.index}`, c]));
    this.groups = groupsOf(stream, pack);
    this.rate = stream.fps[0] / stream.fps[1];
    this.frames.count = stream.frames;
    this.bends = {};
    this.faces = await this.people();
    if (this.sound.src) URL.revokeObjectURL(this.sound.src);
    this.sound.removeAttribute("src");
    if (stream.sound.length) this.sound.src = URL.createObjectURL(new Blob([stream.sound], { type: "audio/mp4" }));
  }

  /** A stream of the folder with its person's weights. */
  async streamOf(about) {
    if (this.files.has(about.file)) return this.files.get(about.file);
    const stream = readStream(new Uint8Array(await bytes(about.file)));
    if (stream.person) {
      const path = this.facts.persons[stream.person];
      if (!path) throw new Error(`the person '${stream.personName}' is not in this folder`);
      const data = await bytes(path);
      const person = readPerson(new Uint8Array(data));
      if (person.pack !== stream.pack) throw new Error("the person belongs to another pack");
      stream.weights = person.tuning;
      stream.onceBytes = data.byteLength;
    } else {
      stream.weights = stream.tuning;
      stream.onceBytes = 0;
    }
    stream.mark = readMark(new Uint8Array(await bytes(about.mark)), this.facts.watermark);
    this.files.set(about.file, stream);
    return stream;
  }

  /** Those who can be seen: the stream's own person, the other streams', and the pack's. */
  async people() {
    const found = [];
    for (const about of [this.about, ...this.facts.streams.filter((one) => one !== this.about)]) {
      if (about.pack !== this.about.pack) continue;
      const stream = await this.streamOf(about);
      found.push({ name: about.name, identity: stream.identity, tuning: stream.weights });
    }
    const { description, tensors } = readPack(this.buffer);
    this.zero = description.zero;
    const people = tensors.get("people.w_plus");
    const size = people.shape[1] * people.shape[2];
    const view = new Uint8Array(people.halves.buffer);
    const { halves } = await import("./half.js");
    for (let i = 0; i < people.shape[0]; i++) {
      found.push({ name: `person ${i + 1}`, identity: halves(view.subarray(2 * i * size, 2 * (i + 1) * size)),
        tuning: new Uint8Array(0) });
    }
    return found;
  }

  /** Shows this face from now on. */
  async see(face) {
    if (this.loaded !== this.about.pack) {
      await this.decoder.load(this.wasm, this.buffer);
      this.loaded = this.about.pack;
    }
    const shared = this.stream.channels.map(([layer, index]) => this.pack.absolute && this.known.has(`${layer},${index}`));
    this.face = face;
    this.frames.halt();
    const shift = await this.decoder.become({
      identity: face.identity, tuning: face.tuning, mark: this.stream.mark, driver: this.stream.identity,
      channels: this.stream.channels, shared });
    if (this.face !== face) return;
    this.shift = shift;
    this.frames.go();
  }

  /** How strongly an attribute is bent, in standard deviations of its own motion. */
  bend(name, amount) {
    if (amount) this.bends[name] = amount;
    else delete this.bends[name];
    this.frames.clear();
  }

  /** The 35 numbers of a frame as they are bent, in the units of the stream's own person. */
  numbers(index) {
    const row = this.stream.motion.slice(PARAMETERS * index, PARAMETERS * (index + 1));
    for (const [name, amount] of Object.entries(this.bends)) {
      this.about.bends[name].forEach((unit, k) => {
        row[3 + k] += amount * unit;
      });
    }
    return row;
  }

  /** All frames' numbers as they are bent. */
  motion() {
    const out = new Float32Array(this.stream.motion.length);
    for (let t = 0; t < this.stream.frames; t++) out.set(this.numbers(t), PARAMETERS * t);
    return out;
  }

  request(index) {
    const [, yaw, pitch, ...alpha] = this.numbers(index);
    return { yaw, pitch, alpha: alpha.map((value, k) => value + this.shift[k]), channels: this.stream.channels };
  }

  get index() {
    return Math.min(Math.floor(this.position * this.rate + 1e-6), this.stream.frames - 1);
  }

  get seconds() {
    return this.stream.frames / this.rate;
  }

  get hasSound() {
    return this.stream.sound.length > 0;
  }

  play() {
    this.playing = true;
    this.before = performance.now();
    if (this.hasSound) {
      this.sound.playbackRate = this.speed;
      this.sound.currentTime = this.position;
      this.sound.play().catch((error) => this.soundRefused(error));
    }
  }

  /** Browsers let no page be heard before it is touched: the sound stays off until it is switched on. */
  soundRefused(error) {
    if (error.name === "NotAllowedError") this.sound.muted = true;
  }

  mute(silent) {
    this.sound.muted = silent;
    if (!silent && this.playing && this.sound.paused) this.play();
  }

  pause() {
    this.playing = false;
    this.sound.pause();
  }

  seek(seconds) {
    this.position = Math.min(Math.max(seconds, 0), this.seconds - 1e-3);
    if (this.hasSound) this.sound.currentTime = this.position;
  }

  setSpeed(speed) {
    this.speed = speed;
    this.sound.playbackRate = speed;
  }

  /** Moves the clock on, and keeps the workers busy with what is seen next. The sound leads where it plays. */
  tick(now) {
    if (this.playing) {
      const passed = Math.max(now - this.before, 0) / 1000; // a frame's time may lie before the click that plays
      this.before = now;
      const heard = this.hasSound && !this.sound.paused && !this.sound.ended;
      this.position = heard ? this.sound.currentTime : this.position + passed * this.speed;
      if (this.position >= this.seconds) {
        this.position = 0;
        if (this.hasSound) this.play();
      }
    }
    // Where drawing is slower than the clip, every nth frame is drawn, so that the face keeps time with the sound.
    const able = this.decoder.able() || this.rate;
    const missing = Math.max(1, Math.ceil((this.rate * this.speed) / able));
    const lead = this.playing && missing > 1 ? missing : 0;
    this.frames.work(this.index + lead, this.playing ? missing : 1, this.playing ? 24 : 1);
  }

  /** The newest frame that is drawn, at or before the clock, within a quarter of a second; or undefined. */
  newest() {
    const reach = this.playing ? Math.ceil(this.rate / 4) : 0;
    for (let back = 0; back <= reach; back++) {
      const image = this.frames.done.get(this.index - back);
      if (image) return image;
    }
    return undefined;
  }
}
