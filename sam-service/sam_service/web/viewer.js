// The picture on the stage: the current frame and its masks are asked for, ahead of time while playing, and drawn.

import { byId } from "./dom.js";
import { Frames } from "./frames.js";
import { Masks } from "./masks.js";
import { failed } from "./say.js";
import { Stage } from "./stage.js";
import { View } from "./view.js";

const PREFETCHED_MASKS = 10,
  SLOW_MS = 400; // after this the page says that it reads the frame

/** Shows the session's current frame. `start` begins once all parts of the editor are there. */
export class Viewer {
  /** @param {import("./session.js").Session} session @param {import("./look.js").Look} look */
  constructor(session, look) {
    this.session = session;
    this.playing = false;
    this.frames = new Frames(session, (came) => this.onFrameCame(came), failed);
    this.masks = new Masks(session, failed, look);
    this.view = new View(() => session.emit("view"));
    this.stage = new Stage(byId("canvas"), session, this.view, this.frames, this.masks);
  }

  start() {
    const { session, stage } = this;
    session.on(["frame"], () => this.onFrame());
    session.on(["selected", "view", "objects"], () => stage.redraw());
    session.on(["picture"], (frame) => frame === stage.shownFrame && stage.redraw());
    session.on(["info"], () => this.frames.next());
    session.on(["player"], ({ playing }) => (this.playing = playing));
    stage.start();
    this.onFrame();
  }

  /** Ask again for what is on screen: the service's state may have changed meanwhile. */
  refresh() {
    this.masks.forget();
    this.frames.want(this.session.frame, this.playing);
    this.masks.want(this.session.frame);
  }

  onFrame() {
    const { frame } = this.session;
    this.frames.want(frame, this.playing);
    this.masks.keep(frame - 1, frame + PREFETCHED_MASKS);
    this.wantMasks(frame);
    this.stage.show(frame);
    byId("waiting").hidden = true;
    clearTimeout(this.slow);
    if (this.frames.get(frame)) return;
    this.slow = setTimeout(() => {
      byId("waiting").hidden = Boolean(this.frames.get(this.session.frame));
    }, SLOW_MS);
  }

  /** Ask for a frame's masks, and while playing for those of the next frames. */
  wantMasks(frame) {
    for (let next = frame; next <= frame + (this.playing ? PREFETCHED_MASKS : 0); next++) this.masks.want(next);
  }

  onFrameCame(frame) {
    const { session, stage } = this;
    if (frame === session.frame) byId("waiting").hidden = true;
    if (frame === session.frame || !this.frames.get(session.frame)) stage.show(frame);
  }

  /** Whether a frame can be shown: its picture is here, and its masks if it has any. What is missing is asked for. */
  isReady(frame) {
    if (frame >= this.session.ready) return false;
    this.frames.want(this.session.frame, true);
    this.wantMasks(frame);
    return Boolean(this.frames.get(frame)) && (!this.session.masked.has(frame) || this.masks.frames.has(frame));
  }

  close() {
    clearTimeout(this.slow);
    for (const part of [this.frames, this.masks, this.stage]) part.close();
  }
}
