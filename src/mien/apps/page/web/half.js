// IEEE 754 binary16.

const VALUES = new Float32Array(65536);
for (let h = 0; h < 65536; h++) {
  const exponent = (h >> 10) & 31;
  const fraction = h & 1023;
  const size = exponent === 31 ? (fraction ? NaN : Infinity)
    : exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
  VALUES[h] = h & 0x8000 ? -size : size;
}

/** The numbers of little-endian halves. */
export function halves(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const out = new Float32Array(bytes.byteLength >> 1);
  for (let i = 0; i < out.length; i++) out[i] = VALUES[view.getUint16(2 * i, true)];
  return out;
}

/** The bits of the half nearest to a number of at most 65504 in size, ties to even. */
export function toHalf(x) {
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  const size = Math.abs(x);
  if (size === 0) return sign;
  const exponent = Math.max(Math.floor(Math.log2(size)), -14);
  // log2 may be one off beside a power of two; the sum below carries over into the exponent by itself.
  const low = size < 2 ** exponent && exponent > -14 ? exponent - 1 : exponent;
  const units = size / 2 ** (low - 10);
  let whole = Math.floor(units);
  const rest = units - whole;
  if (rest > 0.5 || (rest === 0.5 && whole % 2)) whole += 1;
  return sign | (whole + ((low + 14) << 10));
}
