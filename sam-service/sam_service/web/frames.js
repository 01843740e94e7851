// Frames of the session as bitmaps: the wanted one first, its successors ahead of time while playing.

import { request } from "./api.js";
import { Cache } from "./cache.js";

const BYTES_KEPT = 192 << 20;
const AHEAD = 10;

/** Loads frames of one session. `arrived` is called with the number of each frame that was wanted and came. */
export class Frames {
  constructor(session, arrived, failed) {
    this.session = session;
    this.arrived = arrived;
    this.failed = failed;
    this.bitmaps = new Cache(BYTES_KEPT, (bitmap) => bitmap.close());
    /** @type {Map<number, {abort: AbortController, shown: boolean}>} */
    this.loading = new Map(); // `shown`: asked for by itself, and shown when it comes, so that scrubbing shows something
    this.wanted = 0;
    this.ahead = 1;
    this.closing = new AbortController();
  }

  get(frame) {
    return this.bitmaps.get(frame);
  }

  /** Ask for a frame, and `ahead` times the ones that come next. A request that is of no use any more is aborted. */
  want(frame, playing = false) {
    this.wanted = frame;
    this.ahead = playing ? AHEAD : 1;
    for (const [other, request] of this.loading) {
      const useful = other >= frame && other <= frame + this.ahead;
      if (!useful && !request.shown) request.abort.abort();
    }
    this.next();
  }

  /** Start what is wanted and not under way: one request for the frame itself, two ahead. */
  next() {
    if (this.closing.signal.aborted) return;
    if (this.missing(this.wanted)) {
      const shown = [...this.loading.values()].filter((request) => request.shown);
      if (shown.length < 2) this.load(this.wanted, true);
      return;
    }
    for (let frame = this.wanted + 1; frame <= this.wanted + this.ahead && this.loading.size < 2; frame++) {
      if (frame < this.session.ready && this.missing(frame)) this.load(frame, false);
    }
  }

  missing(frame) {
    return !this.bitmaps.has(frame) && !this.loading.has(frame);
  }

  async load(frame, shown) {
    const abort = new AbortController();
    this.loading.set(frame, { abort, shown });
    try {
      const response = await request(`sessions/${this.session.id}/frames/${frame}`, { signal: abort.signal });
      const bitmap = await createImageBitmap(await response.blob());
      if (this.closing.signal.aborted) return;
      this.bitmaps.set(frame, bitmap, bitmap.width * bitmap.height * 4);
      this.loading.delete(frame);
      this.arrived(frame);
      this.next();
    } catch (error) {
      this.loading.delete(frame);
      if (error.name !== "AbortError" && frame === this.wanted && !this.closing.signal.aborted) this.failed(error);
      if (error.name === "AbortError") this.next();
    }
  }

  close() {
    this.closing.abort();
    for (const { abort } of this.loading.values()) abort.abort();
    this.bitmaps.clear();
  }
}
