// Mouse, pen and fingers on the stage: clicks, boxes, moving and zooming.

import { focusPicture } from "./dom.js";

const DRAG_PX = { mouse: 5, pen: 6, touch: 10 };

const REACH_PX = { mouse: 8, pen: 10, touch: 18 }; // how far from a point or an edge a press still takes it

/** Turns pointer events into clicks and boxes (`act`), repairs of what is drawn, strokes of the brush, and moves of the view. */
export class Pointer {
  /** @param {HTMLCanvasElement} canvas @param {import("./view.js").View} view
   * @param {{click(point: number[], positive: boolean): void, box(box: number[]): void, drag(box: number[]|null): void}} act
   * @param {import("./repair.js").Repair} repair @param {import("./brush.js").Brush} brush */
  constructor(canvas, view, act, repair, brush) {
    this.canvas = canvas;
    this.view = view;
    this.act = act;
    this.repair = repair;
    this.brush = brush;
    this.handle = null; // a part of a prompt that is held
    this.mode = "add";
    this.down = new Map(); // pointer id -> stage point
    this.gesture = null; // null, "press", "box", "handle", "paint", "pan" or "pinch"
    this.closing = new AbortController();
    const { signal } = this.closing;
    canvas.addEventListener("pointerdown", (event) => this.onDown(event), { signal });
    canvas.addEventListener("pointermove", (event) => this.onMove(event), { signal });
    canvas.addEventListener("pointerup", (event) => this.onUp(event), { signal });
    canvas.addEventListener("pointercancel", (event) => this.onCancel(event), { signal });
    canvas.addEventListener("pointerleave", () => this.brush.hover(null), { signal });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault(), { signal });
    canvas.addEventListener("wheel", (event) => this.onWheel(event), { passive: false, signal });
  }

  close() {
    this.closing.abort();
    this.canvas.classList.remove("pan", "panning");
  }

  setMode(mode) {
    this.mode = mode;
    this.brush.hover(null);
    this.canvas.classList.toggle("pan", mode === "pan");
  }

  point(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  onDown(event) {
    focusPicture();
    this.canvas.setPointerCapture(event.pointerId);
    this.down.set(event.pointerId, this.point(event));
    if (this.down.size === 2) {
      this.gesture = "pinch";
      this.act.drag(null);
      this.repair.drag(null);
      this.brush.cancel();
      return;
    }
    if (this.gesture) return;
    this.start = this.point(event);
    this.positive = !(event.button === 2 || event.shiftKey) && this.mode !== "remove";
    this.gesture = event.button === 1 || this.mode === "pan" ? "pan" : this.paints ? "paint" : "press";
    this.handle = this.gesture === "press" ? this.repair.find(this.start, REACH_PX[event.pointerType] || 8) : null;
    if (this.gesture === "pan") this.canvas.classList.add("panning");
    if (this.gesture === "paint") this.brush.begin(this.view.toFrame(this.start), !this.positive || this.mode === "erase");
  }

  get paints() {
    return this.mode === "paint" || this.mode === "erase";
  }

  /** The pointer passes over the stage without a button. */
  onHover(event) {
    const point = this.point(event);
    if (this.paints) return this.brush.hover(this.view.toFrame(point));
    const takes = this.mode === "add" || this.mode === "remove";
    this.canvas.style.cursor = takes ? this.repair.cursor(this.repair.find(point, REACH_PX[event.pointerType] || 8)) : "";
  }

  onMove(event) {
    const from = this.down.get(event.pointerId);
    if (from === undefined) return this.onHover(event);
    const to = this.point(event);
    if (this.gesture === "pinch") this.pinch(event.pointerId, from, to);
    this.down.set(event.pointerId, to);
    if (this.gesture === "pan") this.view.pan([to[0] - from[0], to[1] - from[1]]);
    if (this.gesture === "press" && distance(this.start, to) > (DRAG_PX[event.pointerType] || 5)) {
      this.gesture = this.handle && this.handle.kind !== "cross" ? "handle" : this.positive ? "box" : "pan";
    }
    if (this.gesture === "handle") this.repair.drag(this.handle, this.view.toFrame(to));
    if (this.gesture === "paint") this.brush.to(this.view.toFrame(to));
    if (this.gesture === "box") this.act.drag(this.boxTo(to));
  }

  onUp(event) {
    if (!this.down.delete(event.pointerId)) return;
    const gesture = this.gesture,
      to = this.point(event);
    if (this.down.size) return;
    this.gesture = null;
    this.canvas.classList.remove("panning");
    if (gesture === "press") {
      const point = this.view.toFrame(this.start);
      if (this.handle && this.repair.remove(this.handle)) return;
      if (this.view.contains(point)) this.act.click(point, this.positive);
    }
    if (gesture === "handle") this.repair.drop(this.handle, this.view.toFrame(to));
    if (gesture === "paint") this.brush.end();
    if (gesture === "box") {
      this.act.drag(null);
      const box = this.boxTo(to);
      if (box[2] - box[0] >= 1 && box[3] - box[1] >= 1) this.act.box(box);
    }
  }

  onCancel(event) {
    this.down.delete(event.pointerId);
    if (!this.down.size) this.gesture = null;
    this.canvas.classList.remove("panning");
    this.act.drag(null);
    this.repair.drag(null);
    this.brush.cancel();
  }

  onWheel(event) {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
    this.view.zoom(Math.exp(-Math.max(-120, Math.min(120, pixels)) * 0.0025), this.point(event));
  }

  /** Two fingers: their distance zooms, their middle moves. */
  pinch(id, from, to) {
    const other = [...this.down.entries()].find(([key]) => key !== id)?.[1];
    if (!other) return;
    const middle = [(to[0] + other[0]) / 2, (to[1] + other[1]) / 2];
    this.view.pan([(to[0] - from[0]) / 2, (to[1] - from[1]) / 2]);
    this.view.zoom(distance(to, other) / Math.max(1, distance(from, other)), middle);
  }

  boxTo(to) {
    const a = this.view.inside(this.view.toFrame(this.start)),
      b = this.view.inside(this.view.toFrame(to));
    return [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
  }
}

const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
