// What the mouse points at on the timeline: the frame as a small picture, its number and its time.

import { request } from "./api.js";
import { byId } from "./dom.js";
import { clock } from "./say.js";

const PIXELS = 160,
  REST_MS = 60; // the pointer rests this long before a picture is asked for

/** Shows the preview above the timeline. */
export class Preview {
  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.session = session;
    this.host = byId("preview");
    this.image = byId("preview-image");
    this.frame = null;
  }

  /** Show a frame at `x` CSS pixels of the window, above `top`. `words` say what else is there. */
  show(frame, x, top, words = "") {
    const { session, host, image } = this;
    byId("preview-text").textContent = [`frame ${frame}`, clock(session.timeOf(frame), true), words].filter(Boolean).join(" · ");
    host.hidden = false;
    const half = host.offsetWidth / 2;
    host.style.left = `${Math.min(innerWidth - half - 4, Math.max(half + 4, x))}px`;
    host.style.bottom = `${innerHeight - top + 6}px`;
    if (frame === this.frame) return;
    this.frame = frame;
    image.removeAttribute("src");
    clearTimeout(this.timer);
    if (frame < session.ready) this.timer = setTimeout(() => this.load(frame), REST_MS);
  }

  async load(frame) {
    this.loading?.abort();
    this.loading = new AbortController();
    try {
      const path = `sessions/${this.session.id}/frames/${frame}?width=${PIXELS}`;
      const blob = await (await request(path, { signal: this.loading.signal })).blob();
      if (frame !== this.frame) return;
      this.image.src = URL.createObjectURL(blob);
      await this.image.decode();
      URL.revokeObjectURL(this.image.src);
    } catch {
      // the pointer went on, or the service is away: the number and the time are there
    }
  }

  hide() {
    clearTimeout(this.timer);
    this.loading?.abort();
    this.frame = null;
    this.host.hidden = true;
  }
}
