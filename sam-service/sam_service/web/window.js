// Which frames the timeline shows: all of them, or a part while it is zoomed.

const LEAST = 8; // frames at most zoom

/** Frames `from` to `from + span`, with fractions, over `width` CSS pixels. */
export class FrameWindow {
  constructor() {
    this.total = 1;
    this.width = 0;
    this.from = 0;
    this.span = 1;
    this.zoomed = false;
  }

  /** Take over the number of frames and the width. */
  fit(total, width) {
    this.width = width;
    if (!this.zoomed) this.from = 0;
    if (!this.zoomed) this.span = total;
    this.total = total;
    this.place(this.from, this.span);
  }

  place(from, span) {
    this.span = Math.min(this.total, Math.max(Math.min(LEAST, this.total), span));
    this.from = Math.min(this.total - this.span, Math.max(0, from));
    this.zoomed = this.span < this.total;
  }

  /** The left edge of a frame, CSS pixels; may lie outside. */
  x(frame) {
    return ((frame - this.from) / this.span) * this.width;
  }

  /** The place in frames, with a fraction, at CSS pixels. */
  at(x) {
    return this.from + (x / this.width) * this.span;
  }

  /** Show more (above 1) or fewer frames and keep what is at `x` where it is. */
  zoom(factor, x) {
    const kept = this.at(x);
    const span = Math.min(this.total, Math.max(Math.min(LEAST, this.total), this.span * factor));
    this.place(kept - (x / this.width) * span, span);
  }

  pan(pixels) {
    this.place(this.from + (pixels / this.width) * this.span, this.span);
  }

  /** Move so that a frame is shown. Returns whether that was needed. */
  reveal(frame) {
    if (frame >= this.from && frame + 1 <= this.from + this.span) return false;
    this.place(frame < this.from ? frame - this.span * 0.1 : frame + 1 - this.span * 0.9, this.span);
    return true;
  }
}
