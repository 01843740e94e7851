// COCO compressed run lengths become painted pixels. Runs go down the columns, zeros first.

/** Run lengths of `counts`: groups of 5 bits, low first, 0x20 says that more follow; from the fourth run on differences. */
export function runLengths(counts) {
  const runs = [];
  let at = 0;
  while (at < counts.length) {
    let value = 0,
      shift = 0,
      group;
    do {
      group = counts.charCodeAt(at++) - 48;
      value += (group & 0x1f) * 2 ** shift; // a shift would overflow past 31 bits
      shift += 5;
    } while (group & 0x20);
    if (group & 0x10) value -= 2 ** shift;
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

/** The mask inside its box [x, y, w, h] as bytes of 0 and 1, row by row, with a margin of one zero pixel all around. */
export function decodeBox({ size, counts }, [x, y, w, h]) {
  const height = size[0],
    stride = w + 2;
  const mask = new Uint8Array(stride * (h + 2));
  let position = 0,
    inside = false;
  for (const run of runLengths(counts)) {
    if (inside) {
      for (let left = run, start = position; left > 0;) {
        // a run may go on in the next column
        const column = Math.floor(start / height),
          row = start - column * height;
        const part = Math.min(left, height - row);
        let at = (row - y + 1) * stride + column - x + 1;
        for (let end = at + part * stride; at < end; at += stride) mask[at] = 1;
        start += part;
        left -= part;
      }
    }
    position += run;
    inside = !inside;
  }
  return mask;
}

/** Paint a mask: `color` #rrggbb, `fill` its opacity 0 to 1, `edge` the outline's width in pixels. Returns {canvas, x, y}. */
export function paint(rle, bbox, color, fill, edge) {
  const [x, y, w, h] = bbox;
  const mask = decodeBox(rle, bbox),
    stride = w + 2;
  const canvas = new OffscreenCanvas(w, h);
  const context = canvas.getContext("2d");
  const image = context.createImageData(w, h);
  const pixels = new Uint32Array(image.data.buffer);
  const bgr = parseInt(color.slice(5, 7) + color.slice(3, 5) + color.slice(1, 3), 16);
  const soft = ((Math.round(fill * 255) << 24) | bgr) >>> 0,
    hard = ((0xff << 24) | bgr) >>> 0;
  for (let row = 0, to = 0; row < h; row++) {
    for (let column = 0, at = (row + 1) * stride + 1; column < w; column++, at++, to++) {
      if (!mask[at]) continue;
      const border = !(mask[at - 1] && mask[at + 1] && mask[at - stride] && mask[at + stride]);
      if (!border) {
        if (!pixels[to]) pixels[to] = soft;
        continue;
      }
      pixels[to] = hard;
      if (edge > 1) thicken(pixels, mask, w, h, stride, column, row, edge, hard);
    }
  }
  context.putImageData(image, 0, 0);
  return { canvas, x, y };
}

/** Widen the outline inwards around one of its pixels. */
function thicken(pixels, mask, w, h, stride, column, row, edge, value) {
  const reach = edge - 1;
  for (let r = Math.max(0, row - reach); r <= Math.min(h - 1, row + reach); r++) {
    for (let c = Math.max(0, column - reach); c <= Math.min(w - 1, column + reach); c++) {
      if (mask[(r + 1) * stride + c + 1]) pixels[r * w + c] = value;
    }
  }
}
