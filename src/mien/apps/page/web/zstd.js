// Zstandard frames (RFC 8878) without dictionaries; a content checksum is passed over, for the part has its own.

import { check } from "./errors.js";

const DAMAGED = "the tuned weights are damaged";
const LITERAL_DEFAULT = [4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1,
  -1, -1, -1, -1];
const MATCH_DEFAULT = [1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
  1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1];
const OFFSET_DEFAULT = [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1];
const LITERAL_BITS = [...Array(16).fill(0), 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
const MATCH_BITS = [...Array(32).fill(0), 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
const baselines = (bits, first) => bits.reduce((out, b) => [...out, out.at(-1) + 2 ** b], [first]);
const LITERAL_BASE = baselines(LITERAL_BITS, 0);
const MATCH_BASE = baselines(MATCH_BITS, 3);
const MOST_BLOCK = 1 << 17;

/** Bits from the end of a part of the input, highest first; beyond its beginning all are 0. */
class Backward {
  constructor(data, from, to) {
    check(to > from && data[to - 1] !== 0, DAMAGED);
    this.data = data;
    this.from = from;
    this.left = 8 * (to - from) - Math.clz32(data[to - 1]) + 24 - 1;
  }

  /** The next `count` bits, at most 24, without taking them. */
  peek(count) {
    const low = this.left - count;
    if (low < 0) return this.left > 0 ? this.peek(this.left) << -low : 0;
    const { data } = this;
    const at = this.from + (low >> 3);
    const four = data[at] | (data[at + 1] << 8) | (data[at + 2] << 16) | (data[at + 3] << 24);
    return (four >>> (low & 7)) & ((1 << count) - 1);
  }

  read(count) {
    if (count > 24) return this.read(count - 16) * 65536 + this.read(16);
    const value = count ? this.peek(count) : 0;
    this.left -= count;
    return value;
  }
}

/** A table of finite state entropy: for each state its symbol, bits to read and base of the next state. */
function fseTable(probabilities, log) {
  const size = 1 << log;
  const symbols = new Uint8Array(size);
  const next = probabilities.map((p) => (p < 0 ? 1 : p));
  let high = size - 1;
  probabilities.forEach((p, symbol) => {
    if (p < 0) symbols[high--] = symbol;
  });
  let at = 0;
  const step = (size >> 1) + (size >> 3) + 3;
  probabilities.forEach((p, symbol) => {
    for (let i = 0; i < p; i++) {
      symbols[at] = symbol;
      do at = (at + step) & (size - 1);
      while (at > high);
    }
  });
  check(at === 0, DAMAGED);
  const bits = new Uint8Array(size);
  const base = new Uint16Array(size);
  for (let state = 0; state < size; state++) {
    const number = next[symbols[state]]++;
    bits[state] = log - (31 - Math.clz32(number));
    base[state] = (number << bits[state]) - size;
  }
  return { log, symbols, bits, base };
}

/** The table described at `at`, and where the description ends. */
function readFse(data, at, end, mostLog, mostSymbols) {
  let bit = 0;
  const read = (count) => {
    let value = 0;
    for (let i = 0; i < count; i++, bit++) {
      const byte = at + (bit >> 3);
      value |= (byte < end ? (data[byte] >> (bit & 7)) & 1 : 0) << i;
    }
    return value;
  };
  const log = read(4) + 5;
  check(log <= mostLog, DAMAGED);
  const probabilities = [];
  let remaining = (1 << log) + 1;
  while (remaining > 1 && probabilities.length < mostSymbols) {
    const width = 32 - Math.clz32(remaining);
    const threshold = (1 << width) - 1 - remaining;
    let value = read(width - 1);
    if (value >= threshold) {
      value |= read(1) << (width - 1);
      if (value >= 1 << (width - 1)) value -= threshold;
    }
    const p = value - 1;
    remaining -= Math.abs(p);
    probabilities.push(p);
    if (p === 0) {
      let more;
      do {
        more = read(2);
        for (let i = 0; i < more; i++) probabilities.push(0);
      } while (more === 3 && probabilities.length < mostSymbols);
    }
  }
  const next = at + ((bit + 7) >> 3);
  check(remaining === 1 && probabilities.length <= mostSymbols && next <= end, DAMAGED);
  return { table: fseTable(probabilities, log), next };
}

/** The weights of a Huffman table, packed in four bits each or by two interleaved FSE states. */
function huffmanWeights(data, at, end) {
  check(at < end, DAMAGED);
  const header = data[at++];
  const weights = [];
  if (header >= 128) {
    const count = header - 127;
    const next = at + ((count + 1) >> 1);
    check(next <= end, DAMAGED);
    for (let i = 0; i < count; i++) weights.push(i % 2 ? data[at + (i >> 1)] & 15 : data[at + (i >> 1)] >> 4);
    return { weights, next };
  }
  const next = at + header;
  check(next <= end, DAMAGED);
  const { table, next: begin } = readFse(data, at, next, 6, 256);
  const source = new Backward(data, begin, next);
  const states = [source.read(table.log), source.read(table.log)];
  for (let turn = 0; ; turn ^= 1) {
    check(weights.length < 255, DAMAGED);
    weights.push(table.symbols[states[turn]]);
    const bits = table.bits[states[turn]];
    if (bits > source.left) {
      weights.push(table.symbols[states[turn ^ 1]]);
      return { weights, next };
    }
    states[turn] = table.base[states[turn]] + source.read(bits);
  }
}

function readHuffman(data, at, end) {
  const { weights, next } = huffmanWeights(data, at, end);
  let sum = 0;
  for (const w of weights) {
    check(w <= 11, DAMAGED);
    sum += w ? 1 << (w - 1) : 0;
  }
  check(sum > 0, DAMAGED);
  const log = 32 - Math.clz32(sum);
  const rest = (1 << log) - sum;
  check(log <= 11 && (rest & (rest - 1)) === 0, DAMAGED);
  weights.push(32 - Math.clz32(rest));
  const symbols = new Uint8Array(1 << log);
  const lengths = new Uint8Array(1 << log);
  let place = 0;
  for (let w = 1; w <= log; w++) {
    weights.forEach((weight, symbol) => {
      if (weight !== w) return;
      const count = 1 << (w - 1);
      symbols.fill(symbol, place, place + count);
      lengths.fill(log + 1 - w, place, place + count);
      place += count;
    });
  }
  check(place === 1 << log, DAMAGED);
  return { table: { log, symbols, lengths }, next };
}

function huffmanStream(table, data, from, to, out, start, count) {
  check(to <= data.length && start + count <= out.length, DAMAGED);
  const source = new Backward(data, from, to);
  for (let i = 0; i < count; i++) {
    const index = source.peek(table.log);
    out[start + i] = table.symbols[index];
    source.left -= table.lengths[index];
  }
  check(source.left === 0, DAMAGED);
}

class Inflater {
  constructor(data, size) {
    this.data = data;
    this.out = new Uint8Array(size);
    this.size = 0;
    this.huffman = null;
    this.tables = [null, null, null];
    this.offsets = [1, 4, 8];
  }

  /** The literals of a block that begins at `at`, and where its sequences begin. */
  literals(at, end) {
    const { data } = this;
    check(at < end, DAMAGED);
    const kind = data[at] & 3;
    const format = (data[at] >> 2) & 3;
    if (kind < 2) {
      const bytes = format === 3 ? 3 : format === 1 ? 2 : 1;
      check(at + bytes <= end, DAMAGED);
      const count = bytes === 1 ? data[at] >> 3 : (data[at] >> 4) | (data[at + 1] << 4) | (bytes > 2 ? data[at + 2] << 12 : 0);
      const from = at + bytes;
      check(count <= MOST_BLOCK && from + (kind ? 1 : count) <= end, DAMAGED);
      if (kind) return { literals: new Uint8Array(count).fill(data[from]), next: from + 1 };
      return { literals: data.subarray(from, from + count), next: from + count };
    }
    const bytes = format < 2 ? 3 : format + 2;
    check(at + bytes <= end, DAMAGED);
    const field = 4 * bytes - 2; // bits of either size: 10, 14 or 18
    let header = 0;
    for (let i = bytes - 1; i >= 0; i--) header = header * 256 + data[at + i];
    const sizes = Math.floor(header / 16);
    const count = sizes % 2 ** field;
    const packed = Math.floor(sizes / 2 ** field);
    let from = at + bytes;
    const next = from + packed;
    check(next <= end && count <= MOST_BLOCK, DAMAGED);
    if (kind === 2) ({ table: this.huffman, next: from } = readHuffman(data, from, next));
    check(this.huffman, DAMAGED);
    const out = new Uint8Array(count);
    if (format === 0) {
      huffmanStream(this.huffman, data, from, next, out, 0, count);
      return { literals: out, next };
    }
    check(from + 6 <= next, DAMAGED);
    const each = (count + 3) >> 2;
    let begin = from + 6;
    for (let i = 0; i < 4; i++) {
      const stop = i < 3 ? begin + (data[from + 2 * i] | (data[from + 2 * i + 1] << 8)) : next;
      check(stop <= next && count >= 3 * each, DAMAGED);
      huffmanStream(this.huffman, data, begin, stop, out, i * each, i < 3 ? each : count - 3 * each);
      begin = stop;
    }
    return { literals: out, next };
  }

  /** The three tables of a block's sequences: literal lengths, offsets, match lengths. */
  sequenceTables(at, end) {
    const modes = this.data[at++];
    const kinds = [[LITERAL_DEFAULT, 6, 9, 36], [OFFSET_DEFAULT, 5, 8, 32], [MATCH_DEFAULT, 6, 9, 53]];
    kinds.forEach(([standard, log, mostLog, symbols], i) => {
      const mode = (modes >> (6 - 2 * i)) & 3;
      if (mode === 0) {
        this.tables[i] = fseTable(standard, log);
      } else if (mode === 1) {
        check(at < end && this.data[at] < symbols, DAMAGED);
        this.tables[i] = { log: 0, symbols: [this.data[at++]], bits: [0], base: [0] };
      } else if (mode === 2) {
        ({ table: this.tables[i], next: at } = readFse(this.data, at, end, mostLog, symbols));
      }
      check(this.tables[i], DAMAGED);
    });
    return at;
  }

  offset(code, noLiterals, source) {
    check(code < 32, DAMAGED);
    const value = 2 ** code + source.read(code);
    const past = this.offsets;
    if (value > 3) {
      this.offsets = [value - 3, past[0], past[1]];
      return value - 3;
    }
    const index = value - 1 + (noLiterals ? 1 : 0);
    if (index === 0) return past[0];
    const found = index === 3 ? past[0] - 1 : past[index];
    this.offsets = index === 1 ? [found, past[0], past[2]] : [found, past[0], past[1]];
    return found;
  }

  copy(bytes) {
    check(this.size + bytes.length <= this.out.length, DAMAGED);
    this.out.set(bytes, this.size);
    this.size += bytes.length;
  }

  block(at, end) {
    const { literals, next } = this.literals(at, end);
    check(next < end, DAMAGED);
    let begin = next + 1;
    let count = this.data[next];
    if (count >= 128) {
      check(begin + 2 <= end, DAMAGED);
      count = count === 255 ? this.data[begin] + this.data[begin + 1] * 256 + 0x7f00 : (count - 128) * 256 + this.data[begin];
      begin += this.data[next] === 255 ? 2 : 1;
    }
    let used = 0;
    if (count) {
      check(begin < end, DAMAGED);
      begin = this.sequenceTables(begin, end);
      const [lengths, offsets, matches] = this.tables;
      const source = new Backward(this.data, begin, end);
      const state = [lengths, offsets, matches].map((table) => source.read(table.log));
      for (let i = 0; i < count; i++) {
        const literalCode = lengths.symbols[state[0]];
        const matchCode = matches.symbols[state[2]];
        // The bits lie in the order offset, match, literal; an offset among the last three also asks for literals.
        const code = offsets.symbols[state[1]];
        const saved = source.left;
        source.read(code);
        const match = MATCH_BASE[matchCode] + source.read(MATCH_BITS[matchCode]);
        const literal = LITERAL_BASE[literalCode] + source.read(LITERAL_BITS[literalCode]);
        const after = source.left;
        source.left = saved;
        const offset = this.offset(code, literal === 0, source);
        source.left = after;
        check(used + literal <= literals.length, DAMAGED);
        this.copy(literals.subarray(used, used + literal));
        used += literal;
        check(offset > 0 && offset <= this.size && this.size + match <= this.out.length, DAMAGED);
        for (let k = 0; k < match; k++, this.size++) this.out[this.size] = this.out[this.size - offset];
        if (i + 1 < count) {
          [0, 2, 1].forEach((t) => {
            const table = this.tables[t];
            state[t] = table.base[state[t]] + source.read(table.bits[state[t]]);
          });
        }
      }
      check(source.left === 0, DAMAGED);
    }
    this.copy(literals.subarray(used));
  }
}

/** The content of one Zstandard frame, which must hold exactly `size` bytes. Throws StreamError. */
export function inflate(data, size) {
  check(data.length >= 6 && data[0] === 0x28 && data[1] === 0xb5 && data[2] === 0x2f && data[3] === 0xfd, DAMAGED);
  const flags = data[4];
  check((flags & 8) === 0 && (flags & 3) === 0, DAMAGED);
  const single = (flags >> 5) & 1;
  let at = 5 + (single ? 0 : 1);
  const sizeBytes = [single, 2, 4, 8][flags >> 6];
  check(at + sizeBytes <= data.length, DAMAGED);
  let claimed = sizeBytes === 2 ? 256 : 0;
  for (let i = 0; i < sizeBytes; i++) claimed += data[at + i] * 2 ** (8 * i);
  check(!sizeBytes || claimed === size, "the tuned weights belong to another generator");
  at += sizeBytes;
  const inflater = new Inflater(data, size);
  for (let last = 0; !last; ) {
    check(at + 3 <= data.length, DAMAGED);
    const header = data[at] | (data[at + 1] << 8) | (data[at + 2] << 16);
    last = header & 1;
    const kind = (header >> 1) & 3;
    const length = header >> 3;
    at += 3;
    const end = at + (kind === 1 ? 1 : length);
    check(kind < 3 && length <= MOST_BLOCK && end <= data.length, DAMAGED);
    if (kind === 0) inflater.copy(data.subarray(at, end));
    else if (kind === 1) inflater.copy(new Uint8Array(length).fill(data[at]));
    else inflater.block(at, end);
    at = end;
  }
  check(inflater.size === size, "the tuned weights belong to another generator");
  return inflater.out;
}
