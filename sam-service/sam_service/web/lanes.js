// How the timeline is painted: ruler, range, and a lane for each object with how good its masks are.

import { clock } from "./say.js";
import { isWeak, verdict } from "./tracks.js";

export const RULER = 18,
  HEAD = 66, // ruler and thumbnails, which stay while the lanes scroll
  LANE = 22;
const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];

/** Paints a session's timeline through a window of frames. `colors` are those of the style sheet. */
export class Lanes {
  /** @param {import("./session.js").Session} session @param {import("./window.js").FrameWindow} shown */
  constructor(session, shown) {
    this.session = session;
    this.shown = shown;
    /** @type {any} */
    this.colors = {};
  }

  x(frame) {
    return this.shown.x(frame);
  }

  drawRuler(context) {
    const { session, shown } = this;
    const { fps } = session.info;
    context.font = "10px system-ui, sans-serif";
    context.fillStyle = this.colors.muted;
    const step = STEPS_S.find((seconds) => (seconds * fps * shown.width) / shown.span >= 64) || 1200;
    const first = Math.floor(session.timeOf(Math.floor(shown.from)) / step) * step,
      end = session.timeOf(Math.min(session.lastFrame, Math.ceil(shown.from + shown.span)));
    for (let at = 0, seconds = first; seconds <= end; at++, seconds = first + at * step) {
      const x = this.x(session.frameAt(seconds));
      if (x < -1) continue;
      context.fillRect(x, RULER - 5, 1, 5);
      if (x < shown.width - 34) context.fillText(clock(seconds, step < 1), x + 4, RULER - 5);
    }
    if (!shown.zoomed) return;
    context.fillStyle = this.colors.accent; // which part of the clip is shown
    const whole = shown.width / shown.total;
    context.fillRect(shown.from * whole, 0, Math.max(8, shown.span * whole), 2);
  }

  drawUnread(context, height) {
    const x = this.x(this.session.ready);
    context.globalAlpha = 0.75;
    context.fillStyle = this.colors.raised;
    context.fillRect(x, RULER, this.shown.width - x, height - RULER);
    context.globalAlpha = 1;
  }

  /** One object's lane: a column for each pixel, as high as the lowest score of its frames; those to check underlined. */
  drawLane(context, id, top) {
    const { session, shown } = this;
    const track = session.tracks.get(id),
      floor = top + LANE - 4,
      height = LANE - 8;
    context.fillStyle = this.colors.line;
    context.fillRect(0, floor, shown.width, 1);
    if (track) {
      context.globalAlpha = session.hidden.has(id) ? 0.35 : 1;
      const columns = Math.min(Math.ceil(shown.span), Math.ceil(shown.width)),
        start = Math.floor(shown.from);
      for (let column = 0; column <= columns; column++) {
        const first = start + Math.floor((column * shown.span) / columns),
          end = Math.max(first + 1, start + Math.floor(((column + 1) * shown.span) / columns));
        this.drawColumn(context, track, session.color(id), first, end, floor, height);
      }
      context.globalAlpha = 1;
    }
    this.drawGaps(context, session.gapsOf(id), floor);
    for (const frame of session.objects.get(id).prompted_frames)
      this.drawPrompted(context, this.x(frame + 0.5), floor - height / 2);
  }

  /** Frames `first` to `end` of a track as one column. */
  drawColumn(context, track, color, first, end, floor, height) {
    let lowest = 2,
      line = null,
      inFrame = false,
      some = false;
    for (let frame = first; frame < end; frame++) {
      const found = verdict(track, frame);
      if (found === undefined) continue;
      some = true;
      if (isWeak(track, frame)) line = found === "lost" || line === "lost" ? "lost" : "check";
      if (found === "gone") continue;
      inFrame = true;
      lowest = Math.min(lowest, track.score[frame]);
    }
    if (!some) return;
    const x = Math.round(this.x(first)),
      wide = Math.max(1, Math.round(this.x(end)) - x);
    const tall = inFrame ? Math.max(3, Math.round(lowest * height)) : 1;
    context.fillStyle = color;
    context.fillRect(x, floor - tall, wide, tall);
    if (!line) return;
    context.fillStyle = this.colors[line];
    context.fillRect(x, floor + 1, Math.max(2, wide), 3);
  }

  /** Stretches without a mask between or beside tracked ones: a dotted line. */
  drawGaps(context, gaps, floor) {
    context.fillStyle = this.colors.muted;
    for (const [from, to] of gaps) {
      const end = Math.min(this.shown.width, this.x(to + 1));
      for (let x = Math.max(0, this.x(from)) + 1; x < end - 1; x += 5) context.fillRect(x, floor - 5, 2, 2);
    }
  }

  drawPrompted(context, x, y) {
    context.beginPath();
    context.moveTo(x, y - 5);
    context.lineTo(x + 5, y);
    context.lineTo(x, y + 5);
    context.lineTo(x - 5, y);
    context.closePath();
    context.fillStyle = "#fff";
    context.fill();
    context.lineWidth = 1.5;
    context.strokeStyle = "#14171c";
    context.stroke();
  }

  drawRange(context, height) {
    const [from, to] = this.session.range;
    if (from === null && to === null) return;
    const left = this.x(from ?? 0),
      right = this.x((to ?? this.session.lastFrame) + 1);
    context.fillStyle = "rgb(0 0 0 / 45%)";
    context.fillRect(0, RULER, left, height - RULER);
    context.fillRect(right, RULER, this.shown.width - right, height - RULER);
    context.fillStyle = this.colors.accent;
    context.fillRect(left, RULER - 3, right - left, 3);
    context.fillRect(left, RULER - 3, 2, height);
    context.fillRect(right - 2, RULER - 3, 2, height);
  }
}
