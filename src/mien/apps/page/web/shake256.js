// SHAKE-256 (FIPS 202), with each 64-bit lane as two 32-bit halves.

const RATE = 136;
const ROTATIONS = [1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 2, 14, 27, 41, 56, 8, 25, 43, 62, 18, 39, 61, 20, 44];
const PLACES = [10, 7, 11, 17, 18, 3, 5, 16, 8, 21, 24, 4, 15, 23, 19, 13, 12, 2, 20, 14, 22, 9, 6, 1];

/** The constants of iota: pairs of low and high half, from the linear feedback shift register of the standard. */
const CONSTANTS = (() => {
  const out = [];
  let state = 1;
  for (let round = 0; round < 24; round++) {
    const halves = [0, 0];
    for (let j = 0; j < 7; j++) {
      const bit = (1 << j) - 1;
      if (state & 1) halves[bit >> 5] |= 1 << (bit & 31);
      state = state & 0x80 ? (state << 1) ^ 0x171 : state << 1;
    }
    out.push(halves);
  }
  return out;
})();

function permute(a) {
  const c = new Int32Array(10);
  for (const [low, high] of CONSTANTS) {
    for (let x = 0; x < 10; x++) c[x] = a[x] ^ a[x + 10] ^ a[x + 20] ^ a[x + 30] ^ a[x + 40];
    for (let x = 0; x < 5; x++) {
      const [before, after] = [2 * ((x + 4) % 5), 2 * ((x + 1) % 5)];
      const dl = c[before] ^ ((c[after] << 1) | (c[after + 1] >>> 31));
      const dh = c[before + 1] ^ ((c[after + 1] << 1) | (c[after] >>> 31));
      for (let y = 0; y < 50; y += 10) {
        a[y + 2 * x] ^= dl;
        a[y + 2 * x + 1] ^= dh;
      }
    }
    let [l, h] = [a[2], a[3]];
    for (let i = 0; i < 24; i++) {
      const place = 2 * PLACES[i];
      const [nextL, nextH] = [a[place], a[place + 1]];
      const by = ROTATIONS[i];
      if (by >= 32) [l, h] = [h, l];
      const n = by & 31;
      a[place] = n ? (l << n) | (h >>> (32 - n)) : l;
      a[place + 1] = n ? (h << n) | (l >>> (32 - n)) : h;
      [l, h] = [nextL, nextH];
    }
    for (let y = 0; y < 50; y += 10) {
      const row = a.slice(y, y + 10);
      for (let x = 0; x < 10; x++) a[y + x] ^= ~row[(x + 2) % 10] & row[(x + 4) % 10];
    }
    a[0] ^= low;
    a[1] ^= high;
  }
}

/** `length` bytes of SHAKE-256 over a message of fewer than 136 bytes. */
export function shake256(message, length) {
  const state = new Int32Array(50);
  const bytes = new Uint8Array(state.buffer); // lanes are little-endian, as every machine that runs this is
  bytes.set(message);
  bytes[message.length] ^= 0x1f;
  bytes[RATE - 1] ^= 0x80;
  const out = new Uint8Array(length);
  for (let at = 0; at < length; at += RATE) {
    permute(state);
    out.set(bytes.subarray(0, Math.min(RATE, length - at)), at);
  }
  return out;
}
