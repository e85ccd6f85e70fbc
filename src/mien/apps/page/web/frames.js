// Which frames to draw next, and those that are drawn.

const MOST_PIXELS = 96e6; // bytes of drawn frames that are kept

export class Frames {
  constructor(decoder, request) {
    this.decoder = decoder;
    this.request = request; // index -> what a worker is asked for
    this.count = 0;
    this.halted = true; // nothing can be drawn: no face yet, or drawing fails
    this.failed = null; // why
    this.clear();
  }

  /** Draws nothing until `go`: the stream or the face is being changed. */
  halt() {
    this.halted = true;
    this.clear();
  }

  go() {
    this.halted = false;
    this.failed = null;
    this.clear();
  }

  /** Forgets everything drawn: another face, or bent curves. */
  clear() {
    this.version = (this.version ?? 0) + 1;
    this.done = new Map();
    this.begun = new Set();
    this.wanted ??= [];
  }

  /** The ImageData of a frame, drawn before all others. */
  get(index) {
    const here = this.done.get(index);
    if (here) return Promise.resolve(here);
    if (this.failed) return Promise.reject(this.failed);
    return new Promise((resolve, reject) => {
      this.wanted.push({ index, resolve, reject });
      this.work(index, 1, 0);
    });
  }

  /** Keeps all workers busy: what was asked for, then `ahead` frames from `position` on, every `stride`th. */
  work(position, stride, ahead) {
    for (let thread = this.decoder.free(); thread; thread = this.decoder.free()) {
      const index = this.nextOf(position, stride, ahead);
      if (index === undefined) return;
      this.draw(thread, index, () => this.work(position, stride, ahead));
    }
  }

  nextOf(position, stride, ahead) {
    if (this.halted) return undefined;
    const missing = (index) => !this.done.has(index) && !this.begun.has(index);
    const asked = this.wanted.find(({ index }) => missing(index));
    if (asked) return asked.index;
    for (let k = 0; k < ahead; k++) {
      const index = (position + k * stride) % this.count;
      if (missing(index)) return index;
    }
    return undefined;
  }

  async draw(thread, index, after) {
    const { version } = this;
    this.begun.add(index);
    try {
      const pixels = await this.decoder.draw(thread, this.request(index));
      const side = Math.sqrt(pixels.length / 4);
      if (version === this.version) this.keep(index, new ImageData(pixels, side, side));
    } catch (error) {
      if (version === this.version) this.fail(error);
    } finally {
      if (version === this.version) this.begun.delete(index);
      after();
    }
  }

  /** A frame that fails would fail again, so all stops here. */
  fail(error) {
    this.halted = true;
    this.failed = error;
    for (const { reject } of this.wanted.splice(0)) reject(error);
  }

  keep(index, image) {
    this.done.set(index, image);
    while (this.done.size * image.data.length > MOST_PIXELS && this.done.size > 2) {
      this.done.delete(this.done.keys().next().value);
    }
    this.answer(index, ({ resolve }) => resolve(image));
  }

  answer(index, how) {
    const asked = this.wanted.filter((one) => one.index === index);
    this.wanted = this.wanted.filter((one) => one.index !== index);
    asked.forEach(how);
  }
}
