// docs/format.md, "Bit models" and "Range coder".

import { check } from "./errors.js";

/** The estimates of the probability of a yes, in 1/65536. */
export class BitModel {
  constructor(start = 32768) {
    this.quick = start;
    this.slow = start;
    this.count = 5;
  }
}

export class RangeDecoder {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
    this.range = 0xffffffff;
    this.code = 0;
    for (let i = 0; i < 4; i++) this.code = this.code * 256 + this.next();
  }

  next() {
    return this.at < this.bytes.length ? this.bytes[this.at++] : 0;
  }

  refill() {
    while (this.range < 0x1000000) {
      this.range = (this.range << 8) >>> 0;
      this.code = ((this.code << 8) | this.next()) >>> 0;
    }
  }

  /** One decision, true for a yes. */
  decide(model) {
    const p = Math.min(Math.max((model.quick + model.slow) >> 2, 64), 32704);
    const bound = (this.range >>> 15) * p;
    const yes = this.code < bound;
    if (yes) {
      this.range = bound;
    } else {
      this.code -= bound;
      this.range -= bound;
    }
    const target = yes ? 65535 : 0;
    model.quick += Math.floor((target - model.quick) / Math.min(model.count, 24));
    model.slow += Math.floor((target - model.slow) / model.count);
    if (model.count < 120) model.count++;
    this.refill();
    return yes;
  }

  /** One plain bit. */
  plain() {
    this.range >>>= 1;
    const one = this.code < this.range;
    if (!one) this.code -= this.range;
    this.refill();
    return one ? 1 : 0;
  }

  /** The number e of an exponential Golomb code whose e + 1 has at most `most` bits below its first. */
  golomb(prefix, most, damaged) {
    let width = 0;
    while (this.decide(prefix[width])) {
      width++;
      check(width <= most, damaged);
    }
    let number = 1;
    for (let i = 0; i < width; i++) number = 2 * number + this.plain();
    return number - 1;
  }
}
