// A safetensors file of half floats with the pack's description in its metadata, as `mien page` writes it.

import { check } from "./errors.js";

/** {description, tensors: name -> {shape, halves (Uint16Array)}} of the bytes (an ArrayBuffer). */
export function readPack(buffer) {
  const size = Number(new DataView(buffer).getBigUint64(0, true));
  check(size > 1 && size + 8 <= buffer.byteLength, "the pack is damaged");
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, size)));
  const tensors = new Map();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [from, to] = entry.data_offsets;
    check(entry.dtype === "F16" && 8 + size + to <= buffer.byteLength, "the pack is damaged");
    tensors.set(name, { shape: entry.shape, halves: new Uint16Array(buffer.slice(8 + size + from, 8 + size + to)) });
  }
  const description = JSON.parse(header.__metadata__.mien);
  for (const [name, shape] of Object.entries(description.zero)) {
    tensors.set(name, { shape, halves: new Uint16Array(shape.reduce((a, b) => a * b, 1)) });
  }
  return { description, tensors };
}
