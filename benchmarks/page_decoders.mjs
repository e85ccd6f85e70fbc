// Frames a second of the web page's decoder and of onnxruntime-web on the same generator, in node, on one thread each.
//
//   mien page examples/clip.mien -o /tmp/page && mien models export mini -o /tmp/onnx
//   npm install --prefix /tmp/ort onnxruntime-web@1.30.0
//   node benchmarks/page_decoders.mjs /tmp/page /tmp/onnx/generator.onnx /tmp/ort/node_modules/onnxruntime-web/dist/ort.wasm.min.mjs [SECONDS]
//
// Both draw from latents and 32 channels; the page's decoder also runs the flow, makes bytes and adds its mark. They take
// turns of a second, since a machine's speed drifts.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [folder, model, runtime, seconds = 20] = process.argv.slice(2);
fs.writeFileSync(path.join(folder, "package.json"), '{"type": "module"}'); // node takes the page's files for modules
const load = (name) => import(pathToFileURL(path.resolve(folder, name)));
const bytes = (name) => new Uint8Array(fs.readFileSync(path.join(folder, name)));
const { readStream } = await load("stream.js");
const { readPack } = await load("pack.js");
const { readMark } = await load("watermark.js");
const { Network } = await load("network.js");

const facts = JSON.parse(fs.readFileSync(path.join(folder, "page.json")));
const [about] = facts.streams;
const stream = readStream(bytes(about.file));

const { instance } = await WebAssembly.instantiate(bytes("mien.wasm"));
const network = new Network(instance, readPack(bytes(facts.packs[about.pack].file).slice().buffer));
network.become(stream.identity, stream.tuning, readMark(bytes(about.mark), facts.watermark));
const motion = (i) => stream.motion.slice(35 * (i % stream.frames), 35 * (i % stream.frames) + 35);
const ort = await import(pathToFileURL(path.resolve(runtime)));
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(fs.readFileSync(model), { executionProviders: ["wasm"] });
const latent = new ort.Tensor("float32", stream.identity, [1, stream.rows, stream.columns]);

const decoders = {
  page: async (i) => network.frame(motion(i)[1], motion(i)[2], motion(i).subarray(3), stream.channels),
  "onnxruntime-web": async (i) => {
    const alpha = new ort.Tensor("float32", motion(i).slice(3), [1, 32]);
    return (await session.run({ w_plus: latent, alpha })).image.data;
  },
};
const times = Object.fromEntries(Object.keys(decoders).map((name) => [name, []]));
for (let turn = 0; turn < seconds; turn++) {
  for (const [name, draw] of Object.entries(decoders)) {
    await draw(0); // caches and clocks settle
    for (const end = performance.now() + 1000; performance.now() < end; ) {
      const before = performance.now();
      await draw(times[name].length);
      times[name].push(performance.now() - before);
    }
  }
}
for (const [name, all] of Object.entries(times)) {
  all.sort((a, b) => a - b);
  const mean = all.reduce((a, b) => a + b) / all.length;
  console.log(`${name}: ${(1000 / mean).toFixed(2)} frames/s, median ${all[all.length >> 1].toFixed(1)} ms, best ` +
    `${all[0].toFixed(1)} ms, ${all.length} frames`);
}
process.exit(0);
