// The stage: the frame, the masks over it, the prompts over them. Draws when something changed, once per screen refresh.

import { drawBackdrop } from "./backdrop.js";
import { MARK, boxOnStage, crossOf } from "./shapes.js";

const HANDLE = 3.5;
const HOW = "Press X for a crosshair that the arrow keys move.";
const CROSSHAIR = [
  { width: 3, color: "rgb(0 0 0 / 60%)" },
  { width: 1.2, color: "#fff" },
];
const GOOD = "#1d9e5a",
  BAD = "#d5362c";

/** Draws the session on the canvas. */
export class Stage {
  /** @param {HTMLCanvasElement} canvas @param {import("./session.js").Session} session @param {import("./view.js").View} view
   * @param {import("./frames.js").Frames} frames @param {import("./masks.js").Masks} masks */
  constructor(canvas, session, view, frames, masks) {
    this.canvas = canvas;
    this.session = session;
    this.view = view;
    this.frames = frames;
    this.masks = masks;
    this.context = canvas.getContext("2d");
    this.shown = null; // the bitmap on screen, which stays until the next one is here
    this.shownFrame = null;
    /** @type {number[]|null} */
    this.box = null; // a box under way: [x0, y0, x1, y1] in frame pixels
    /** @type {number[]|null} */
    this.cursor = null; // the keyboard's crosshair, frame pixels
    /** @type {import("./session.js").Prompt|null} */
    this.moved = null; // the chosen object's prompt while a part of it is moved
    this.painting = null; // {canvas, id, frame}: a mask that is painted by hand
    this.brush = null; // {point, radius} of the brush's outline, frame pixels
    this.dirty = false;
    this.resizing = new ResizeObserver(() => this.resize());
  }

  start() {
    this.resizing.observe(this.canvas);
  }

  setBox(box) {
    this.box = box;
    this.redraw();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.view.resize([width, height], [this.session.info.width, this.session.info.height]);
    this.draw();
  }

  /** Note that the picture has changed. */
  redraw() {
    if (this.dirty) return;
    this.dirty = true;
    requestAnimationFrame(() => {
      this.dirty = false;
      this.draw();
    });
  }

  /** Take the current frame's bitmap, or while it is on its way a neighbour's that came in the meantime. */
  show(frame) {
    const bitmap = this.frames.get(frame);
    if (bitmap === undefined) return;
    this.shown = bitmap;
    this.shownFrame = frame;
    this.redraw();
  }

  draw() {
    const { context, canvas, view, session } = this;
    if (this.frames.get(session.frame)) {
      this.shown = this.frames.get(session.frame);
      this.shownFrame = session.frame;
    }
    const ratio = canvas.width / view.stage[0];
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (this.shown && this.shown.width) {
      context.setTransform(view.scale * ratio, 0, 0, view.scale * ratio, view.offset[0] * ratio, view.offset[1] * ratio);
      context.imageSmoothingEnabled = view.scale * ratio < 3;
      context.imageSmoothingQuality = "medium";
      const { width, height } = session.info,
        { look } = this.masks;
      const painted = this.painting?.frame === this.shownFrame ? this.painting : null;
      const layers = this.masks.layers(this.shownFrame, painted?.id);
      if (look.onObjects || !layers.length) {
        context.drawImage(this.shown, 0, 0, width, height);
        for (const { canvas: layer, x, y } of layers) context.drawImage(layer, x, y);
      } else drawBackdrop(context, this.shown, width, height, layers, look);
      if (painted) this.drawPainting(painted);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (this.shownFrame === session.frame) this.drawPrompts();
    if (this.shownFrame !== null) canvas.setAttribute("aria-label", `Frame ${this.shownFrame}. ${HOW}`);
  }

  drawPrompts() {
    const { session } = this;
    for (const prompt of session.prompts.values()) {
      if (!this.masks.look.points) break;
      if (prompt.frame_idx !== session.frame || session.hidden.has(prompt.object_id)) continue;
      const selected = prompt.object_id === session.selected;
      this.drawPrompt((selected && this.moved) || prompt, session.color(prompt.object_id), selected);
    }
    for (const prompt of session.pending) {
      if (prompt.frame_idx === session.frame) this.drawPrompt(prompt, session.color(prompt.object_id), true);
    }
    if (this.box) this.drawBox(this.box, session.selected === null ? "#fff" : session.color(session.selected), true);
    if (this.cursor) this.drawCursor(this.cursor);
    if (this.brush) this.drawBrush(this.brush);
  }

  /** What is painted so far, in the object's colour. */
  drawPainting({ canvas, id }) {
    const layer = new OffscreenCanvas(canvas.width, canvas.height);
    const context = layer.getContext("2d");
    context.drawImage(canvas, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = this.session.color(id);
    context.fillRect(0, 0, layer.width, layer.height);
    this.context.globalAlpha = 0.55;
    this.context.drawImage(layer, 0, 0);
    this.context.globalAlpha = 1;
  }

  drawBrush({ point, radius }) {
    const [x, y] = this.view.toStage(point);
    for (const { width, color } of CROSSHAIR) {
      this.context.lineWidth = width;
      this.context.strokeStyle = color;
      this.context.beginPath();
      this.context.arc(x, y, Math.max(1, radius * this.view.scale), 0, 2 * Math.PI);
      this.context.stroke();
    }
  }

  drawPrompt({ points, labels, box }, color, selected) {
    if (box) this.drawBox(box, color, selected);
    if (box && selected) this.drawHandles(boxOnStage(this.view, box), color);
    (points || []).forEach((point, at) => this.drawPoint(point, labels[at] === 1, selected));
  }

  drawPoint(point, positive, selected) {
    const { context } = this;
    const [x, y] = this.view.toStage(point);
    context.globalAlpha = selected ? 1 : 0.55;
    context.beginPath();
    context.arc(x, y, MARK, 0, 2 * Math.PI);
    context.fillStyle = positive ? GOOD : BAD;
    context.fill();
    context.lineWidth = 1.8;
    context.strokeStyle = "#fff";
    context.stroke();
    context.beginPath();
    context.moveTo(x - 3.5, y);
    context.lineTo(x + 3.5, y);
    if (positive) {
      context.moveTo(x, y - 3.5);
      context.lineTo(x, y + 3.5);
    }
    context.stroke();
    context.globalAlpha = 1;
  }

  drawBox(box, color, selected) {
    const { context } = this;
    const [x0, y0] = this.view.toStage([box[0], box[1]]),
      [x1, y1] = this.view.toStage([box[2], box[3]]);
    context.globalAlpha = selected ? 1 : 0.55;
    context.lineWidth = 3;
    context.strokeStyle = "rgb(0 0 0 / 55%)";
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    context.lineWidth = 1.5;
    context.setLineDash([6, 4]);
    context.strokeStyle = color;
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  /** The corners that can be dragged, and the cross that removes the box. */
  drawHandles(corners, color) {
    const { context } = this;
    const [x0, y0, x1, y1] = corners;
    context.fillStyle = "#fff";
    context.strokeStyle = color;
    context.lineWidth = 1.5;
    for (const x of [x0, x1])
      for (const y of [y0, y1]) {
        context.fillRect(x - HANDLE, y - HANDLE, 2 * HANDLE, 2 * HANDLE);
        context.strokeRect(x - HANDLE, y - HANDLE, 2 * HANDLE, 2 * HANDLE);
      }
    const [x, y] = crossOf(corners);
    context.beginPath();
    context.arc(x, y, MARK, 0, 2 * Math.PI);
    context.fillStyle = "rgb(10 12 16 / 85%)";
    context.fill();
    context.strokeStyle = "#fff";
    context.beginPath();
    for (const way of [-1, 1]) {
      context.moveTo(x - 3, y - 3 * way);
      context.lineTo(x + 3, y + 3 * way);
    }
    context.stroke();
  }

  drawCursor(point) {
    const { context } = this;
    const [x, y] = this.view.toStage(point);
    for (const { width, color } of CROSSHAIR) {
      context.lineWidth = width;
      context.strokeStyle = color;
      context.beginPath();
      for (const [dx, dy] of [
        [1, 0],
        [-1, 0],
        [0, 1],
        [0, -1],
      ]) {
        context.moveTo(x + 5 * dx, y + 5 * dy);
        context.lineTo(x + 22 * dx, y + 22 * dy);
      }
      context.stroke();
    }
  }

  close() {
    this.resizing.disconnect();
  }
}
