// Brush and eraser: the chosen object's mask is painted by hand and goes to the service as a mask prompt.

import { byId } from "./dom.js";
import { notify } from "./say.js";
import { decodeBox } from "./rle.js";

/** Paints over the frame. What is painted is on `stage.painting` until the service has answered. */
export class Brush {
  /** @param {import("./viewer.js").Viewer} viewer @param {import("./prompting.js").Prompting} prompting */
  constructor({ session, view, stage, masks }, prompting) {
    this.session = session;
    this.view = view;
    this.stage = stage;
    this.masks = masks;
    this.prompting = prompting;
    this.stroke = null; // {canvas, context, erases, last, id, frame}
  }

  /** The brush's width in pixels of the frame. */
  get width() {
    return Number(byId("brush-size").value);
  }

  /** Show the brush's outline around a point of the frame; null hides it. */
  hover(point) {
    this.stage.brush = point && { point, radius: this.width / 2 };
    this.stage.redraw();
  }

  /** Put the brush down at a point of the frame. */
  begin(point, erases) {
    const { session, masks } = this;
    const { selected: id, frame } = session;
    if (erases && (id === null || !masks.mask(frame, id)?.bbox)) return notify("There is no mask here to erase from.");
    const { width, height } = session.info;
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d");
    const mask = id === null ? undefined : masks.mask(frame, id);
    if (mask?.bbox) context.putImageData(whitened(mask), mask.bbox[0], mask.bbox[1]);
    Object.assign(context, { strokeStyle: "#fff", lineCap: "round", lineJoin: "round", lineWidth: this.width });
    context.globalCompositeOperation = erases ? "destination-out" : "source-over";
    this.stroke = { canvas, context, last: point, id, frame };
    this.stage.painting = { canvas, id, frame };
    this.to(point);
  }

  /** Draw on to a point of the frame. */
  to(point) {
    if (!this.stroke) return;
    const { context, last } = this.stroke;
    context.beginPath();
    context.moveTo(last[0], last[1]);
    context.lineTo(point[0], point[1]);
    context.stroke();
    this.stroke.last = point;
    this.hover(point);
  }

  /** Take the brush up: the mask is sent. */
  async end() {
    const { stroke, stage } = this;
    if (!stroke) return;
    this.stroke = null;
    const { canvas, context, id, frame } = stroke;
    if (!harden(context, canvas)) {
      this.cancel();
      return notify("Nothing of the mask would be left. Clear the frame instead, or mark the object as not in it.");
    }
    await this.prompting.paint(id, frame, base64(canvas));
    if (stage.painting?.canvas === canvas) stage.painting = null;
    stage.redraw();
  }

  /** Forget the stroke under way. */
  cancel() {
    this.stroke = null;
    this.stage.painting = null;
    this.stage.redraw();
  }
}

/** A mask's box as white pixels. */
function whitened({ mask, bbox }) {
  const [, , w, h] = bbox;
  const inside = decodeBox(mask, bbox),
    image = new ImageData(w, h);
  const pixels = new Uint32Array(image.data.buffer);
  for (let row = 0; row < h; row++)
    for (let column = 0; column < w; column++)
      if (inside[(row + 1) * (w + 2) + column + 1]) pixels[row * w + column] = 0xffffffff;
  return image;
}

/** Make a painted canvas white on black, without soft edges. Returns how many pixels are white. */
function harden(context, canvas) {
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  let area = 0;
  for (let at = 0; at < pixels.length; at++) {
    const white = pixels[at] >>> 24 > 127;
    area += Number(white);
    pixels[at] = white ? 0xffffffff : 0xff000000;
  }
  if (area) context.putImageData(image, 0, 0);
  return area;
}

async function base64(canvas) {
  const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: "image/png" })).arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}
