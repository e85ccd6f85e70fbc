// Reads each file of a bundle (u32 length, bytes, ...) with the page's reader; prints a JSON line for each.
// node read_bundle.mjs WEB_FOLDER BUNDLE
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [web, bundle] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(path.join(web, name)));
const { readPerson, readStream } = await load("stream.js");
const { crc32 } = await load("crc32.js");
const { StreamError } = await load("errors.js");
const data = fs.readFileSync(bundle);
for (let at = 0; at < data.length; ) {
  const length = data.readUInt32LE(at);
  const file = new Uint8Array(data.subarray(at + 4, at + 4 + length));
  at += 4 + length;
  try {
    if (file[1] === 0x50) {
      const { pack, packName, name, resolution, identity, tuning } = readPerson(file);
      console.log(JSON.stringify({ pack, packName, name, resolution, identity: Array.from(identity), tuning: crc32(tuning) }));
      continue;
    }
    const s = readStream(file);
    console.log(JSON.stringify({
      pack: s.pack, packName: s.packName, resolution: s.resolution, fps: s.fps, frames: s.frames, channels: s.channels,
      frameSize: s.frameSize, identity: Array.from(s.identity), motion: crc32(s.frameBytes), first: Array.from(s.motion.subarray(0, 35)),
      placement: s.placement && Array.from(s.placement), tuning: crc32(s.tuning), sound: crc32(s.sound),
      person: s.person, personName: s.personName }));
  } catch (error) {
    // Anything but a StreamError is a fault of the reader's.
    console.log(JSON.stringify({ refused: error.message, fault: error instanceof StreamError ? null : String(error.stack) }));
  }
}
