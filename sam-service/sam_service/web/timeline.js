// The timeline: thumbnails, a lane for each object with how good its masks are, prompts, marks and the playhead.

import { byId } from "./dom.js";
import { DRAG_PX, HANDLE, HANDLE_TOUCH, drawHandles, moveRange } from "./range.js";
import { Thumbs } from "./thumbs.js";
import { isWeak, verdict } from "./tracks.js";

const PLAYHEAD = [
  { color: "#0b0d11", width: 4 },
  { color: "#fff", width: 2 },
];
const RULER = 18,
  HEAD = 66, // ruler and thumbnails, which stay while the lanes scroll
  LANE = 22;

/** Draws and drives the timeline of a session. */
export class Timeline {
  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.session = session;
    this.host = byId("timeline");
    this.names = byId("timeline-names");
    this.scroller = byId("timeline-scroller");
    this.lanes = byId("lanes");
    this.ruler = byId("ruler");
    this.playhead = byId("playhead");
    this.width = 0;
    this.dragging = false;
    this.thumbs = new Thumbs(session);
    this.closing = new AbortController();
    const { signal } = this.closing;
    this.host.addEventListener("pointerdown", (event) => this.onDown(event), { signal });
    this.host.addEventListener("pointermove", (event) => this.onMove(event), { signal });
    this.host.addEventListener("pointerup", (event) => this.onUp(event), { signal });
    this.host.addEventListener("pointercancel", () => (this.dragging = false), { signal });
    this.resizing = new ResizeObserver(() => this.layout());
    this.scroller.addEventListener("scroll", () => this.drawPlayhead(), { signal });
    document.addEventListener("themechange", () => this.redraw(), { signal });
  }

  start() {
    const { session } = this;
    session.on(["objects", "selected"], () => this.layout());
    session.on(["selected"], () => this.names.querySelector(".selected")?.scrollIntoView({ block: "nearest" }));
    session.on(["tracks", "range", "view", "info", "times"], () => this.redraw());
    session.on(["frame"], () => this.drawPlayhead());
    session.on(["info"], () => this.width && this.thumbs.layout(this.width));
    this.resizing.observe(this.host);
  }

  get frames() {
    return Math.max(1, this.session.info.num_frames);
  }

  /** The left edge of a frame, CSS pixels. */
  x(frame) {
    return (frame / this.frames) * this.width;
  }

  layout() {
    const { session } = this;
    const ids = [...session.objects.keys()];
    this.width = this.host.clientWidth;
    this.height = HEAD + Math.max(1, ids.length) * LANE;
    this.host.style.height = `${this.height}px`;
    this.names.replaceChildren(
      ...ids.map((id) => {
        const name = document.createElement("div");
        name.textContent = session.name(id);
        name.classList.toggle("selected", id === session.selected);
        return name;
      }),
    );
    if (this.width) this.thumbs.layout(this.width);
    this.redraw();
  }

  redraw() {
    if (this.dirty) return;
    this.dirty = true;
    requestAnimationFrame(() => {
      this.dirty = false;
      this.drawLanes();
      this.drawPlayhead();
    });
  }

  sized(canvas, height = this.height) {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(this.width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${this.width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    return context;
  }

  drawLanes() {
    if (!this.width) return;
    const { session } = this;
    const context = this.sized(this.lanes);
    this.colors = Object.fromEntries(
      ["line", "muted", "check", "lost", "accent", "raised"].map((name) => [name, token(this.host, name)]),
    );
    [...session.objects.keys()].forEach((id, row) => this.drawLane(context, id, HEAD + row * LANE));
    const head = this.sized(this.ruler, HEAD);
    this.drawRuler(head);
    for (const layer of [head, context]) {
      if (session.ready < session.info.num_frames) this.drawUnread(layer);
      this.drawRange(layer);
    }
    drawHandles(head, this.handles(), session.range, this.colors);
  }

  drawRuler(context) {
    const { fps } = this.session.info;
    context.font = "10px system-ui, sans-serif";
    context.fillStyle = this.colors.muted;
    const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600].find((seconds) => this.x(seconds * fps) >= 64) || 1200;
    for (let seconds = 0; seconds <= this.session.timeOf(this.frames - 1); seconds += step) {
      const x = this.x(this.session.frameAt(seconds));
      context.fillRect(x, RULER - 5, 1, 5);
      if (x < this.width - 34) context.fillText(clock(seconds, step < 1), x + 4, RULER - 5);
    }
  }

  drawUnread(context) {
    const x = this.x(this.session.ready);
    context.globalAlpha = 0.75;
    context.fillStyle = this.colors.raised;
    context.fillRect(x, RULER, this.width - x, this.height - RULER);
    context.globalAlpha = 1;
  }

  /** One object's lane: a column for each pixel, as high as the lowest score of its frames; those to check underlined. */
  drawLane(context, id, top) {
    const { session } = this;
    const track = session.tracks.get(id),
      floor = top + LANE - 4,
      height = LANE - 8;
    context.fillStyle = this.colors.line;
    context.fillRect(0, floor, this.width, 1);
    if (track) {
      context.globalAlpha = session.hidden.has(id) ? 0.35 : 1;
      const columns = Math.min(this.frames, Math.ceil(this.width));
      for (let column = 0; column < columns; column++)
        this.drawColumn(context, track, session.color(id), column, columns, floor, height);
      context.globalAlpha = 1;
    }
    for (const frame of session.objects.get(id).prompted_frames)
      this.drawPrompted(context, this.x(frame + 0.5), floor - height / 2);
  }

  drawColumn(context, track, color, column, columns, floor, height) {
    const first = Math.floor((column * this.frames) / columns),
      end = Math.max(first + 1, Math.floor(((column + 1) * this.frames) / columns));
    let lowest = 2,
      line = null,
      shown = false,
      some = false;
    for (let frame = first; frame < end; frame++) {
      const found = verdict(track, frame);
      if (found === undefined) continue;
      some = true;
      if (isWeak(track, frame)) line = found === "lost" || line === "lost" ? "lost" : "check";
      if (found === "gone") continue;
      shown = true;
      lowest = Math.min(lowest, track.score[frame]);
    }
    if (!some) return;
    const x = Math.round(this.x(first)),
      wide = Math.max(1, Math.round(this.x(end)) - x);
    const tall = shown ? Math.max(3, Math.round(lowest * height)) : 1;
    context.fillStyle = color;
    context.fillRect(x, floor - tall, wide, tall);
    if (!line) return;
    context.fillStyle = this.colors[line];
    context.fillRect(x, floor + 1, Math.max(2, wide), 3);
  }

  drawPrompted(context, x, y) {
    context.beginPath();
    context.moveTo(x, y - 5);
    context.lineTo(x + 5, y);
    context.lineTo(x, y + 5);
    context.lineTo(x - 5, y);
    context.closePath();
    context.fillStyle = "#fff";
    context.fill();
    context.lineWidth = 1.5;
    context.strokeStyle = "#14171c";
    context.stroke();
  }

  drawRange(context) {
    const [from, to] = this.session.range;
    if (from === null && to === null) return;
    const left = this.x(from ?? 0),
      right = this.x((to ?? this.session.lastFrame) + 1);
    context.fillStyle = "rgb(0 0 0 / 45%)";
    context.fillRect(0, RULER, left, this.height - RULER);
    context.fillRect(right, RULER, this.width - right, this.height - RULER);
    context.fillStyle = this.colors.accent;
    context.fillRect(left, RULER - 3, right - left, 3);
    context.fillRect(left, RULER - 3, 2, this.height);
    context.fillRect(right - 2, RULER - 3, 2, this.height);
  }

  /** Where the handles of the range are, CSS pixels: at the clip's ends without a range. */
  handles() {
    const [from, to] = this.session.range;
    return [this.x(from ?? 0), this.x((to ?? this.session.lastFrame) + 1)];
  }

  drawPlayhead() {
    const { session } = this;
    this.host.setAttribute("aria-valuemax", session.lastFrame);
    this.host.setAttribute("aria-valuenow", session.frame);
    this.host.setAttribute("aria-valuetext", `frame ${session.frame}, of 0 to ${session.lastFrame}`);
    if (!this.width) return;
    const context = this.sized(this.playhead);
    const x = Math.round(this.x(session.frame + 0.5)),
      top = this.scroller.scrollTop;
    for (const { color, width } of PLAYHEAD) {
      context.fillStyle = color;
      context.fillRect(x - width / 2, top + 4, width, this.height - 4);
    }
    context.beginPath();
    context.moveTo(x - 6, top + 1);
    context.lineTo(x + 6, top + 1);
    context.lineTo(x, top + 11);
    context.closePath();
    context.fillStyle = "#fff";
    context.fill();
    context.strokeStyle = "#0b0d11";
    context.stroke();
  }

  onDown(event) {
    if (event.button !== 0) return;
    this.host.setPointerCapture(event.pointerId);
    this.handle = this.handleAt(event);
    this.from = event.clientX;
    this.dragging = true;
    if (this.handle === null) this.onDrag(event);
    const y = event.clientY - this.scroller.getBoundingClientRect().top;
    const id = [...this.session.objects.keys()][Math.floor((y + this.scroller.scrollTop - HEAD) / LANE)];
    if (y > HEAD && id !== undefined) this.session.select(id);
  }

  onMove(event) {
    if (this.dragging) this.onDrag(event);
    else this.host.classList.toggle("handle", this.handleAt(event) !== null);
  }

  onDrag({ clientX }) {
    const { left } = this.host.getBoundingClientRect();
    const edge = ((clientX - left) / this.width) * this.frames;
    if (this.handle === null) return this.session.jump(Math.floor(edge));
    if (Math.abs(clientX - this.from) < DRAG_PX) return;
    this.from = NaN; // from here on every move counts
    this.session.jump(moveRange(this.session, this.handle, Math.round(edge)));
  }

  /** Which handle of the range is under the pointer: 0 the start, 1 the end; null for none. */
  handleAt({ clientX, clientY, pointerType }) {
    if (clientY - this.scroller.getBoundingClientRect().top > RULER) return null;
    const { left } = this.host.getBoundingClientRect();
    const reach = pointerType === "touch" ? HANDLE_TOUCH : HANDLE;
    const [start, end] = this.handles().map((x) => Math.abs(clientX - left - x));
    if (Math.min(start, end) > reach) return null;
    return start < end ? 0 : 1;
  }

  /** A handle that is pressed and not moved is a press on the ruler. */
  onUp({ clientX }) {
    if (this.dragging && this.handle !== null && !Number.isNaN(this.from)) {
      this.handle = null;
      this.onDrag({ clientX });
    }
    this.dragging = false;
  }

  close() {
    this.closing.abort();
    this.resizing.disconnect();
    this.thumbs.close();
    this.names.replaceChildren();
  }
}

/** A colour of the style sheet, as the canvas takes it. */
function token(element, name) {
  const before = element.style.color;
  element.style.color = `var(--${name})`;
  const found = getComputedStyle(element).color;
  element.style.color = before;
  return found;
}

/** Seconds as m:ss, with tenths where `fine`. */
export function clock(seconds, fine = false) {
  const whole = Math.floor(seconds / 60),
    rest = seconds - whole * 60;
  return `${whole}:${fine ? rest.toFixed(1).padStart(4, "0") : String(Math.floor(rest)).padStart(2, "0")}`;
}
