// The row of thumbnails above the lanes: small pictures, few of them, one request at a time.

import { request } from "./api.js";
import { byId } from "./dom.js";

const WIDTH = 78; // CSS pixels at least
const PIXELS = 160;

export class Thumbs {
  /** @param {import("./session.js").Session} session @param {import("./window.js").FrameWindow} shown */
  constructor(session, shown) {
    this.session = session;
    this.shown = shown;
    this.host = byId("thumbs");
    this.closing = new AbortController();
  }

  /** As many as fit beside each other, each of the frame in its middle; those that are there stay. */
  layout() {
    const frames = this.frames();
    if (this.host.dataset.frames !== frames.join()) {
      const kept = new Map([...this.host.children].map((image) => [image.dataset.frame, image]));
      this.host.dataset.frames = frames.join();
      this.host.replaceChildren(...frames.map((frame) => kept.get(String(frame)) ?? picture(frame)));
    }
    if (!this.filling) this.fill();
  }

  frames() {
    const { from, span, width } = this.shown;
    const count = Math.max(1, Math.min(Math.ceil(span), Math.floor(width / WIDTH)));
    return Array.from({ length: count }, (_, at) => Math.floor(from + ((at + 0.5) * span) / count));
  }

  /** Load what is missing, of frames that are extracted. */
  async fill() {
    this.filling = true;
    const isMissing = ({ src, dataset }) => !src && !dataset.bad && dataset.frame < this.session.ready;
    for (let image; !this.closing.signal.aborted && (image = [...this.host.children].find(isMissing));) await this.load(image);
    this.filling = false;
  }

  async load(image) {
    try {
      const path = `sessions/${this.session.id}/frames/${image.dataset.frame}?width=${PIXELS}`;
      const response = await request(path, { signal: this.closing.signal });
      image.src = URL.createObjectURL(await response.blob());
      await image.decode();
      URL.revokeObjectURL(image.src);
    } catch {
      image.dataset.bad = "yes"; // tried again when the connection is back
    }
  }

  /** Try again those that could not be had. */
  retry() {
    for (const image of this.host.children) delete image.dataset.bad;
    if (!this.filling) this.fill();
  }

  close() {
    this.closing.abort();
    this.host.replaceChildren();
    delete this.host.dataset.frames;
  }
}

function picture(frame) {
  const image = document.createElement("img");
  image.alt = "";
  image.draggable = false;
  image.dataset.frame = frame;
  return image;
}
