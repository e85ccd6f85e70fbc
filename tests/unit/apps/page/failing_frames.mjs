// What the page's Frames does where no frame can be drawn; prints a JSON object.
// node failing_frames.mjs WEB_FOLDER
import path from "node:path";
import { pathToFileURL } from "node:url";

const { Frames } = await import(pathToFileURL(path.join(process.argv[2], "frames.js")));
let asked = 0;
const thread = {};
const decoder = { free: () => thread, draw: async () => new Uint8ClampedArray(4) };
const frames = new Frames(decoder, () => {
  if (++asked > 100) process.exit(1); // it tries for ever
  throw new Error("no face");
});
frames.count = 60;
frames.work(0, 1, 24);
await null;
const halted = asked;
frames.go();
const first = await frames.get(3).catch((error) => error.message);
const second = await frames.get(4).catch((error) => error.message);
console.log(JSON.stringify({ halted, asked, first, second }));
