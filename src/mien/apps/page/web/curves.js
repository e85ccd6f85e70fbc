// The 35 curves of a stream beside the face, in groups, with the place that is playing.

const COLOURS = { pose: "#8ab4ff", mouth: "#ff8f6b", jaw: "#ffc46b", eyes: "#6be0c1", brows: "#c79bff", gaze: "#7fd4ff",
  other: "#9aa4b2" };

const UNBENT = "#6b7686"; // how a curve ran before it was bent

/** [{name, colour, members: indices into a frame's 35 numbers}] by the pack's channels. */
export function groupsOf(stream, pack) {
  const known = new Map(pack.channels.map((c) => [`${c.layer},${c.index}`, c]));
  const groups = [{ name: "pose", members: [0, 1, 2] }];
  stream.channels.forEach(([layer, index], k) => {
    const name = known.get(`${layer},${index}`)?.attribute ?? "other";
    const group = groups.find((one) => one.name === name) ?? groups[groups.push({ name, members: [] }) - 1];
    group.members.push(3 + k);
  });
  return groups.map((group) => ({ ...group, colour: COLOURS[group.name] ?? COLOURS.other }));
}

export class Curves {
  /** `seek(share)`: called where the curves are touched, 0 to 1. */
  constructor(canvas, seek) {
    this.canvas = canvas;
    this.groups = [];
    const at = (event) => seek(Math.min(Math.max(event.offsetX / canvas.clientWidth, 0), 1));
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      at(event);
    });
    canvas.addEventListener("pointermove", (event) => event.buttons && at(event));
    new ResizeObserver(() => this.paint()).observe(canvas);
  }

  /** `own`, `bent`: frames x 35, as the stream has them and as they are drawn; the same array where nothing is bent. */
  show(own, bent, count, groups) {
    Object.assign(this, { own, bent, count, groups });
    this.paint();
  }

  paint() {
    const { canvas, own, bent, groups } = this;
    if (!groups.length || !canvas.clientWidth) return;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const c = canvas.getContext("2d");
    c.scale(ratio, ratio);
    const shares = groups.map(({ members }) => Math.sqrt(members.length)); // many curves need more room, few not none
    const whole = shares.reduce((a, b) => a + b);
    let top = 0;
    groups.forEach(({ name, colour, members }, g) => {
      const band = (height * shares[g]) / whole;
      c.fillStyle = g % 2 ? "#10151d" : "#131a24";
      c.fillRect(0, top, width, band);
      c.save();
      c.beginPath();
      c.rect(0, top, width, band);
      c.clip();
      members.forEach((member, m) => {
        const moved = own !== bent && bent[member] !== own[member];
        const place = this.placeOf(member, top + 5 + (band - 10) * ((m + 0.5) / members.length), members.length, band);
        c.strokeStyle = moved ? UNBENT : colour;
        this.line(c, own, member, width, place, moved ? 1 : 1.25);
        c.strokeStyle = colour;
        if (moved) this.line(c, bent, member, width, place, 1.75);
      });
      c.restore();
      c.font = "600 11px system-ui, sans-serif";
      const label = `${name} ${members.length}`;
      c.fillStyle = "rgba(13,17,23,.72)";
      c.fillRect(6, top + 5, c.measureText(label).width + 10, 17);
      c.fillStyle = colour;
      c.fillText(label, 11, top + 17);
      top += band;
    });
  }

  /** A number's height on the canvas: the stream's own range of it around `centre`, so that a bent curve is seen to leave it. */
  placeOf(member, centre, members, band) {
    let [least, most] = [Infinity, -Infinity];
    for (let t = 0; t < this.count; t++) {
      least = Math.min(least, this.own[35 * t + member]);
      most = Math.max(most, this.own[35 * t + member]);
    }
    const span = most - least || 1;
    const height = (1.6 * (band - 10)) / Math.max(members, 3);
    return (value) => centre - ((value - least) / span - 0.5) * height;
  }

  line(c, motion, member, width, place, thickness) {
    const { count } = this;
    c.beginPath();
    for (let t = 0; t < count; t++) {
      const x = count > 1 ? (t / (count - 1)) * width : 0;
      if (t) c.lineTo(x, place(motion[35 * t + member]));
      else c.moveTo(x, place(motion[35 * t + member]));
    }
    c.lineWidth = thickness;
    c.stroke();
  }
}
