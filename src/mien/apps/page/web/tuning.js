// docs/format.md, "tune" and "Compact tuned weights": what is added to the tensors of the pack's generator.

import { check } from "./errors.js";
import { BitModel, RangeDecoder } from "./range_coder.js";
import { shake256 } from "./shake256.js";
import { inflate } from "./zstd.js";

const DAMAGED = "the tuned weights are damaged";
const FOREIGN = "the tuned weights belong to another generator";
const UNARY = 12;
const MOST_PREFIX = 17;
const STARTS = [9000, 24000, 34000, 44000, 50000];
const product = (shape) => shape.reduce((a, b) => a * b, 1);

/**
 * The differences to tensors of these shapes, one a tensor: null, {steps (Int8Array), step}, {whole (Float32Array)} or
 * {rank, b, a (which holds S + A), scale}. Throws StreamError.
 */
export function readTuning(blob, shapes) {
  if (!blob.length) return shapes.map(() => null);
  check(blob.length >= 4, DAMAGED);
  const magic = String.fromCharCode(...blob.subarray(0, 4));
  if (magic === "MTD1") return readAll(blob.subarray(4), shapes);
  check(magic === "MTL1", "the tuned weights are of an unknown kind");
  return readCompact(blob, shapes);
}

function readAll(blob, shapes) {
  const sizes = shapes.map(product);
  const data = inflate(blob, sizes.reduce((sum, size) => sum + size + 4, 0));
  const view = new DataView(data.buffer);
  let at = 0;
  return sizes.map((size) => {
    const step = view.getFloat32(at, true);
    check(Number.isFinite(step), "the tuned weights are not finite");
    const steps = new Int8Array(data.buffer, at + 4, size);
    at += 4 + size;
    return { step, steps };
  });
}

function piecesOf(shapes, rank) {
  return shapes.flatMap((shape, tensor) => {
    if (shape.length === 4 && shape[2] === shape[3]) {
      const [rows, columns] = [shape[0] * shape[2], shape[1] * shape[3]];
      if (rank * (rows + columns) < product(shape)) {
        return [{ tensor, factor: "B", size: rank * rows }, { tensor, factor: "A", size: rank * columns }];
      }
    }
    return [{ tensor, factor: "", size: product(shape) }];
  });
}

const stepOf = (code) => (8 + (code & 7)) * 2 ** ((code >> 3) - 24);

function readCompact(blob, shapes) {
  check(blob.length >= 14, DAMAGED);
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  const [rank, codedSize, nonzero] = [view.getUint16(4, true), view.getUint32(6, true), view.getUint32(10, true)];
  check(rank >= 1 && rank <= 1024, `the tuned weights have the rank ${rank}`);
  const pieces = piecesOf(shapes, rank);
  const codes = blob.subarray(14, 14 + pieces.length);
  const shifts = blob.subarray(14 + pieces.length, 14 + 2 * pieces.length);
  check(shifts.length === pieces.length && shifts.every((k, i) => k <= 15 && (codes[i] || !k)), FOREIGN);
  const at = 14 + 2 * pieces.length;
  const low = pieces.reduce((sum, piece, i) => sum + piece.size * shifts[i], 0);
  check(blob.length === at + codedSize + Math.ceil((nonzero + low) / 8), FOREIGN);
  const coder = new RangeDecoder(blob.subarray(at, at + codedSize));
  const plain = blob.subarray(at + codedSize);
  const bit = (i) => (plain[i >> 3] >> (i & 7)) & 1;
  let signAt = 0;
  let lowAt = nonzero;
  const out = shapes.map(() => null);
  pieces.forEach((piece, i) => {
    const values = new Float32Array(piece.size);
    if (codes[i]) {
      const step = stepOf(codes[i]);
      const magnitudes = readMagnitudes(coder, piece.size);
      for (let n = 0; n < piece.size; n++) {
        let value = magnitudes[n] * 2 ** shifts[i];
        for (let k = 0; k < shifts[i]; k++) value += bit(lowAt++) << k;
        if (!value) continue;
        check(signAt < nonzero, DAMAGED);
        values[n] = (bit(signAt++) ? -value : value) * step;
      }
      check(values.every(Number.isFinite), "the tuned weights are not finite");
    }
    if (piece.factor === "") out[piece.tensor] = { whole: values };
    else if (piece.factor === "B") out[piece.tensor] = { rank, b: values, scale: 1 / Math.sqrt(rank) };
    else out[piece.tensor].a = addSigns(values, piece.tensor);
  });
  check(signAt === nonzero, DAMAGED);
  return out;
}

function addSigns(values, tensor) {
  const bits = shake256(new Uint8Array([0x6d, 0x69, 0x65, 0x6e, tensor & 255, tensor >> 8]), Math.ceil(values.length / 8));
  for (let i = 0; i < values.length; i++) values[i] += (bits[i >> 3] >> (i & 7)) & 1 ? 1 : -1;
  return values;
}

function readMagnitudes(coder, count) {
  const nonzero = STARTS.map((start) => new BitModel(start));
  const more = [0, 1, 2].map(() => Array.from({ length: UNARY }, () => new BitModel(20000)));
  const prefix = Array.from({ length: MOST_PREFIX + 1 }, () => new BitModel());
  const out = new Float64Array(count);
  let last = 0;
  let before = 0;
  for (let n = 0; n < count; n++) {
    const context = Math.min(last, 2) + Math.min(before, 2);
    let value = 0;
    if (coder.decide(nonzero[context])) {
      const models = more[(context + 1) >> 1];
      value = 1;
      while (value < UNARY && coder.decide(models[value])) value++;
      if (value === UNARY) value += coder.golomb(prefix, MOST_PREFIX, DAMAGED);
    }
    before = last;
    last = value;
    out[n] = value;
  }
  return out;
}
