// The studio's own elements: a player that keeps videos in step, a time line, a shelf of faces, channel sliders, a camera and
// the face that it drives.
// Each takes its data from an attribute (JSON) and speaks through bubbling events; nothing is fetched but what a
// player is given the address of; what a camera sees is sent to the studio alone.
"use strict";
(() => {
  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "text") node.textContent = value;
      else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  };
  const say = (node, name, detail) => node.dispatchEvent(new CustomEvent(name, { bubbles: true, detail }));
  const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}.${Math.floor((s % 1) * 10)}`;
  // At most one event in `wait` ms, the last one always.
  const throttled = (send, wait) => {
    let timer = null, last = 0, waiting = null;
    return (detail) => {
      waiting = detail;
      if (timer) return;
      timer = setTimeout(() => { timer = null; last = Date.now(); send(waiting); }, Math.max(0, wait - (Date.now() - last)));
    };
  };

  // The page's framework changes an element's attribute and empties it rather than making a new one: build it anew then.
  class Own extends HTMLElement {
    static observedAttributes = ["data", "panels"];
    connectedCallback() {
      this.emptied = new MutationObserver(() => { if (!this.firstChild) this.plan(); });
      this.emptied.observe(this, { childList: true });
      this.plan();
    }
    disconnectedCallback() { this.emptied.disconnect(); this.end(); }
    attributeChangedCallback(name, before, now) { if (before !== null && before !== now) this.plan(); }
    plan() {
      if (this.planned) return;
      this.planned = true;
      queueMicrotask(() => {
        this.planned = false;
        if (!this.isConnected) return;
        this.end();
        this.replaceChildren();
        this.build();
      });
    }
    end() {}
  }

  class Player extends Own {
    build() {
      const panels = JSON.parse(this.getAttribute("panels"));
      const wiper = this.hasAttribute("wiper");
      const stage = make("div", { class: "m-stage" + (wiper ? " m-wipe" : "") });
      this.videos = panels.map((panel, i) => {
        const video = make("video", { src: panel.src, playsinline: "", preload: "auto", loop: "" });
        video.muted = true;
        stage.append(make("figure", {}, video, make("figcaption", { text: panel.caption })));
        return video;
      });
      const [master, ...others] = this.videos;
      const play = make("button", { class: "m-play", "aria-label": "Play" });
      const track = make("input", { type: "range", min: 0, max: 1000, value: 0, "aria-label": "Position" });
      const time = make("span", { class: "m-time", text: "0:00.0" });
      const slow = make("button", { class: "m-chip", text: "1×", title: "Speed", "aria-label": "Speed" });
      const bar = make("div", { class: "m-controls" }, play, track, time, slow);
      this.append(stage, bar);
      if (this.hasAttribute("sound")) {
        const sound = make("button", { class: "m-chip", text: "Sound off", "aria-label": "Sound" });
        sound.onclick = () => { master.muted = !master.muted; sound.textContent = master.muted ? "Sound off" : "Sound on"; };
        bar.append(sound);
      }
      if (wiper) {
        const edge = make("input", { type: "range", min: 0, max: 100, step: 0.5, value: 50, class: "m-edge", "aria-label": "Wiper" });
        const set = () => stage.style.setProperty("--edge", `${edge.value}%`);
        edge.oninput = set;
        set();
        stage.append(edge);
      }
      const follow = () => {
        for (const video of others)
          if (Math.abs(video.currentTime - master.currentTime) > (master.paused ? 0.005 : 0.08)) video.currentTime = master.currentTime;
      };
      const shown = () => {
        if (!master.duration) return;
        track.value = (1000 * master.currentTime) / master.duration;
        track.style.setProperty("--part", `${track.value / 10}%`);
        time.textContent = `${clock(master.currentTime)} / ${clock(master.duration)}`;
      };
      const loop = () => {
        if (!this.isConnected) return;
        follow();
        shown();
        if (!master.paused) requestAnimationFrame(loop);
      };
      const state = () => {
        play.classList.toggle("m-on", !master.paused);
        play.setAttribute("aria-label", master.paused ? "Play" : "Pause");
      };
      play.onclick = () => {
        if (master.paused) this.videos.forEach((video) => video.play());
        else this.videos.forEach((video) => video.pause());
      };
      stage.onclick = (event) => { if (!wiper || event.target.tagName === "VIDEO") play.onclick(); };
      slow.onclick = () => {
        const rate = { 1: 0.5, 0.5: 0.25, 0.25: 1 }[master.playbackRate];
        this.videos.forEach((video) => { video.playbackRate = rate; });
        slow.textContent = { 1: "1×", 0.5: "½×", 0.25: "¼×" }[rate];
      };
      track.oninput = () => {
        if (!master.duration) return;
        this.videos.forEach((video) => { video.currentTime = (track.value / 1000) * master.duration; });
        shown();
      };
      for (const name of ["play", "pause"]) master.addEventListener(name, () => { state(); loop(); });
      for (const name of ["loadedmetadata", "seeked"]) master.addEventListener(name, shown);
      const aspect = () => { if (master.videoWidth) stage.style.setProperty("--aspect", `${master.videoWidth} / ${master.videoHeight}`); };
      master.addEventListener("loadedmetadata", aspect);
      master.addEventListener("error", () => say(this, "broken", {}));
    }
    end() { (this.videos || []).forEach((video) => video.pause()); }
  }

  const COLOURS = ["--m-c0", "--m-c1", "--m-c2", "--m-c3", "--m-c4", "--m-c5", "--m-c6", "--m-c7"];

  class Timeline extends Own {
    build() {
      this.data = JSON.parse(this.getAttribute("data"));
      this.frame = this.data.frame;
      this.span = this.data.span;
      this.tabIndex = 0;
      this.setAttribute("role", "slider");
      this.setAttribute("aria-label", "Frame");
      this.setAttribute("aria-valuemax", this.data.frames - 1);
      this.rows = this.data.groups.map((group) => {
        const label = make("button", { class: "m-name", text: group.name, title: `Edit ${group.name}` });
        label.onclick = () => say(this, "pick", { name: group.name });
        const canvas = make("canvas");
        this.append(make("div", { class: "m-row" + (this.data.picked.includes(group.name) ? " m-picked" : "") }, label, canvas));
        return { group, canvas };
      });
      this.ruler = make("canvas");
      const clear = make("button", { class: "m-name m-clear", text: "all", title: "Edit the whole clip" });
      clear.onclick = () => { this.span = null; this.draw(); this.spanned({ start: 0, end: this.data.frames }); };
      this.prepend(make("div", { class: "m-row m-ruler" }, clear, this.ruler));
      this.scrubbed = throttled((detail) => say(this, "scrub", detail), 70);
      this.spanned = (detail) => say(this, "span", detail);
      this.pointer(this.ruler, true);
      this.rows.forEach(({ canvas }) => this.pointer(canvas, false));
      this.onkeydown = (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
        if (step) { event.preventDefault(); this.go(this.frame + step); }
      };
      this.observer = new ResizeObserver(() => this.draw());
      this.observer.observe(this);
    }
    end() { if (this.observer) this.observer.disconnect(); }
    at(canvas, event) {
      const box = canvas.getBoundingClientRect();
      return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    }
    pointer(canvas, selects) {
      let from = null;
      canvas.onpointerdown = (event) => { canvas.setPointerCapture(event.pointerId); from = this.at(canvas, event); if (!selects) this.go(from * (this.data.frames - 1)); };
      canvas.onpointermove = (event) => {
        if (from === null) return;
        const here = this.at(canvas, event);
        if (!selects) { this.go(here * (this.data.frames - 1)); return; }
        if (Math.abs(here - from) * this.data.frames >= 1) {
          const ends = [from, here].map((x) => Math.round(x * this.data.frames)).sort((a, b) => a - b);
          this.span = ends[1] > ends[0] ? ends : null;
          this.draw();
        }
      };
      canvas.onpointerup = (event) => {
        if (selects && from !== null) {
          if (Math.abs(this.at(canvas, event) - from) * this.data.frames < 1) this.go(from * (this.data.frames - 1));
          else if (this.span) this.spanned({ start: this.span[0], end: this.span[1] });
        }
        from = null;
      };
      canvas.onpointercancel = () => { from = null; };
    }
    go(frame) {
      frame = Math.max(0, Math.min(this.data.frames - 1, Math.round(frame)));
      if (frame === this.frame) return;
      this.frame = frame;
      this.setAttribute("aria-valuenow", frame);
      this.draw();
      this.scrubbed({ frame });
    }
    draw() {
      const style = getComputedStyle(this);
      const ink = (name) => style.getPropertyValue(name).trim();
      const pen = (canvas) => {
        const scale = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
        canvas.width = Math.round(width * scale);
        canvas.height = Math.round(height * scale);
        const context = canvas.getContext("2d");
        context.scale(scale, scale);
        return [context, width, height];
      };
      const across = (frame, width) => (this.data.frames > 1 ? frame / (this.data.frames - 1) : 0.5) * width;
      const overlay = (context, width, height) => {
        if (this.span) {
          context.fillStyle = ink("--m-span");
          const ends = this.span.map((frame) => (frame / this.data.frames) * width);
          context.fillRect(ends[0], 0, ends[1] - ends[0], height);
        }
        context.fillStyle = ink("--m-accent");
        context.fillRect(across(this.frame, width) - 0.75, 0, 1.5, height);
      };
      for (const { group, canvas } of this.rows) {
        const [context, width, height] = pen(canvas);
        if (!width) continue;
        let low = Infinity, high = -Infinity;
        for (const curve of group.curves) for (const value of curve) { low = Math.min(low, value); high = Math.max(high, value); }
        const middle = (low + high) / 2, reach = Math.max((high - low) / 2, group.least);
        const down = (value) => height / 2 - ((value - middle) / reach) * (height / 2 - 4);
        context.strokeStyle = ink("--m-grid");
        context.beginPath();
        context.moveTo(0, down(Math.max(middle - reach, Math.min(middle + reach, 0))));
        context.lineTo(width, down(Math.max(middle - reach, Math.min(middle + reach, 0))));
        context.stroke();
        const paint = (curves, alpha, dash) => curves.forEach((curve, i) => {
          context.strokeStyle = ink(COLOURS[i % COLOURS.length]);
          context.globalAlpha = alpha;
          context.setLineDash(dash);
          context.lineWidth = 1.25;
          context.beginPath();
          curve.forEach((value, k) => {
            const x = across(curve.length > 1 ? (k / (curve.length - 1)) * (this.data.frames - 1) : 0, width);
            if (k) context.lineTo(x, down(value)); else context.moveTo(x, down(value));
          });
          context.stroke();
        });
        paint(group.curves, 0.9, []);
        context.globalAlpha = 1;
        context.setLineDash([]);
        overlay(context, width, height);
      }
      const [context, width, height] = pen(this.ruler);
      if (!width) return;
      overlay(context, width, height);
      context.fillStyle = ink("--m-faint");
      context.font = "11px system-ui, sans-serif";
      const seconds = this.data.frames / this.data.fps;
      const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60].find((s) => (s / seconds) * width > 54) || 120;
      for (let t = 0; t < seconds; t += step) {
        const x = (t / seconds) * width;
        context.fillRect(x, height - 5, 1, 5);
        context.fillText(`${Math.round(t * 10) / 10} s`, x + 3, height - 7);
      }
    }
  }

  class Shelf extends Own {
    build() {
      const data = JSON.parse(this.getAttribute("data"));
      data.faces.forEach((face, i) => {
        const button = make("button", { "aria-label": `Person ${i + 1}`, "aria-pressed": String(i === data.picked) }, make("img", { src: face, alt: "" }));
        button.onclick = () => {
          for (const other of this.children) other.setAttribute("aria-pressed", "false");
          button.setAttribute("aria-pressed", "true");
          say(this, "pick", { index: i });
        };
        this.append(button);
      });
    }
  }

  class Sliders extends Own {
    build() {
      const data = JSON.parse(this.getAttribute("data"));
      this.values = data.groups.flatMap((group) => group.items.map(() => 0));
      const send = throttled((detail) => say(this, "slide", detail), 120);
      const all = [];
      let count = 0;
      for (const group of data.groups) {
        const rows = group.items.map((item) => {
          const index = count++;
          const range = make("input", { type: "range", min: item.low, max: item.high, step: item.step, value: 0, "aria-label": item.name });
          const shown = make("output", { text: "0" });
          const set = (value) => {
            this.values[index] = value;
            range.value = value;
            range.style.setProperty("--part", `${(100 * (value - item.low)) / (item.high - item.low)}%`);
            shown.textContent = value === 0 ? "0" : (value > 0 ? "+" : "−") + Math.abs(value).toFixed(item.step < 1 ? 1 : 0);
          };
          set(0);
          all.push(set);
          range.oninput = () => { set(Number(range.value)); send({ values: this.values, touched: index }); };
          range.ondblclick = () => { set(0); send({ values: this.values, touched: index }); };
          const thumb = item.thumb ? [make("img", { src: item.thumb, alt: `region of ${item.name}` })] : [];
          return make("label", {}, ...thumb, make("span", { text: item.label }), range, shown);
        });
        this.append(make("details", group.open ? { open: "" } : {}, make("summary", { text: `${group.name}` }), make("div", { class: "m-sliders" }, ...rows)));
      }
      const reset = make("button", { class: "m-chip", text: "All to 0" });
      reset.onclick = () => { all.forEach((set) => set(0)); send({ values: this.values, touched: -1 }); };
      this.append(reset);
    }
  }

  // The camera and the face that it drives. Two pictures may be under way; the next one is taken when one is back.
  class Live extends Own {
    build() {
      const data = JSON.parse(this.getAttribute("data"));
      this.address = data.address;
      this.video = make("video", { playsinline: "", "aria-label": "Your camera" });
      this.video.muted = true;
      this.face = make("canvas", { width: data.size, height: data.size, "aria-label": "The face" });
      this.status = make("p", { class: "m-note", role: "status", text: "The face is learned. Nothing is sent before you start." });
      this.button = make("button", { class: "m-chip m-go", text: "Start the camera" });
      this.button.onclick = () => (this.stream ? this.end() : this.start());
      const figure = (node, text) => make("figure", {}, node, make("figcaption", { text }));
      this.append(make("div", { class: "m-stage" }, figure(this.video, "you"), figure(this.face, "the face")), this.button, this.status);
      this.fps = 0;
    }
    async start() {
      try {
        this.stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480, frameRate: 30 } });
      } catch (error) {
        this.status.textContent = error.name === "NotAllowedError" ? "The browser did not allow the camera." : "No camera can be opened.";
        return;
      }
      this.video.srcObject = this.stream;
      await this.video.play();
      this.button.textContent = "Stop";
      this.shown = [];
      this.sent = this.last = 0;
      this.pen = this.face.getContext("2d");
      const runs = [this.run(this.stream), this.run(this.stream)];
      await Promise.all(runs);
    }
    async run(stream) {
      const side = make("canvas"), pen = side.getContext("2d", { willReadFrequently: false });
      while (this.stream === stream && this.isConnected) {
        await new Promise((next) => (this.video.requestVideoFrameCallback ? this.video.requestVideoFrameCallback(next) : setTimeout(next, 33)));
        if (this.stream !== stream) return;
        const scale = Math.min(1, 480 / this.video.videoHeight), number = ++this.sent, begin = performance.now();
        side.width = Math.round(this.video.videoWidth * scale);
        side.height = Math.round(this.video.videoHeight * scale);
        pen.drawImage(this.video, 0, 0, side.width, side.height);
        const picture = await new Promise((done) => side.toBlob(done, "image/jpeg", 0.8));
        try {
          const answer = await fetch(this.address, { method: "POST", body: picture });
          if (!answer.ok) throw new Error((await answer.json()).detail);
          const body = await answer.arrayBuffer(), values = new Float32Array(body, 0, 4);
          const image = await createImageBitmap(new Blob([body.slice(16)], { type: "image/jpeg" }));
          if (this.stream === stream && number > this.last) {
            this.last = number;
            this.pen.drawImage(image, 0, 0, this.face.width, this.face.height);
            this.tell(performance.now(), performance.now() - begin, values);
          }
        } catch (error) {
          this.end();
          this.status.textContent = error.message || "The studio does not answer.";
        }
      }
    }
    tell(now, delay, [track, draw, rate, seen]) {
      this.shown.push({ now, delay });
      while (this.shown[0].now < now - 2000) this.shown.shift();
      const spent = Math.max(now - this.shown[0].now, 1), mean = this.shown.reduce((sum, s) => sum + s.delay, 0) / this.shown.length;
      this.fps = (1000 * (this.shown.length - 1)) / spent;
      this.status.textContent = seen
        ? `${this.fps.toFixed(1)} frames/s · delay ${mean.toFixed(0)} ms (track ${track.toFixed(0)}, draw ${draw.toFixed(0)}) · the face takes ${rate.toFixed(1)} kbit/s`
        : "No face is in sight.";
    }
    end() {
      if (!this.stream) return;
      this.stream.getTracks().forEach((track) => track.stop());
      this.stream = null;
      if (this.button) { this.button.textContent = "Start the camera"; this.status.textContent = "Stopped."; }
    }
  }

  // Notices say what is wrong, not with which number: "HTTP 413: This file is ..." begins at "This".
  const plain = (node) => {
    const words = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
    while (words.nextNode()) {
      const text = words.currentNode.data;
      const said = text.replace(/^\s*HTTP \d{3}: /, "").replace(/maximum allowed size of (\d+) bytes/, (_, n) => `limit of ${Math.round(n / 1048576)} MB`);
      if (said !== text) words.currentNode.data = said;
    }
  };
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes)
      for (const node of addedNodes)
        if (node.nodeType === 1 && /toast/.test(String(node.className) + String(node.parentElement?.className))) plain(node);
  }).observe(document.documentElement, { childList: true, subtree: true });

  for (const [name, kind] of Object.entries({ "mien-player": Player, "mien-timeline": Timeline, "mien-shelf": Shelf, "mien-sliders": Sliders, "mien-live": Live }))
    if (!customElements.get(name)) customElements.define(name, kind);
})();
