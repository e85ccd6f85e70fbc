// Draws frames of a page's stream by the page's own decoder in node; writes RGBA frames to OUT.
// node draw.mjs PAGE_FOLDER STREAM_NUMBER OUT INDEX...
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [folder, number, out, ...indices] = process.argv.slice(2);
// The page's files are modules by how the page loads them; node needs to be told.
fs.writeFileSync(path.join(folder, "package.json"), '{"type": "module"}');
const load = (name) => import(pathToFileURL(path.resolve(folder, name)));
const bytes = (name) => new Uint8Array(fs.readFileSync(path.join(folder, name)));
const { readPerson, readStream } = await load("stream.js");
const { readPack } = await load("pack.js");
const { readMark } = await load("watermark.js");
const { Network } = await load("network.js");
const facts = JSON.parse(fs.readFileSync(path.join(folder, "page.json")));
const about = facts.streams[Number(number)];
const stream = readStream(bytes(about.file));
const { instance } = await WebAssembly.instantiate(bytes("mien.wasm"));
const network = new Network(instance, readPack(bytes(facts.packs[about.pack].file).slice().buffer));
const weights = stream.person ? readPerson(bytes(facts.persons[stream.person])).tuning : stream.tuning;
network.become(stream.identity, weights, readMark(bytes(about.mark), facts.watermark));
const frames = indices.map(Number).map((i) => {
  const row = stream.motion.subarray(35 * i, 35 * i + 35);
  return Buffer.from(network.frame(row[1], row[2], row.subarray(3), stream.channels));
});
fs.writeFileSync(out, Buffer.concat(frames));
