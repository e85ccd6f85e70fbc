// The 35 curves of a stream beside the face, in groups, with the place that is playing.

const COLOURS = { pose: "#8ab4ff", mouth: "#ff8f6b", jaw: "#ffc46b", eyes: "#6be0c1", brows: "#c79bff", gaze: "#7fd4ff",
  other: "#9aa4b2" };

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

  /** `motion`: frames x 35, as they are drawn (bent). */
  show(motion, count, groups) {
    Object.assign(this, { motion, count, groups });
    this.paint();
  }

  paint() {
    const { canvas, motion, count, groups } = this;
    if (!groups.length || !canvas.clientWidth) return;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const c = canvas.getContext("2d");
    c.scale(ratio, ratio);
    const band = height / groups.length;
    groups.forEach(({ name, colour, members }, g) => {
      const top = g * band;
      c.fillStyle = g % 2 ? "#10151d" : "#131a24";
      c.fillRect(0, top, width, band);
      members.forEach((member, m) => {
        let [least, most] = [Infinity, -Infinity];
        for (let t = 0; t < count; t++) {
          least = Math.min(least, motion[35 * t + member]);
          most = Math.max(most, motion[35 * t + member]);
        }
        const span = most - least || 1;
        const own = (band - 10) / Math.max(members.length, 3);
        const centre = top + 5 + (band - 10) * ((m + 0.5) / members.length);
        c.beginPath();
        for (let t = 0; t < count; t++) {
          const x = count > 1 ? (t / (count - 1)) * width : 0;
          const y = centre - ((motion[35 * t + member] - least) / span - 0.5) * own * 1.6;
          if (t) c.lineTo(x, y);
          else c.moveTo(x, y);
        }
        c.strokeStyle = colour;
        c.globalAlpha = 0.85;
        c.lineWidth = 1.25;
        c.stroke();
        c.globalAlpha = 1;
      });
      c.font = "600 11px system-ui, sans-serif";
      const label = `${name} ${members.length}`;
      c.fillStyle = "rgba(13,17,23,.72)";
      c.fillRect(6, top + 5, c.measureText(label).width + 10, 17);
      c.fillStyle = colour;
      c.fillText(label, 11, top + 17);
    });
  }
}

