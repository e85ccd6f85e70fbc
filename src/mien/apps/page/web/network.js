// The pack's networks on the compiled kernels: 34 numbers to a picture (Eq. 4 and 13 of the paper), as
// nets/decoder/decoder.py does it. One instance serves one thread and one person at a time.

import { check } from "./errors.js";
import { Flow } from "./flow.js";
import { Memory } from "./memory.js";
import { readTuning } from "./tuning.js";

const ROWS_OF_TILES = 8; // from which on a block's two layers run in one go,
const WEIGHT_IN_CACHE = 2e6; // if the first one's transformed weight, in bytes, is no larger
// F(4x4, 3x3)'s transform of the weights, and F(4, 2)'s of the taps of a transposed convolution: see prepared.py.
const G = [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6],
  [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]];
const EVEN = [[0, 0, 1 / 2], [-1 / 2, 0, -1 / 2], [1 / 6, 0, -1 / 6], [1 / 3, 0, 1 / 6], [1, 0, 0]];
const ODD = [[0, 1, 0]];
const kron = (a, b) => a.flatMap((x) => b.map((y) => x.flatMap((u) => y.map((v) => u * v))));
const unit = (k) => Array.from({ length: 9 }, (_, i) => (i === k ? 1 : 0));
const PLAIN_ROWS = kron(G, G);
const UP_ROWS = [EVEN, ODD].flatMap((a) => [EVEN, ODD].flatMap((b) => kron(a, b)));
const BORDER_ROWS = [6, 7, 8, 2, 5, 8].map(unit);

/** The StyleSpace map of a generator: style_layers of nets/stylegan2.py. */
function styleLayers({ channels }) {
  const layers = [];
  channels.forEach((outputs, i) => {
    const size = 4 * 2 ** i;
    const row = i ? 2 * i - 1 : 0;
    if (i) layers.push({ size, row, inputs: channels[i - 1], outputs, up: true });
    layers.push({ size, row: row + (i ? 1 : 0), inputs: outputs, outputs, up: false });
    layers.push({ size, row: row + (i ? 2 : 1), inputs: outputs, outputs: 3, rgb: true });
  });
  return layers.map((layer, index) => ({ ...layer, index }));
}

export class Network {
  constructor(instance, pack) {
    this.pack = pack;
    this.memory = new Memory(instance);
    this.native = instance.exports;
    this.config = pack.description.networks.generator;
    check(this.config.kind === "stylegan2" && pack.description.networks.flow.kind === "styleflow",
      "this page draws StyleGAN2 generators only");
    this.layers = styleLayers(this.config);
    this.convolutions = this.layers.filter((layer) => !layer.rgb);
    this.size = this.config.resolution;
    this.width = this.config.w_dim;
    this.clamp = this.config.clamp ?? Infinity;
    this.flow = new Flow(this.memory, pack);
    for (const layer of this.layers) this.layOut(layer);
    this.steps = this.inOneGo();
    this.space();
    this.names = ["const", ...this.layers.flatMap(({ index, rgb }) =>
      ["bias", ...(rgb || !this.config.noise ? [] : ["noise_const"]), "conv.weight"].map((n) => `blocks.${index}.${n}`))];
    this.fixed = this.native.heap_mark();
  }

  /** Places for a layer's constants and its style, the affine's weights filled in. */
  layOut(layer) {
    const { memory, pack } = this;
    const { inputs, outputs, up, index } = layer;
    layer.affine = memory.tensor(pack, `generator.blocks.${index}.affine.weight`);
    layer.affineBias = memory.tensor(pack, `generator.blocks.${index}.affine.bias`);
    layer.style = memory.zeros(inputs);
    layer.bias = memory.zeros(outputs);
    if (layer.rgb) {
      layer.weight = memory.zeros(3 * inputs);
      layer.modulated = memory.zeros(3 * inputs);
      layer.picture = memory.zeros(3 * layer.size ** 2);
      return;
    }
    const padded = Math.ceil(outputs / 16) * 16;
    layer.weight = memory.zeros(36 * padded * inputs);
    layer.border = up ? memory.zeros(6 * padded * inputs) : 0;
    layer.energy = memory.zeros(outputs * inputs);
    layer.gain = memory.zeros(outputs);
    layer.noise = memory.zeros(layer.size ** 2);
    layer.from = up ? layer.size / 2 : layer.size;
    layer.address = memory.zeros(24);
  }

  /** The layers in order, an upsampling one and the next together where that stays in the cache. */
  inOneGo() {
    const steps = [];
    for (const layer of this.convolutions) {
      const before = steps.at(-1);
      const fits = before?.length === 1 && before[0].up && before[0].from / 4 >= ROWS_OF_TILES &&
        144 * before[0].inputs * before[0].outputs <= WEIGHT_IN_CACHE;
      if (fits) before.push(layer);
      else steps.push([layer]);
    }
    return steps;
  }

  /** Feature maps, and what the kernels work in. */
  space() {
    const { memory, native } = this;
    const map = (size, channels) => memory.zeros((size + 2) ** 2 * channels);
    this.start = map(4, this.config.channels[0]);
    this.scratch = memory.zeros(native.scratch_size(Math.max(...this.convolutions.map((l) => l.inputs))));
    let spread = 0;
    let between = 0;
    for (const step of this.steps) {
      const [first, last] = [step[0], step.at(-1)];
      last.map = last.size === this.size && !last.up ? 0 : map(last.size, last.outputs);
      if (step.length === 2) between = Math.max(between, native.block_size(2 * first.from, first.outputs));
      else if (first.up) spread = Math.max(spread, (first.size + 1) * (first.size + 2) * first.outputs);
    }
    this.spread = memory.zeros(spread);
    this.between = memory.zeros(between);
    this.squares = memory.zeros(this.width + Math.max(...this.layers.map((l) => l.inputs)));
    this.latent = memory.zeros(this.width * this.layers.reduce((n, l) => Math.max(n, l.row + 1), 0));
    this.rgba = native.malloc(4 * this.size ** 2);
    this.field = memory.zeros(this.size ** 2);
  }

  /**
   * Takes on a person: `identity` (L x D), and `tuning`, the bytes of tuned weights (none: the pack's own). `mark`: the
   * invisible mark that every picture gets (watermark.js).
   */
  become(identity, tuning, mark) {
    check(mark.field.length <= this.size ** 2, "the mark does not fit the pack");
    this.memory.view(this.field, mark.field.length).set(mark.field);
    this.gain = [Math.sqrt(mark.field.length), mark.flat, mark.slope, mark.most];
    check(identity.length === (this.layers.at(-1).row + 1) * this.width, "the identity latent does not fit the pack");
    const { memory, native, pack } = this;
    const shapes = this.names.map((name) => pack.tensors.get(`generator.${name}`).shape);
    const differences = readTuning(tuning, shapes);
    native.heap_release(this.fixed);
    this.names.forEach((name, i) => memory.temporarily(() => {
      const at = memory.tensor(pack, `generator.${name}`);
      this.add(at, differences[i], shapes[i]);
      this.take(name, at, shapes[i]);
    }));
    this.identity = identity;
    this.prior = this.flow.prior(identity);
  }

  add(at, difference, shape) {
    if (!difference) return;
    const { memory, native } = this;
    const count = shape.reduce((a, b) => a * b, 1);
    if (difference.steps) {
      const from = memory.zeros((count + 3) >> 2);
      memory.renew();
      new Int8Array(memory.buffer, from, count).set(difference.steps);
      native.add_steps(from, difference.step, at, count);
    } else if (difference.whole) {
      const to = memory.view(at, count);
      for (let i = 0; i < count; i++) to[i] += difference.whole[i];
    } else {
      const { b, a, rank, scale } = difference;
      native.add_low_rank(at, memory.put(b), memory.put(a), rank, shape[0], shape[1], shape[2], scale);
    }
  }

  /** Stores a tensor of the generator as the kernels read it. */
  take(name, at, shape) {
    const { memory, native } = this;
    const count = shape.reduce((a, b) => a * b, 1);
    const numbers = memory.view(at, count);
    if (name === "const") {
      const [, channels] = shape;
      const map = memory.view(this.start, 36 * channels);
      for (let c = 0; c < channels; c++) {
        for (let p = 0; p < 16; p++) map[((p >> 2) * 6 + 7 + (p & 3)) * channels + c] = numbers[16 * c + p];
      }
      return;
    }
    const [, index, part] = name.split(".");
    const layer = this.layers[Number(index)];
    const gain = layer.rgb ? 1 : Math.SQRT2;
    if (part === "bias") {
      memory.view(layer.bias, count).set(numbers.map((x) => x * gain));
    } else if (part === "noise_const") {
      const strength = memory.view(memory.tensor(this.pack, `generator.blocks.${index}.noise_strength`), 1)[0];
      memory.view(layer.noise, count).set(memory.view(at, count).map((x) => x * strength * gain));
      layer.noisy = strength !== 0 && memory.view(layer.noise, count).some((x) => x !== 0);
    } else {
      const scale = 1 / Math.sqrt(layer.inputs * (layer.rgb ? 1 : 9));
      for (let i = 0; i < count; i++) numbers[i] *= scale;
      if (layer.rgb) memory.view(layer.weight, count).set(numbers);
      else this.transform(layer, at);
    }
  }

  transform(layer, at) {
    const { memory, native } = this;
    native.energies(at, layer.energy, layer.outputs * layer.inputs, 9);
    const rows = layer.up ? UP_ROWS : PLAIN_ROWS;
    native.transform(at, memory.put(rows.flat()), layer.weight, 36, layer.outputs, layer.inputs);
    if (layer.up) native.transform(at, memory.put(BORDER_ROWS.flat()), layer.border, 6, layer.outputs, layer.inputs);
  }

  /** The values of channels [[layer, index]] in A(`identity`), which faces the camera. */
  channelValues(identity, channels) {
    this.memory.view(this.latent, identity.length).set(identity);
    return channels.map(([layer, index]) => {
      check(this.layers[layer] && index < this.layers[layer].inputs, "the stream names a channel that the pack has not");
      const { row, affine, affineBias } = this.layers[layer];
      const from = this.latent + 4 * this.width * row;
      this.native.linear(from, affine + 4 * this.width * index, affineBias + 4 * index, this.squares, 1, this.width, 1,
        1 / Math.sqrt(this.width));
      return this.memory.view(this.squares, 1)[0];
    });
  }

  /** One frame, RGBA, of angles in degrees and what to add on `channels`. */
  frame(yaw, pitch, alpha, channels) {
    return this.memory.temporarily(() => {
      this.style(yaw, pitch, alpha, channels);
      this.draw();
      this.native.to_rgba(this.layers.at(-1).picture, this.rgba, this.size ** 2);
      this.native.watermark(this.rgba, this.field, this.size, ...this.gain);
      this.memory.renew();
      return new Uint8ClampedArray(this.memory.buffer.slice(this.rgba, this.rgba + 4 * this.size ** 2));
    });
  }

  /** A(LH) + alpha, and what depends on it alone. */
  style(yaw, pitch, alpha, channels) {
    const { memory, native, width } = this;
    memory.view(this.latent, this.identity.length).set(this.identity);
    const rows = this.flow.withPose(this.prior, yaw, pitch);
    memory.view(this.latent, rows.length).set(rows);
    for (const l of this.layers) {
      native.linear(this.latent + 4 * width * l.row, l.affine, l.affineBias, l.style, 1, width, l.inputs, 1 / Math.sqrt(width));
    }
    const { floats } = memory;
    channels.forEach(([layer, index], k) => {
      floats[(this.layers[layer].style >> 2) + index] += alpha[k];
    });
    for (const l of this.layers) {
      if (!l.rgb) {
        native.gains(l.energy, l.style, this.squares, l.gain, l.inputs, l.outputs);
        continue;
      }
      const [style, weight, out] = [l.style >> 2, l.weight >> 2, l.modulated >> 2];
      for (let o = 0; o < 3; o++) {
        for (let c = 0; c < l.inputs; c++) floats[out + o * l.inputs + c] = floats[weight + o * l.inputs + c] * floats[style + c];
      }
    }
  }

  draw() {
    const { native } = this;
    let x = this.start;
    let low = 0;
    for (const step of this.steps) {
      const [first, last] = [step[0], step.at(-1)];
      const rgb = last.up ? null : this.layers[last.index + 1];
      if (rgb) low = this.beginPicture(rgb, low);
      for (const layer of step) this.describe(layer, layer === first ? x : 0, layer === last ? last.map : 0, layer === last ? rgb : null);
      if (step.length === 2) {
        native.block(first.address, last.address, this.between);
      } else if (first.up) {
        native.spreading_layer(first.address);
        native.filtering_layer(first.address);
      } else {
        native.convolution_layer(first.address);
      }
      x = last.map;
    }
  }

  /** The sum of the RGB layers before, at twice its size, plus this one's bias. */
  beginPicture(rgb, low) {
    if (low) {
      this.native.upsample_rgb(low, rgb.bias, rgb.picture, rgb.size / 2, rgb.size / 2, 0, rgb.size / 2);
    } else {
      const bias = this.memory.view(rgb.bias, 3);
      const picture = this.memory.view(rgb.picture, 3 * rgb.size ** 2);
      for (let i = 0; i < picture.length; i++) picture[i] = bias[i % 3];
    }
    return rgb.picture;
  }

  /** The struct `Layer` of synthesis.c. */
  describe(l, x, y, rgb) {
    const { words, floats } = this.memory;
    const at = l.address >> 2;
    words.set([x, l.weight, 0, 0, l.style, l.gain, l.bias, l.noisy ? l.noise : 0, rgb ? rgb.modulated : 0, l.border, y,
      rgb ? rgb.picture : 0, this.spread, this.scratch], at);
    floats[at + 14] = this.clamp;
    words.set([l.from, l.from, l.inputs, l.outputs, 0, l.from / 4, l.from + 2, l.size + 2, l.size + 2], at + 15);
  }
}
