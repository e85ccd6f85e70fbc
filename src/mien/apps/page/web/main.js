// The page's elements, and `window.mien`.

import { Curves } from "./curves.js";
import { Player } from "./player.js";
import { Thumbnails } from "./thumbnails.js";

const find = (id) => document.getElementById(id);
const PLAY = "M7 4l14 8-14 8z";
const PAUSE = "M6 4h4v16H6zM14 4h4v16h-4z";
const BENDS = { mouth: "Mouth", jaw: "Jaw", eyes: "Lids", brows: "Brows" };
const MOST_BEND = 2; // standard deviations
const count = (n) => Math.round(n).toLocaleString("en");

const player = new Player(find("sound"));
const context = find("face").getContext("2d");
const curves = new Curves(find("curves"), (share) => player.stream && player.seek(share * player.seconds));
const thumbnails = new Thumbnails(player);
let seen = null; // the picture on the canvas
let shown = ""; // what the counters say

function notice(text, small = false) {
  find("notice").hidden = !text;
  find("notice").textContent = text;
  find("notice").classList.toggle("small", small);
}

function showPlaying() {
  find("icon").setAttribute("d", player.playing ? PAUSE : PLAY);
  find("play").setAttribute("aria-label", player.playing ? "Pause" : "Play");
}

function toggle() {
  if (player.playing) player.pause();
  else player.play();
  showPlaying();
}

function showCurves() {
  const bent = Object.keys(player.bends).length > 0;
  curves.show(player.stream.motion, bent ? player.motion() : player.stream.motion, player.stream.frames, player.groups);
  find("straighten").disabled = !bent;
}

/** One slider for each attribute that moves in the stream. */
function showBends() {
  find("bends").replaceChildren(...Object.keys(player.about.bends).map((name) => {
    const label = document.createElement("label");
    const slider = Object.assign(document.createElement("input"), { type: "range", min: -MOST_BEND, max: MOST_BEND, step: 0.1, value: 0 });
    const value = document.createElement("output");
    slider.dataset.bend = name;
    value.textContent = "0";
    slider.addEventListener("input", () => {
      player.bend(name, Number(slider.value));
      value.textContent = `${slider.value > 0 ? "+" : ""}${slider.value}`;
      showCurves();
    });
    label.append(BENDS[name] ?? name, slider, value);
    return label;
  }));
}

function showChosen(face) {
  find("faces").querySelectorAll("button").forEach((button, i) => {
    button.setAttribute("aria-checked", String(player.faces[i] === face));
    button.tabIndex = player.faces[i] === face ? 0 : -1;
  });
}

async function choose(face) {
  showChosen(face);
  notice("Another face…", true);
  try {
    await player.see(face);
    notice("");
  } catch (error) {
    player.frames.fail(error);
    notice(error.message);
  }
}

function showFaces() {
  find("faces").replaceChildren(...player.faces.map((face, i) => {
    const button = Object.assign(document.createElement("button"), { title: face.name });
    button.setAttribute("role", "radio");
    button.setAttribute("aria-label", face.name);
    const picture = Object.assign(document.createElement("canvas"), { width: 64, height: 64 });
    face.picture = picture;
    button.append(picture);
    if (i < player.facts.streams.length && !face.name.startsWith("person ")) {
      button.append(Object.assign(document.createElement("em"), { textContent: face.name }));
    }
    button.addEventListener("click", () => choose(face));
    return button;
  }));
  showChosen(player.faces[0]);
}

/** Arrows move among the faces, as among radio buttons. */
function stepFaces(event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const buttons = [...find("faces").children];
  const next = (buttons.indexOf(event.target) + step + buttons.length) % buttons.length;
  buttons[next].focus();
  choose(player.faces[next]);
}

function showStream() {
  const { stream, about } = player;
  find("scrub").max = stream.frames - 1;
  find("mute").hidden = !player.hasSound;
  find("curve-note").textContent = `${stream.frames} frames at ${Number(player.rate.toFixed(2))} a second, ${stream.coded ? "coded" : "70 bytes each"}`;
  find("sentence").textContent = about.sentence;
  const weights = stream.bytes.tune ?? stream.onceBytes;
  const motion = stream.coded ? stream.bytes.CODE : stream.bytes.FRAM;
  find("once-bytes").textContent = count(stream.bytes.total + stream.onceBytes - motion);
  find("once-note").textContent = weights ? `latent ${count(stream.bytes.IDEN)}, person's weights ${count(weights)}` : "latent and header";
  find("clip-box").hidden = !about.clip;
  if (about.clip) {
    find("clip-name").textContent = `${about.clip.name}, up to here`;
    find("clip-note").textContent = `of ${count(about.clip.bytes)}`;
  }
  find("motion-note").textContent = `of ${count(motion)}; ${((8 * motion) / 1000 / player.seconds).toFixed(1)} kbit/s`;
  showBends();
  showFaces();
  showCurves();
  showPlaying();
}

function showPlace() {
  const { stream, about, index } = player;
  const motion = stream.coded ? stream.bytes.CODE : stream.bytes.FRAM;
  const share = (index + 1) / stream.frames;
  find("scrub").value = index;
  find("clock").textContent = `${player.position.toFixed(2)} s`;
  find("motion-bytes").textContent = count(motion * share);
  if (about.clip) find("clip-bytes").textContent = count(about.clip.bytes * share);
  find("head").style.left = `${(stream.frames > 1 ? index / (stream.frames - 1) : 0) * 100}%`;
  find("rate").textContent = player.decoder.fps() ? player.decoder.fps().toFixed(1) : "–";
  find("rate-note").textContent = `by ${player.decoder.count} thread${player.decoder.count > 1 ? "s" : ""}, ${player.frames.done.size} of ${stream.frames} kept`;
}

function loop(now) {
  if (player.shift) {
    player.tick(now);
    const image = player.newest();
    if (image && image !== seen) {
      seen = image;
      if (context.canvas.width !== image.width) context.canvas.width = context.canvas.height = image.width;
      context.putImageData(image, 0, 0);
    }
    const place = `${player.index} ${player.frames.done.size} ${player.about.file}`;
    if (place !== shown) showPlace();
    shown = place;
    if (player.frames.failed) notice(player.frames.failed.message);
    thumbnails.work();
  }
  requestAnimationFrame(loop);
}

find("play").addEventListener("click", toggle);
find("face").addEventListener("click", toggle);
find("scrub").addEventListener("input", (event) => player.seek((Number(event.target.value) + 1e-3) / player.rate));
find("speed").addEventListener("change", (event) => player.setSpeed(Number(event.target.value)));
find("mute").addEventListener("click", () => player.mute(!player.sound.muted));
find("sound").addEventListener("volumechange", () => {
  find("mute").textContent = player.sound.muted ? "Sound off" : "Sound on";
});
find("faces").addEventListener("keydown", stepFaces);
find("straighten").addEventListener("click", () => {
  for (const name of Object.keys(player.bends)) player.bend(name, 0);
  showBends();
  showCurves();
});
document.addEventListener("keydown", (event) => {
  if (event.code === "Space" && !["BUTTON", "SELECT"].includes(event.target.tagName)) {
    event.preventDefault();
    toggle();
  }
});
find("streams").addEventListener("change", async (event) => {
  notice("Loading…");
  find("streams").disabled = document.querySelector("main").inert = true;
  try {
    await player.open(Number(event.target.value));
    showStream();
    await player.see(player.faces[0]);
    notice("");
  } catch (error) {
    player.frames.fail(error);
    notice(error.message);
  } finally {
    find("streams").disabled = document.querySelector("main").inert = false;
  }
});

async function start() {
  const began = performance.now();
  await player.load();
  find("title").textContent = player.facts.title;
  document.title = `${player.facts.title} · mien`;
  find("streams-field").hidden = player.facts.streams.length < 2;
  find("streams").replaceChildren(...player.facts.streams.map((one, i) => new Option(one.name, i)));
  showStream();
  await player.frames.get(0);
  notice("");
  window.mien.firstFrame = performance.now() - began;
  player.play();
  showPlaying();
}

window.mien = {
  /** Settles when the first frame is drawn. */
  ready: null,
  get frames() {
    return player.stream?.frames ?? 0;
  },
  /** The picture of a frame: a promise of ImageData. */
  frame: (index) => {
    if (!Number.isInteger(index) || index < 0 || index >= player.stream.frames) {
      return Promise.reject(new RangeError(`there is no frame ${index}`));
    }
    return player.frames.get(index);
  },
  /** Frames drawn a second, lately. */
  fps: () => player.decoder.fps(),
};
window.mien.ready = start();
window.mien.ready.catch((error) => notice(error.message));
requestAnimationFrame(loop);
