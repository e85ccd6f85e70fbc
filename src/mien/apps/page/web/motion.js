// docs/format.md, "CODE: coded frames": the curves of a part `CODE`, in whole numbers throughout.

import { crc32 } from "./crc32.js";
import { StreamError, check } from "./errors.js";
import { toHalf } from "./half.js";
import { BitModel, RangeDecoder } from "./range_coder.js";

const PARAMETERS = 35;
const INPUTS = 38;
const UNARY = 14;
const MOST_PREFIX = 17;
const KEY_CONTEXT = 14;
const THRESHOLDS = [8, 16, 32, 56, 90, 128, 180, 256, 400, 640, 1024, 2048, 4096];
const STARTS = [655, 1966, 3277, 6554, 10486, 16384, 22938, 29491, 36045, 42598, 49152, 55705, 58982, 62259, 55705];
const DAMAGED = "the coded frames hold a number out of range";

const clip = (value, limit) => Math.min(Math.max(value, -limit), limit);

/** The coded frames' header, checked: frames, interval, crc, steps (in 2^-24) and the blocks' places. */
export function readInfo(data) {
  check(data.length >= 47, "the coded frames are cut short");
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  check(data[0] === 1 && data[1] === 0, `the coded frames are of version ${data[0]}`);
  const interval = view.getUint16(2, true);
  const frames = view.getUint32(4, true);
  check(interval >= 1 && interval <= 512 && frames > 0, "the header of the coded frames is damaged");
  const count = Math.ceil(frames / interval);
  const head = 47 + 8 * count;
  check(data.length >= head + 4, "the coded frames are cut short");
  check(view.getUint32(head, true) === crc32(data.subarray(0, head)), "the header of the coded frames is damaged");
  const blocks = [];
  let offset = head + 4;
  for (let number = 0; number < count; number++) {
    const length = view.getUint32(47 + 8 * number, true);
    const inside = Math.min(interval, frames - number * interval);
    check(length >= inside, "the header of the coded frames is damaged");
    blocks.push({ offset, length, crc: view.getUint32(51 + 8 * number, true), frames: inside });
    offset += length;
  }
  const steps = Array.from(data.subarray(12, 47), (b) => (8 + (b & 7)) * 2 ** (b >> 3));
  return { frames, interval, crc: view.getUint32(8, true), steps, blocks, size: offset };
}

/** The coded frames as the bytes that a part `FRAM` would hold. */
export function decodeFrames(data, info = readInfo(data)) {
  const out = new Uint8Array(2 * PARAMETERS * info.frames);
  const view = new DataView(out.buffer);
  let at = 0;
  for (const block of info.blocks) {
    const bytes = data.subarray(block.offset, block.offset + block.length);
    check(bytes.length === block.length && crc32(bytes) === block.crc, "the coded frames are damaged");
    for (const row of decodeBlock(bytes, block.frames)) {
      for (let c = 0; c < PARAMETERS; c++, at += 2) {
        const exact = row[c] * info.steps[c];
        check(Math.abs(exact) <= 65504 * 2 ** 32, DAMAGED);
        view.setUint16(at, toHalf(exact / 2 ** 32), true);
      }
    }
  }
  if (crc32(out) !== info.crc) throw new StreamError("the coded frames decode to other numbers than were coded");
  return out;
}

class Residuals {
  constructor(bytes) {
    this.source = new RangeDecoder(bytes);
    this.nonzero = STARTS.map((start) => [0, 1, 2, 3].map(() => new BitModel(start)));
    this.sign = [0, 1, 2].map(() => new BitModel());
    this.more = STARTS.map(() => Array.from({ length: UNARY }, () => new BitModel(20000)));
    this.prefix = Array.from({ length: MOST_PREFIX + 1 }, () => new BitModel());
    this.last = new Int8Array(PARAMETERS);
  }

  next(context, activity, c) {
    const { source } = this;
    if (!source.decide(this.nonzero[context][activity])) return 0;
    const negative = source.decide(this.sign[this.last[c]]);
    let size = 1;
    while (size < UNARY && source.decide(this.more[context][size])) size++;
    if (size === UNARY) size += source.golomb(this.prefix, MOST_PREFIX, DAMAGED);
    return negative ? -size : size;
  }
}

/** The inputs of the prediction of parameter `c`, and its weighted sum. */
function predict(inputs, weights, c, row, before, x2, x3, mean) {
  const x1 = before[c];
  inputs.fill(0);
  for (let j = 0; j < c; j++) inputs[j] = clip(row[j] - before[j], 8192);
  inputs[35] = clip(x1 - x2[c], 8192);
  inputs[36] = clip(x2[c] - x3[c], 8192);
  inputs[37] = clip(x1 - mean[c], 8192);
  let sum = 0;
  for (let j = 0; j < INPUTS; j++) sum += weights[j] * inputs[j];
  return clip(x1 + Math.floor(sum / 65536), 2 ** 23);
}

function learn(inputs, weights, r) {
  let squares = 0;
  for (let j = 0; j < INPUTS; j++) squares += inputs[j] * inputs[j];
  const norm = 65536 + Math.floor((5 * squares) / 64);
  const gain = Math.floor((clip(256 * r, 8192) * 1966 * 256) / norm);
  for (let j = 0; j < INPUTS; j++) weights[j] = clip(weights[j] + Math.floor((gain * inputs[j]) / 256), 2 ** 18);
}

function activity(c, seen, expected) {
  if (c < 3) return 3;
  if (2 * seen > 3 * expected + 64) return 2;
  return 3 * seen < 2 * expected ? 1 : 0;
}

/** The values of one block's frames in fine units, rows of 35. */
function decodeBlock(bytes, count) {
  const residuals = new Residuals(bytes);
  const scale = new Float64Array(PARAMETERS).fill(256);
  const weights = Array.from({ length: PARAMETERS }, () => new Float64Array(INPUTS));
  const inputs = new Float64Array(INPUTS);
  const mean = new Float64Array(PARAMETERS);
  const rows = [];
  for (let t = 0; t < count; t++) {
    const row = new Float64Array(PARAMETERS);
    let seen = 0;
    let expected = 0;
    for (let c = 0; c < PARAMETERS; c++) {
      if (t === 0) {
        row[c] = 256 * residuals.next(KEY_CONTEXT, 0, c);
      } else {
        const back = (n) => rows[Math.max(t - n, 0)];
        const prediction = predict(inputs, weights[c], c, row, back(1), back(2), back(3), mean);
        let context = 0;
        while (context < THRESHOLDS.length && THRESHOLDS[context] < scale[c]) context++;
        const r = residuals.next(context, activity(c, seen, expected), c);
        seen += Math.min(256 * Math.abs(r), 2048);
        expected += Math.min(scale[c], 2048);
        scale[c] += Math.floor((256 * Math.abs(r) - scale[c]) / 16);
        residuals.last[c] = r === 0 ? 0 : r > 0 ? 1 : 2;
        if (r) learn(inputs, weights[c], r);
        row[c] = prediction + 256 * r;
      }
      check(Math.abs(row[c]) <= 2 ** 24, DAMAGED);
    }
    for (let c = 0; c < PARAMETERS; c++) mean[c] = t === 0 ? row[c] : mean[c] + Math.floor((row[c] - mean[c]) / 16);
    rows.push(row);
  }
  return rows;
}
