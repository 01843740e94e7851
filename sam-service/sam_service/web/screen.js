// The editor's words and numbers around the picture: the clip, the frame, the zoom, what is under way and what to do next.

import { byId } from "./dom.js";
import { STEPS } from "./prompting.js";
import { clock, count } from "./say.js";

const ADDRESS_MS = 300; // the address names the frame once it has stayed that long

/** Keeps the editor's texts and buttons in step with the session. */
export class Screen {
  /** @param {import("./session.js").Session} session @param {import("./view.js").View} view */
  constructor(session, view) {
    this.session = session;
    this.view = view;
  }

  start() {
    const { session } = this;
    session.on(["info"], () => this.showClip());
    session.on(["frame"], () => this.showFrame());
    session.on(["times", "frame"], () => this.showTime());
    session.on(["view"], () => this.showZoom());
    session.on(["selected", "objects"], () => this.showHint());
    session.on(["player"], (player) => this.showPlayer(player));
    session.on(["prompts"], (prompting) => this.showWaiting(prompting));
    session.on(["history"], () => this.showHistory());
    for (const show of ["Clip", "Frame", "Time", "Zoom", "Hint", "History"]) this[`show${show}`]();
  }

  showClip() {
    const { info, lastFrame } = this.session;
    byId("video-name").textContent = info.video_name;
    const facts = [`${info.width} × ${info.height}`, count(info.num_frames, "frame"), `${Number(info.fps.toFixed(2))} fps`];
    byId("video-facts").textContent = [...facts, ...(info.truncated ? ["part of the clip"] : [])].join(" · ");
    byId("frame-number").max = lastFrame;
    byId("frame-total").textContent = `0 – ${lastFrame}`;
    const reading = info.status === "extracting";
    byId("extraction").hidden = !reading && info.status !== "failed";
    byId("extraction").textContent = reading
      ? `reading the video: ${info.frames_ready} of ${info.num_frames}`
      : `the video could be read up to frame ${info.frames_ready - 1}`;
  }

  showFrame() {
    const { session } = this;
    if (document.activeElement !== byId("frame-number")) byId("frame-number").value = session.frame;
    clearTimeout(this.addressing);
    const address = () => history.replaceState(null, "", `#session=${session.id}&frame=${session.frame}`);
    this.addressing = setTimeout(address, ADDRESS_MS);
  }

  showTime() {
    byId("time").textContent = clock(this.session.timeOf(this.session.frame), true);
  }

  showZoom() {
    byId("zoom-label").textContent = `${Math.round(this.view.scale * (window.devicePixelRatio || 1) * 100)}%`;
  }

  showHint() {
    const { objects, selected } = this.session;
    byId("hint").textContent = !objects.size
      ? "Click what you want to follow, or drag a box around it"
      : selected === null
        ? "Click the new object"
        : "";
  }

  showPlayer({ playing, speed }) {
    byId("play").setAttribute("aria-label", playing ? "Pause" : "Play");
    byId("play")
      .querySelector("use")
      .setAttribute("href", playing ? "#i-pause" : "#i-play");
    byId("speed").value = String(speed);
  }

  /** Whether there is something to undo and redo, and what it is. */
  showHistory() {
    for (const way of ["undo", "redo"]) {
      const [step] = this.session.history[way];
      const word = way === "undo" ? "Undo" : "Redo";
      byId(way).disabled = !step;
      byId(way).title = `${word}${step ? ` ${STEPS[step.kind] ?? step.kind}` : ""} (${way === "undo" ? "Ctrl+Z" : "Ctrl+Shift+Z"})`;
    }
  }

  /** Whether a prompt is under way. */
  showWaiting({ waiting }) {
    byId("canvas").classList.toggle("busy", waiting > 0);
    byId("canvas").setAttribute("aria-busy", String(waiting > 0));
  }

  close() {
    clearTimeout(this.addressing);
  }
}
