// The stage: the frame, the masks over it, the prompts over them. Draws when something changed, once per screen refresh.

const MARK = 7;
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
      context.drawImage(this.shown, 0, 0, session.info.width, session.info.height);
      for (const { canvas: layer, x, y } of this.masks.layers(this.shownFrame)) context.drawImage(layer, x, y);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (this.shownFrame === session.frame) this.drawPrompts();
    if (this.shownFrame !== null) canvas.setAttribute("aria-label", `Frame ${this.shownFrame}. ${HOW}`);
  }

  drawPrompts() {
    const { session } = this;
    for (const prompt of session.prompts.values()) {
      if (prompt.frame_idx !== session.frame || session.hidden.has(prompt.object_id)) continue;
      this.drawPrompt(prompt, session.color(prompt.object_id), prompt.object_id === session.selected);
    }
    for (const prompt of session.pending) {
      if (prompt.frame_idx === session.frame) this.drawPrompt(prompt, session.color(prompt.object_id), true);
    }
    if (this.box) this.drawBox(this.box, session.selected === null ? "#fff" : session.color(session.selected), true);
    if (this.cursor) this.drawCursor(this.cursor);
  }

  drawPrompt({ points, labels, box }, color, selected) {
    if (box) this.drawBox(box, color, selected);
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
