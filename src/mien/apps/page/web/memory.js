// The memory of the compiled kernels, and numbers in it. Addresses are in bytes.

export class Memory {
  constructor(instance) {
    this.native = instance.exports;
    this.buffer = null;
  }

  /** All memory as floats. It may move whenever something is allocated, so it is asked for anew each time. */
  get floats() {
    this.renew();
    return this.f32;
  }

  get words() {
    this.renew();
    return this.i32;
  }

  renew() {
    if (this.buffer === this.native.memory.buffer) return;
    this.buffer = this.native.memory.buffer;
    this.f32 = new Float32Array(this.buffer);
    this.i32 = new Int32Array(this.buffer);
  }

  /** A place for `count` floats, all 0. */
  zeros(count) {
    const at = this.native.malloc(4 * count);
    if (!at) throw new Error("this device has too little memory for the page");
    this.native.memset_bytes(at, 0, 4 * count);
    return at;
  }

  put(numbers) {
    const at = this.zeros(numbers.length);
    this.floats.set(numbers, at >> 2);
    return at;
  }

  view(at, count) {
    return this.floats.subarray(at >> 2, (at >> 2) + count);
  }

  /** Runs `work` and gives back all that it allocated. */
  temporarily(work) {
    const mark = this.native.heap_mark();
    try {
      return work();
    } finally {
      this.native.heap_release(mark);
    }
  }

  /** A tensor of the pack as floats. */
  tensor(pack, name) {
    const { halves } = pack.tensors.get(name);
    const at = this.zeros(halves.length);
    this.temporarily(() => {
      const from = this.zeros((halves.length + 1) >> 1);
      this.renew();
      new Uint16Array(this.buffer, from, halves.length).set(halves);
      this.native.halves(from, at, halves.length);
    });
    return at;
  }
}
