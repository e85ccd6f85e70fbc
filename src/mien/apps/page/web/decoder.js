// The page's decoder: workers that draw frames, and the frames that are drawn already.

/** How many workers: all but one of the processor's threads, at most 4, and 1 where the device says little of itself. */
export function usualThreads() {
  const wanted = Number(new URLSearchParams(location.search).get("threads"));
  if (wanted >= 1) return Math.min(Math.round(wanted), 8);
  return Math.max(1, Math.min((navigator.hardwareConcurrency || 2) - 1, 4));
}

const PAUSE = 500; // milliseconds without work, after which the frames drawn a second are counted anew

class Thread {
  constructor() {
    this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.waiting = new Map();
    this.next = 0;
    this.worker.onmessage = ({ data }) => {
      const { resolve, reject } = this.waiting.get(data.id);
      this.waiting.delete(data.id);
      if (data.error) reject(new Error(data.error));
      else resolve(data);
    };
    this.worker.onerror = (event) => {
      for (const { reject } of this.waiting.values()) reject(new Error(event.message || "the decoder does not start"));
      this.waiting.clear();
    };
  }

  ask(work, message) {
    return new Promise((resolve, reject) => {
      const id = this.next++;
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ ...message, work, id });
    });
  }

  get idle() {
    return this.waiting.size === 0;
  }
}

export class Decoder {
  constructor(threads = usualThreads()) {
    this.count = threads;
    this.threads = [];
    this.drawn = []; // when: milliseconds
    this.costs = []; // milliseconds of a worker
  }

  /** Starts the workers on a pack (an ArrayBuffer). Ready when the first one is. */
  async load(wasm, pack) {
    for (const thread of this.threads) thread.worker.terminate();
    this.threads = Array.from({ length: this.count }, () => new Thread());
    this.starting = this.threads.map((thread) => thread.ask("load", { wasm, pack }));
    for (const one of this.starting) one.catch(() => {});
    await this.starting[0];
  }

  /** Makes all workers draw one person; resolves to the shift of the channels when the first one can. */
  async become(person) {
    const ready = new Set();
    this.ready = ready;
    const all = this.threads.map(async (thread, i) => {
      await this.starting[i];
      const answer = await thread.ask("become", person);
      ready.add(thread);
      return answer.shift;
    });
    for (const one of all) one.catch(() => {});
    return Promise.any(all).catch((error) => {
      throw error.errors[0];
    });
  }

  /** A worker that has nothing to do, or undefined. */
  free() {
    return this.threads.find((thread) => thread.idle && this.ready?.has(thread));
  }

  /** The pixels of one frame, RGBA, by a worker. */
  async draw(thread, request) {
    const began = performance.now();
    const paused = began - (this.drawn.at(-1) ?? 0) > PAUSE && this.threads.every((one) => one.idle);
    if (paused) this.drawn = [began];
    const { pixels, milliseconds } = await thread.ask("frame", request);
    const now = performance.now();
    this.drawn.push(now);
    while (this.drawn.length > 1 && (now - this.drawn[0] > 4000 || this.drawn.length > 240)) this.drawn.shift();
    this.costs.push(milliseconds);
    if (this.costs.length > 16) this.costs.shift();
    return pixels;
  }

  /** Frames drawn a second, over the last ones in a row. */
  fps() {
    const { drawn } = this;
    if (drawn.length < 2) return 0;
    return ((drawn.length - 1) * 1000) / (drawn.at(-1) - drawn[0]);
  }

  /** Frames that all workers together can draw a second, whether they are asked for as many or not; 0 if not known. */
  able() {
    const { costs } = this;
    return costs.length ? (1000 * (this.ready?.size || 1) * costs.length) / costs.reduce((a, b) => a + b) : 0;
  }
}
