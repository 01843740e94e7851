// The line to the service: its state and events go into the session, and what is wrong with the line is said.

import { call } from "./api.js";
import { byId } from "./dom.js";
import { Events } from "./events.js";
import { announce, failed } from "./say.js";

const HISTORY_PAUSE_MS = 250;
const TIMES_INTERVAL_MS = 500; // between two questions for the times of frames that were extracted meanwhile

/** Keeps a session in step with the service. `returned` is called when the whole state was read anew, `exported` with the
 * progress of exports, `gone` with the reason when the session is no more. */
export class Link {
  /** @param {import("./session.js").Session} session */
  constructor(session, { returned, exported, gone }) {
    this.session = session;
    this.returned = returned;
    this.exported = exported;
    this.gone = gone;
    this.closed = false;
  }

  start() {
    this.session.on(["info"], () => this.loadTimes());
    this.session.on(["remasked"], () => this.loadTracks());
    this.events = new Events(this.session.id, {
      state: (state) => this.onState(state),
      event: (event) => this.onEvent(event),
      lost: (wait) => this.onLost(wait),
      silent: (ms) => this.onSilent(ms),
      heard: () => this.showLine(""),
      gone: this.gone,
    });
    this.loadTimes();
  }

  retryNow() {
    this.events.retryNow();
  }

  onState(info) {
    this.showLine("");
    this.session.apply(info);
    this.loadTracks();
    this.returned();
    if (this.wasLost) announce("Connected again");
    this.wasLost = false;
  }

  onEvent(message) {
    const { session } = this;
    switch (message.event) {
      case "extraction":
        session.applyExtraction(message);
        break;
      case "objects":
        session.applyObjects(message.objects, message.prompts);
        this.soonHistory();
        break;
      case "masks":
        session.applyChangedMasks(message.frames);
        break;
      case "mask":
        session.applyMask(message.object);
        break;
      case "job":
        session.applyJob(message.job);
        break;
      case "frame":
        session.applyFrame(message);
        break;
      case "export":
        this.exported(message);
        break;
      case "deleted":
        this.gone(new Error("This session was deleted."));
        break;
    }
  }

  onLost(wait) {
    this.wasLost = true;
    const seconds = Math.max(1, Math.round(wait / 1000));
    this.showLine(`The connection to the service is lost. Trying again in ${seconds} s. Clicks are kept, nothing is lost.`);
  }

  onSilent(ms) {
    this.showLine(`The service has not answered for ${Math.round(ms / 1000)} s. Clicks are kept and sent when it answers.`);
  }

  /** Say what is wrong with the line; nothing is with an empty text. */
  showLine(text) {
    byId("offline").hidden = !text;
    if (text) byId("offline-text").textContent = text;
  }

  /** Ask when the frames are shown, once for all that were extracted meanwhile. */
  async loadTimes() {
    const { session } = this;
    if (this.loadingTimes || session.times.length >= session.ready) return;
    this.loadingTimes = true;
    try {
      session.applyTimes((await call(`sessions/${session.id}/timestamps`)).timestamps_s);
    } catch (error) {
      failed(error);
    }
    setTimeout(() => {
      this.loadingTimes = false;
      if (!this.closed) this.loadTimes();
    }, TIMES_INTERVAL_MS);
  }

  /** Ask what can be undone after another page's, or this one's, change; once for several that follow each other. */
  soonHistory() {
    this.asking ??= setTimeout(async () => {
      this.asking = null;
      try {
        this.session.applyHistory((await call(`sessions/${this.session.id}`)).history);
      } catch (error) {
        if (!this.closed) failed(error);
      }
    }, HISTORY_PAUSE_MS);
  }

  async loadTracks() {
    try {
      this.session.applyTracks(await call(`sessions/${this.session.id}/tracks`));
    } catch (error) {
      failed(error);
    }
  }

  close() {
    this.closed = true;
    clearTimeout(this.asking);
    this.events?.close();
    this.showLine("");
  }
}
