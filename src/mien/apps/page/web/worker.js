// One thread of the decoder. Each worker has a network and memory of its own and draws whole frames, so no memory is
// shared and the page needs no special headers.

import { Network } from "./network.js";
import { readPack } from "./pack.js";

let network = null;

const WORK = {
  async load({ wasm, pack }) {
    network = new Network(await WebAssembly.instantiate(wasm, {}), readPack(pack));
  },

  /** A person, and how the driver's channels have to be shifted to mean the same on that person. */
  become({ identity, tuning, mark, driver, channels, shared }) {
    network.become(identity, tuning, mark);
    const [own, others] = [driver, identity].map((latent) => network.channelValues(latent, channels));
    return { shift: own.map((value, k) => (shared[k] ? value - others[k] : 0)) };
  },

  frame({ yaw, pitch, alpha, channels }) {
    const began = performance.now();
    const pixels = network.frame(yaw, pitch, alpha, channels);
    return { pixels, milliseconds: performance.now() - began };
  },
};

self.onmessage = async ({ data }) => {
  try {
    const result = await WORK[data.work](data);
    self.postMessage({ id: data.id, ...result }, result?.pixels ? [result.pixels.buffer] : []);
  } catch (error) {
    self.postMessage({ id: data.id, error: error.message });
  }
};
