// A reader of `.mien` and `.person` files, written from docs/format.md: what is damaged or out of range is refused.

import { crc32 } from "./crc32.js";
import { check } from "./errors.js";
import { halves } from "./half.js";
import { decodeFrames, readInfo } from "./motion.js";

export const PARAMETERS = 35;
const CHANNELS = 32;
const MOST_FRAMES = 2 ** 22;
const KINDS = {
  mien: { magic: [0x89, 0x4d, 0x49, 0x45, 0x4e, 0x0d, 0x0a, 0x1a],
    known: ["HEAD", "IDEN", "PERS", "tune", "plac", "soun", "fcrc", "FRAM", "CODE"] },
  person: { magic: [0x89, 0x50, 0x45, 0x52, 0x53, 0x0d, 0x0a, 0x1a], known: ["HEAD", "IDEN", "TUNE", "seen"] },
};

const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
export const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");

/** The parts of a file by tag, every checksum checked. */
function readParts(data, kind) {
  const { magic, known } = KINDS[kind];
  check(data.length >= 8 && magic.every((byte, i) => data[i] === byte), `this is not a .${kind} file`);
  check(data.length >= 24, "the file is cut short");
  const view = viewOf(data);
  check(view.getUint16(8, true) === 1, `the file is of version ${view.getUint16(8, true)} of the format`);
  check(view.getUint32(20, true) === crc32(data.subarray(0, 20)), "the checksum of the first bytes is wrong");
  const total = view.getUint32(16, true) * 2 ** 32 + view.getUint32(12, true);
  check(total >= 24 && total <= 2 ** 31, "the file's length is out of range");
  check(data.length >= total, "the file is cut short");
  check(data.length <= total, "the file has bytes after its end");
  const parts = new Map();
  let first = true;
  let count = 0;
  for (let at = 24; at < total; ) {
    check(at + 12 <= total && ++count <= 256, "the file's parts make no sense");
    const letters = data.subarray(at, at + 4);
    const alphabetic = letters.every((b) => (b > 64 && b < 91) || (b > 96 && b < 123));
    const length = view.getUint32(at + 4, true);
    check(alphabetic && at + 12 + length <= total, "the file's parts make no sense");
    const tag = String.fromCharCode(...letters);
    const payload = data.subarray(at + 12, at + 12 + length);
    check(!first || tag === "HEAD", "the file does not begin with its head");
    first = false;
    if (known.includes(tag)) {
      check(!parts.has(tag), `the file has two parts '${tag}'`);
      check(view.getUint32(at + 8, true) === crc32(data.subarray(at, at + 8), payload),
        `the checksum of the part '${tag}' is wrong`);
      parts.set(tag, payload);
    } else {
      check(letters[0] > 96, `the file has a part '${tag}' that this page does not know`);
    }
    at += 12 + length;
  }
  check(parts.has("HEAD"), "the file has no head");
  check(parts.has("IDEN"), "the file has no identity latent");
  return parts;
}

function printable(bytes, what) {
  let text = "";
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    check(false, `${what} is not text`);
  }
  check(/^[^\p{C}\p{Z}]*$/u.test(text.replaceAll(" ", "")), `${what} is not printable`);
  return text;
}

function finite(bytes, what) {
  const numbers = halves(bytes);
  check(numbers.every(Number.isFinite), `${what} has a number that is not finite`);
  return numbers;
}

function latent(parts, rows, columns) {
  const bytes = parts.get("IDEN");
  check(bytes.length === 2 * rows * columns, "the part 'IDEN' has a wrong length");
  return finite(bytes, "the identity latent");
}

function checkSizes(resolution, rows, columns) {
  check(resolution >= 4 && resolution <= 8192, "the resolution is out of range");
  check(rows >= 1 && rows <= 64 && columns >= 1 && columns <= 4096, "the identity latent's size is out of range");
}

function readHead(bytes) {
  check(bytes.length >= 192 && bytes.length <= 256, "the head has a wrong length");
  const view = viewOf(bytes);
  const at = (offset) => view.getUint32(offset, true);
  const head = {
    pack: hex(bytes.subarray(0, 32)), resolution: at(32), fps: [at(36), at(40)], frames: at(44),
    rows: view.getUint16(48, true), columns: view.getUint16(50, true), frameSize: [at(52), at(56)], channels: [],
  };
  check(view.getUint16(60, true) === CHANNELS, "the stream has not 32 channels");
  check(bytes.length === 192 + view.getUint16(62, true), "the head has a wrong length");
  check(head.frames >= 1 && head.frames <= MOST_FRAMES, "the number of frames is out of range");
  checkSizes(head.resolution, head.rows, head.columns);
  const [above, below] = head.fps;
  check(below > 0 && above * 1000 >= below && above <= 1000 * below, "the frame rate is out of range");
  const [width, height] = head.frameSize;
  check((width === 0) === (height === 0) && width < 65536 && height < 65536, "the frame size is out of range");
  for (let k = 0; k < CHANNELS; k++) {
    const [layer, index] = [view.getInt16(64 + 4 * k, true), view.getInt16(66 + 4 * k, true)];
    check(layer >= 0 && index >= 0, "the channel table has a value out of range");
    head.channels.push([layer, index]);
  }
  return { ...head, packName: printable(bytes.subarray(192), "the pack's name") };
}

function readPlacement(bytes, frames) {
  if (!bytes) return null;
  check(bytes.length === 16 + 6 * frames, "the part 'plac' has a wrong length");
  const view = viewOf(bytes);
  const out = new Float32Array(3 * frames);
  for (let i = 0; i < out.length; i++) {
    const exponent = bytes[12 + (i % 3)];
    check(exponent <= 20, "the placement has steps that are too fine");
    out[i] = (view.getInt32(4 * (i % 3), true) + view.getUint16(16 + 2 * i, true)) / 2 ** exponent;
    check(Math.abs((view.getInt32(4 * (i % 3), true) + view.getUint16(16 + 2 * i, true)) / 2 ** exponent) < 4,
      "the placement has a number out of range");
  }
  return out;
}

function readFrames(parts, head) {
  check(parts.has("FRAM") !== parts.has("CODE"), "the frames are missing, or there twice");
  const table = parts.get("fcrc");
  check(!table || table.length === 4 * Math.ceil(head.frames / 16), "the part 'fcrc' has a wrong length");
  let bytes = parts.get("FRAM");
  if (bytes) {
    check(bytes.length === 70 * head.frames, "the part 'FRAM' has a wrong length");
  } else {
    const info = readInfo(parts.get("CODE"));
    check(info.frames === head.frames, "the head and the coded frames disagree about their number");
    check(info.size === parts.get("CODE").length, "the part 'CODE' has a wrong length");
    bytes = decodeFrames(parts.get("CODE"), info);
  }
  return { motion: finite(bytes, "a frame"), frameBytes: bytes };
}

/**
 * The stream in the bytes of a `.mien` file: pack, packName, resolution, fps [above, below], frames, rows, columns,
 * frameSize, channels [[layer, index]], identity (rows x columns), motion (frames x 35), placement, tuning, sound,
 * person, personName, and bytes: the size of each part. Throws StreamError.
 */
export function readStream(data) {
  const parts = readParts(data, "mien");
  const head = readHead(parts.get("HEAD"));
  const person = parts.get("PERS");
  check(!(person && parts.has("tune")), "the stream has tuned weights twice");
  check(!person || (person.length > 32 && person.length <= 96), "the person has a wrong length");
  const empty = new Uint8Array(0);
  return {
    ...head,
    identity: latent(parts, head.rows, head.columns),
    ...readFrames(parts, head),
    placement: readPlacement(parts.get("plac"), head.frames),
    tuning: parts.get("tune") ?? empty,
    sound: parts.get("soun") ?? empty,
    person: person ? hex(person.subarray(0, 32)) : "",
    personName: person ? printable(person.subarray(32), "the person's name") : "",
    coded: parts.has("CODE"),
    bytes: { total: data.length, ...Object.fromEntries([...parts].map(([tag, payload]) => [tag, payload.length])) },
  };
}

/** The person in the bytes of a `.person` file: pack, packName, name, resolution, rows, columns, identity, tuning. */
export function readPerson(data) {
  const parts = readParts(data, "person");
  const bytes = parts.get("HEAD");
  check(bytes.length >= 44, "the head has a wrong length");
  const view = viewOf(bytes);
  const [resolution, rows, columns] = [view.getUint32(32, true), view.getUint16(36, true), view.getUint16(38, true)];
  const [packBytes, nameBytes] = [view.getUint16(40, true), view.getUint16(42, true)];
  checkSizes(resolution, rows, columns);
  check(packBytes <= 64 && nameBytes >= 1 && nameBytes <= 64 && bytes.length === 44 + packBytes + nameBytes,
    "the head has a wrong length");
  check(parts.get("TUNE")?.length > 0, "the person has no tuned weights");
  const seen = parts.get("seen");
  if (seen) {
    check(seen.length > 0 && seen.length <= 70 * 64 && seen.length % 70 === 0, "the part 'seen' has a wrong length");
    finite(seen, "a frame");
  }
  return {
    pack: hex(bytes.subarray(0, 32)), packName: printable(bytes.subarray(44, 44 + packBytes), "the pack's name"),
    name: printable(bytes.subarray(44 + packBytes), "the person's name"), resolution, rows, columns,
    identity: latent(parts, rows, columns), tuning: parts.get("TUNE"),
  };
}
