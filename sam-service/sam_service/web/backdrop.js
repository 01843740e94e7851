// What is outside of the objects: darkened, blurred or left out, with the objects themselves unchanged on it.

const BLUR_PART = 60, // a blur's width is this part of the longer side, as in exports
  TILE = 8; // pixels of a square of the board that stands for nothing

/** Draw a frame's `picture` over `width` x `height` of `context`, all but what `layers` cover in the style. */
export function drawBackdrop(context, picture, width, height, layers, { style, opacity }) {
  if (style === "cutout") drawBoard(context, width, height);
  else context.drawImage(picture, 0, 0, width, height);
  if (style === "spotlight") {
    context.fillStyle = `rgb(0 0 0 / ${opacity * 100}%)`;
    context.fillRect(0, 0, width, height);
  }
  if (style === "blur") {
    context.save();
    context.beginPath();
    context.rect(0, 0, width, height);
    context.clip();
    context.globalAlpha = opacity;
    const scale = context.getTransform().a; // a filter's length counts pixels of the canvas
    context.filter = `blur(${(Math.max(width, height) / BLUR_PART) * scale}px)`;
    context.drawImage(picture, 0, 0, width, height);
    context.restore();
  }
  context.drawImage(cutOut(picture, width, height, layers), 0, 0);
}

/** The picture inside of all layers, as a canvas. */
function cutOut(picture, width, height, layers) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  for (const { canvas: layer, x, y } of layers) context.drawImage(layer, x, y);
  context.globalCompositeOperation = "source-in";
  context.drawImage(picture, 0, 0, width, height);
  return canvas;
}

/** A board of two greys, as programs for pictures show what is transparent. */
function drawBoard(context, width, height) {
  context.fillStyle = "#d9dde3";
  context.fillRect(0, 0, width, height);
  context.fillStyle = "#b9bfc9";
  for (let y = 0; y < height; y += TILE)
    for (let x = (y / TILE) % 2 ? TILE : 0; x < width; x += 2 * TILE)
      context.fillRect(x, y, Math.min(TILE, width - x), Math.min(TILE, height - y));
}
