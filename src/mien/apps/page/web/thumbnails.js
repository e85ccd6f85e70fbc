// The small pictures of those who can be chosen, drawn one after the other while the player has nothing to do.

import { Decoder } from "./decoder.js";

export class Thumbnails {
  constructor(player) {
    this.player = player;
    this.busy = false;
    this.drawn = new Map();
  }

  /** Draws the next one, once the whole clip is drawn or nothing plays. */
  async work() {
    const { player } = this;
    const next = player.faces.find((face) => face.picture && !face.shown);
    if (!next || this.busy || (player.playing && player.frames.done.size < player.stream.frames)) return;
    this.busy = true;
    try {
      if (this.loaded !== player.about.pack) {
        this.decoder = new Decoder(1);
        await this.decoder.load(player.wasm, player.buffer);
        this.loaded = player.about.pack;
      }
      await this.draw(next);
    } catch {
      next.shown = true; // the face can be chosen without a picture
    } finally {
      this.busy = false;
    }
  }

  async draw(face) {
    const { channels, mark } = this.player.stream;
    const own = { identity: face.identity, tuning: face.tuning, mark, driver: face.identity, channels,
      shared: channels.map(() => false) };
    await this.decoder.become(own);
    const request = { yaw: 0, pitch: 0, alpha: channels.map(() => 0), channels };
    const pixels = await this.decoder.draw(this.decoder.free(), request);
    const side = Math.sqrt(pixels.length / 4);
    const whole = Object.assign(document.createElement("canvas"), { width: side, height: side });
    whole.getContext("2d").putImageData(new ImageData(pixels, side, side), 0, 0);
    face.picture.getContext("2d").drawImage(whole, 0, 0, face.picture.width, face.picture.height);
    face.shown = true;
  }
}
