// Frames that a person should check: how many there are, and the way from one to the next.

import { byId } from "./dom.js";
import { announce, count, notify } from "./say.js";

const PAUSE_MS = 250; // between two counts while scores arrive

/** Counts the frames to check and goes to them, the worst first. */
export class Checks {
  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.session = session;
  }

  start() {
    this.session.on(["tracks", "objects", "job"], () => this.soon());
    this.show();
  }

  soon() {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.show();
    }, PAUSE_MS);
  }

  show() {
    const weak = this.session.weak();
    byId("weak").hidden = !weak.length;
    byId("weak-count").textContent = weak.length;
    const gaps = this.session.job ? [] : this.session.gaps(); // while it tracks, what is to come is no gap
    byId("gap-next").hidden = !gaps.length;
    byId("gap-next").textContent = count(gaps.length, "gap");
  }

  /** Go to the worst frame to check; from there to the next worse one (1) or back (-1), around the ends. */
  jump(direction) {
    const weak = this.session.weak();
    if (!weak.length) return notify("No frame needs a check.");
    const at = weak.indexOf(this.session.frame);
    const next = at < 0 ? 0 : (at + direction + weak.length) % weak.length;
    this.session.jump(weak[next]);
    announce(`Frame ${weak[next]}, ${next + 1} of ${weak.length} to check`);
  }

  /** Go to the start of the next gap, around the end. */
  jumpGap() {
    const gaps = this.session.gaps();
    if (!gaps.length) return notify("No tracked object has a gap.");
    const next = gaps.find((frame) => frame > this.session.frame) ?? gaps[0];
    this.session.jump(next);
    announce(`Frame ${next}, the start of a gap`);
  }

  close() {
    clearTimeout(this.timer);
  }
}
