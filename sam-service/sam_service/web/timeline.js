// The timeline: thumbnails, a lane for each object, prompts, the range and the playhead; the wheel zooms it.

import { byId } from "./dom.js";
import { HEAD, LANE, Lanes, RULER } from "./lanes.js";
import { Preview } from "./preview.js";
import { DRAG_PX, HANDLE, HANDLE_TOUCH, drawHandles, moveRange } from "./range.js";
import { Thumbs } from "./thumbs.js";
import { FrameWindow } from "./window.js";

const PLAYHEAD = [
  { color: "#0b0d11", width: 4 },
  { color: "#fff", width: 2 },
];
const DIAMOND = 7, // how far from a diamond's middle a press still takes it
  ZOOM_STEP = 1.6;

/** Draws and drives the timeline of a session. */
export class Timeline {
  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.session = session;
    this.host = byId("timeline");
    this.names = byId("timeline-names");
    this.scroller = byId("timeline-scroller");
    this.dragging = false;
    this.handle = null; // the handle of the range that is dragged: 0 the start, 1 the end
    this.height = 0;
    this.shown = new FrameWindow();
    this.painter = new Lanes(session, this.shown);
    this.preview = new Preview(session);
    this.thumbs = new Thumbs(session, this.shown);
    this.closing = new AbortController();
    this.resizing = new ResizeObserver(() => this.layout());
  }

  start() {
    const { session, host } = this,
      { signal } = this.closing;
    host.addEventListener("pointerdown", (event) => this.onDown(event), { signal });
    host.addEventListener("pointermove", (event) => this.onMove(event), { signal });
    host.addEventListener("pointerup", (event) => this.onUp(event), { signal });
    host.addEventListener("pointercancel", () => (this.dragging = false), { signal });
    host.addEventListener("pointerleave", () => this.preview.hide(), { signal });
    host.addEventListener("wheel", (event) => this.onWheel(event), { signal, passive: false });
    this.scroller.addEventListener("scroll", () => this.drawPlayhead(), { signal });
    document.addEventListener("themechange", () => this.redraw(), { signal });
    session.on(["objects", "selected"], () => this.layout());
    session.on(["selected"], () => this.names.querySelector(".selected")?.scrollIntoView({ block: "nearest" }));
    session.on(["tracks", "range", "view", "times"], () => this.redraw());
    session.on(["info"], () => this.rewindow());
    session.on(["frame"], () => (this.shown.reveal(session.frame) ? this.rewindow() : this.drawPlayhead()));
    this.resizing.observe(host);
  }

  layout() {
    const { session } = this;
    const ids = [...session.objects.keys()];
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
    this.rewindow();
  }

  /** The window of frames, the width or the clip's length is another. */
  rewindow() {
    this.shown.fit(Math.max(1, this.session.info.num_frames), this.host.clientWidth);
    byId("timeline-out").disabled = !this.shown.zoomed;
    if (this.shown.width) this.thumbs.layout();
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
    const ratio = window.devicePixelRatio || 1,
      { width } = this.shown;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    return context;
  }

  drawLanes() {
    const { session, painter } = this;
    if (!this.shown.width) return;
    const context = this.sized(byId("lanes"));
    const names = ["line", "muted", "check", "lost", "accent", "raised"];
    painter.colors = Object.fromEntries(names.map((name) => [name, token(this.host, name)]));
    [...session.objects.keys()].forEach((id, row) => painter.drawLane(context, id, HEAD + row * LANE));
    const head = this.sized(byId("ruler"), HEAD);
    painter.drawRuler(head);
    for (const layer of [head, context]) {
      if (session.ready < session.info.num_frames) painter.drawUnread(layer, this.height);
      painter.drawRange(layer, this.height);
    }
    drawHandles(head, this.handles(), session.range, painter.colors);
  }

  /** Where the handles of the range are, CSS pixels: at the clip's ends without a range. */
  handles() {
    const [from, to] = this.session.range;
    return [this.shown.x(from ?? 0), this.shown.x((to ?? this.session.lastFrame) + 1)];
  }

  drawPlayhead() {
    const { session, host } = this;
    host.setAttribute("aria-valuemax", session.lastFrame);
    host.setAttribute("aria-valuenow", session.frame);
    host.setAttribute("aria-valuetext", `frame ${session.frame}, of 0 to ${session.lastFrame}`);
    if (!this.shown.width) return;
    const context = this.sized(byId("playhead"));
    const x = Math.round(this.shown.x(session.frame + 0.5)),
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

  // The pointer

  /** A pointer's place: x over the lanes, y over what is seen of the timeline, CSS pixels. */
  place({ clientX, clientY }) {
    return [clientX - this.host.getBoundingClientRect().left, clientY - this.scroller.getBoundingClientRect().top];
  }

  /** The object whose lane is at `y`; undefined where none is. */
  laneAt(y) {
    return y > HEAD ? [...this.session.objects.keys()][Math.floor((y + this.scroller.scrollTop - HEAD) / LANE)] : undefined;
  }

  onDown(event) {
    if (event.button !== 0) return;
    const { session } = this;
    const [x, y] = this.place(event),
      id = this.laneAt(y);
    this.host.setPointerCapture(event.pointerId);
    this.preview.hide();
    if (id !== undefined) session.select(id);
    const target = this.targetAt(x, y);
    if (target) return session.jump(target.frame);
    this.handle = this.handleAt(event);
    this.from = event.clientX;
    this.dragging = true;
    if (this.handle === null) this.onDrag(event);
  }

  onMove(event) {
    if (this.dragging) return this.onDrag(event);
    const handle = this.handleAt(event) !== null;
    const [x, y] = this.place(event);
    const target = handle ? null : this.targetAt(x, y);
    this.host.classList.toggle("handle", handle);
    this.host.classList.toggle("target", Boolean(target));
    if (event.pointerType !== "mouse") return;
    const frame = target?.frame ?? Math.min(this.session.lastFrame, Math.max(0, Math.floor(this.shown.at(x))));
    this.preview.show(frame, event.clientX, this.scroller.getBoundingClientRect().top, target?.words);
  }

  onDrag({ clientX }) {
    const { left } = this.host.getBoundingClientRect();
    const edge = this.shown.at(clientX - left);
    if (this.handle === null) return this.session.jump(Math.floor(edge));
    if (Math.abs(clientX - this.from) < DRAG_PX) return;
    this.from = NaN; // from here on every move counts
    this.session.jump(moveRange(this.session, this.handle, Math.round(edge)));
  }

  /** What a press goes to exactly: a diamond, or the worst frame of an underlined stretch. */
  targetAt(x, y) {
    const { session, shown } = this;
    const id = this.laneAt(y);
    if (id === undefined) return null;
    const away = (frame) => Math.abs(shown.x(frame + 0.5) - x);
    const inLane = (y + this.scroller.scrollTop - HEAD) % LANE;
    if (inLane >= LANE - 6) {
      const at = Math.floor(shown.at(x));
      const stretch = session.weakStretches(id).find(({ from, to }) => at >= from && at <= to);
      if (stretch) return { frame: stretch.worst, words: "to check" };
    }
    const prompted = session.objects.get(id).prompted_frames.filter((frame) => away(frame) <= DIAMOND);
    if (!prompted.length) return null;
    const frame = prompted.reduce((best, other) => (away(other) < away(best) ? other : best));
    return { frame, words: `${session.name(id)} clicked here` };
  }

  /** Which handle of the range is under the pointer: 0 the start, 1 the end; null for none. */
  handleAt(event) {
    const [x, y] = this.place(event);
    if (y > RULER) return null;
    const reach = event.pointerType === "touch" ? HANDLE_TOUCH : HANDLE;
    const [start, end] = this.handles().map((at) => Math.abs(x - at));
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

  /** The wheel zooms, with Shift or sideways it moves along; over lanes that do not all fit it scrolls them. */
  onWheel(event) {
    const [x, y] = this.place(event);
    const scrolls = y > HEAD && this.scroller.scrollHeight > this.scroller.clientHeight + 1 && !event.ctrlKey;
    const along = event.shiftKey ? event.deltaX || event.deltaY : event.deltaX;
    if (scrolls && !along) return;
    event.preventDefault();
    if (along) this.shown.pan(along);
    else this.shown.zoom(Math.exp(Math.max(-120, Math.min(120, event.deltaY)) * 0.0025), x);
    this.rewindow();
  }

  /** Show fewer frames (1) or more (-1), around the playhead. */
  zoomStep(direction) {
    const x = Math.min(this.shown.width, Math.max(0, this.shown.x(this.session.frame + 0.5)));
    this.shown.zoom(ZOOM_STEP ** -direction, x);
    this.rewindow();
  }

  close() {
    this.closing.abort();
    this.resizing.disconnect();
    this.thumbs.close();
    this.preview.hide();
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
