// StyleFlow (Abdal et al. 2021) as nets/styleflow.py has it: the first rows of W+ to a prior, and back at other angles.

const EPSILON = 1e-4; // of the normalisations

export class Flow {
  constructor(memory, pack) {
    this.memory = memory;
    const { flow, pose } = pack.description.networks.flow;
    this.pose = pose;
    this.config = flow;
    this.dim = flow.dim;
    this.rows = pose.rows;
    this.scale = flow.condition_scale?.length ? flow.condition_scale : Array(flow.condition).fill(1);
    const at = (name) => memory.tensor(pack, `flow.flow.${name}`);
    const widths = [flow.dim, ...flow.hidden, flow.dim];
    this.layers = widths.slice(1).map((width, i) => ({
      inputs: widths[i], outputs: width,
      weight: at(`layers.${i}.layer.weight`), bias: at(`layers.${i}.layer.bias`),
      gate: at(`layers.${i}.gate.weight`), gateBias: at(`layers.${i}.gate.bias`), shift: at(`layers.${i}.shift.weight`),
    }));
    const [end] = memory.view(at("sqrt_end_time"), 1);
    this.end = Math.fround(end * end);
    this.normIn = this.norm(at, "norm_in");
    this.normOut = this.norm(at, "norm_out");
    const times = 2 * flow.steps + 1;
    this.conditions = memory.zeros(times * this.rows * (flow.condition + 1));
    for (const layer of this.layers) {
      layer.gates = memory.zeros(times * this.rows * layer.outputs);
      layer.shifts = memory.zeros(times * this.rows * layer.outputs);
    }
    const widest = this.rows * Math.max(...widths);
    this.places = [memory.zeros(widest), memory.zeros(widest)];
  }

  norm(at, name) {
    const numbers = (part) => this.memory.view(at(`${name}.${part}`), this.dim).slice();
    return { weight: numbers("weight"), bias: numbers("bias"), mean: numbers("running_mean"), v: numbers("running_var") };
  }

  forwardNorm(x, { weight, bias, mean, v }) {
    return x.map((value, i) => {
      const d = i % this.dim;
      return (value - mean[d]) * (Math.exp(weight[d]) / Math.sqrt(v[d] + EPSILON)) + bias[d];
    });
  }

  inverseNorm(x, { weight, bias, mean, v }) {
    return x.map((value, i) => {
      const d = i % this.dim;
      return (value - bias[d]) * (Math.sqrt(v[d] + EPSILON) * Math.exp(-weight[d])) + mean[d];
    });
  }

  /** Gates and shifts of all layers at the times that RK4 looks at: they do not depend on the latent. */
  bend(yaw, pitch, reverse) {
    const { memory, rows, pose, config } = this;
    const width = config.condition + 1;
    const times = 2 * config.steps + 1;
    const c = memory.view(this.conditions, times * rows * width);
    const h = (this.end / config.steps) * (reverse ? -1 : 1);
    for (let t = 0; t < times; t++) {
      for (let row = 0; row < rows; row++) {
        const at = (t * rows + row) * width;
        c[at] = (reverse ? this.end : 0) + (h / 2) * t;
        for (let k = 0; k < config.condition; k++) {
          let value = pose.neutral[k];
          if (k === pose.yaw) value = yaw;
          if (k === pose.pitch) value = pitch;
          if (pose.row_code >= 0 && k >= pose.row_code && k < pose.row_code + rows) value = k - pose.row_code === row ? 1 : 0;
          c[at + 1 + k] = value / this.scale[k];
        }
      }
    }
    for (const l of this.layers) {
      memory.native.linear(this.conditions, l.gate, l.gateBias, l.gates, times * rows, width, l.outputs, 1);
      memory.native.linear(this.conditions, l.shift, 0, l.shifts, times * rows, width, l.outputs, 1);
      const gates = memory.view(l.gates, times * rows * l.outputs);
      for (let i = 0; i < gates.length; i++) gates[i] = 1 / (1 + Math.exp(-gates[i]));
    }
    return h;
  }

  velocity(x, time) {
    const { memory, rows } = this;
    let [from, to] = this.places;
    memory.view(from, x.length).set(x);
    this.layers.forEach((l, i) => {
      memory.native.linear(from, l.weight, l.bias, to, rows, l.inputs, l.outputs, 1);
      const count = rows * l.outputs;
      const y = memory.view(to, count);
      const gates = memory.view(l.gates + 4 * time * count, count);
      const shifts = memory.view(l.shifts + 4 * time * count, count);
      const last = i === this.layers.length - 1;
      for (let k = 0; k < count; k++) {
        const value = y[k] * gates[k] + shifts[k];
        y[k] = last ? value : Math.tanh(value);
      }
      [from, to] = [to, from];
    });
    return memory.view(from, x.length).slice();
  }

  integrate(start, yaw, pitch, reverse) {
    const h = this.bend(yaw, pitch, reverse);
    let x = start;
    const moved = (k, by) => x.map((value, i) => value + by * k[i]);
    for (let i = 0; i < 2 * this.config.steps; i += 2) {
      const k1 = this.velocity(x, i);
      const k2 = this.velocity(moved(k1, h / 2), i + 1);
      const k3 = this.velocity(moved(k2, h / 2), i + 1);
      const k4 = this.velocity(moved(k3, h), i + 2);
      x = x.map((value, n) => value + (h / 6) * (k1[n] + 2 * (k2[n] + k3[n]) + k4[n]));
    }
    return x;
  }

  /** The pose-free code of an identity latent that faces the camera. */
  prior(identity) {
    const x = this.forwardNorm(identity.slice(0, this.rows * this.dim), this.normIn);
    return this.forwardNorm(this.integrate(x, 0, 0, false), this.normOut);
  }

  /** The first rows of the latent at these angles in degrees, within what the flow was trained for. */
  withPose(prior, yaw, pitch) {
    const most = this.pose.limit;
    const inside = (angle) => Math.min(Math.max(angle, -most), most);
    const x = this.integrate(this.inverseNorm(prior, this.normOut), inside(yaw), inside(pitch), true);
    return this.inverseNorm(x, this.normIn);
  }
}
