// A small picture in the export dialog: the frame on screen as the file will show it.

import { drawBackdrop } from "./backdrop.js";
import { byId } from "./dom.js";
import { paint } from "./rle.js";

const WIDTH = 384;

/** Draw the viewer's frame for a format. `objects` are the chosen ids; look {style, opacity} is that of a video. */
export function drawSample({ session, stage, masks }, format, objects, look) {
  const canvas = byId("export-picture"),
    { width, height } = session.info;
  const scale = Math.min(1, WIDTH / width);
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  const frame = stage.shownFrame;
  byId("export-picture-text").textContent = frame === null ? "" : `Frame ${frame}`;
  if (!stage.shown?.width) return;
  const style = format.startsWith("cutout") ? "cutout" : ["webm", "mp4"].includes(format) ? look.style : "";
  const kept = objects.map((id) => masks.mask(frame, id)).filter((mask) => mask?.bbox);
  const layers = (fill, edge) => kept.map((mask) => paint(mask.mask, mask.bbox, colorOf(session, format, mask), fill, edge));
  if (["cutout", "spotlight", "blur"].includes(style))
    return drawBackdrop(context, stage.shown, width, height, layers(1, 0), { style, opacity: look.opacity });
  if (format === "png" || format === "davis") {
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    return drawLayers(context, layers(1, 0));
  }
  context.drawImage(stage.shown, 0, 0, width, height);
  const edge = Math.max(1, Math.round(width / 400));
  drawLayers(context, layers(style === "tint" ? look.opacity : 0, edge));
}

const colorOf = (session, format, mask) => (format === "png" ? "#ffffff" : session.color(mask.object_id));

function drawLayers(context, layers) {
  for (const { canvas, x, y } of layers) context.drawImage(canvas, x, y);
}
