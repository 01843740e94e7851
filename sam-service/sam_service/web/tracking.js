// Carrying objects through the clip: whole, forward, back or a range; progress while it runs, and cancelling.

import { post } from "./api.js";
import { byId } from "./dom.js";
import { announce, count, failed, notify } from "./say.js";

const NOTHING = { done: 0, seconds: 0 };

/** Starts and shows propagations of a session. */
export class Tracking {
  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.session = session;
    this.legs = []; // propagations that are still to come after the one that runs
    this.before = NOTHING; // of those that are over
    this.origin = null; // the frame that tracking was started on, to which the page returns
    this.note = byId("track-note");
  }

  start() {
    const { session } = this;
    byId("follow").checked = true;
    byId("track-selected").checked = false;
    byId("track-selected").onchange = () => this.render();
    session.on(["job"], (what) => this.onJob(what));
    session.on(["objects", "range", "selected"], () => this.render());
    session.on(["tracked"], (frame) => byId("follow").checked && session.seek(frame));
    session.on(["jump"], () => session.job && (byId("follow").checked = false));
    this.render();
  }

  /** The objects to track: all, or the selected one. */
  get chosen() {
    const all = [...this.session.objects.values()];
    return byId("track-selected").checked ? all.filter((object) => object.object_id === this.session.selected) : all;
  }

  get promptedFrames() {
    return this.chosen.flatMap((object) => object.prompted_frames).sort((a, b) => a - b);
  }

  /** Track "all", "forward", "back" or "range". */
  track(kind) {
    const { session } = this;
    if (session.job) return;
    if (!this.promptedFrames.length) return notify("Click an object first; then it can be tracked.");
    this.note.textContent = "";
    this.before = NOTHING;
    this.origin = session.frame;
    byId("follow").checked = true;
    const only = byId("track-selected").checked ? { object_ids: this.chosen.map((object) => object.object_id) } : {};
    this.legs = this.plan(kind).map((leg) => ({ ...leg, ...only }));
    this.next();
  }

  plan(kind) {
    const {
      session,
      promptedFrames: [first],
    } = this;
    const start = session.frame;
    if (kind === "forward") return [{ start_frame: start, direction: "forward" }];
    if (kind === "back") return [{ start_frame: start, direction: "backward" }];
    if (kind === "all") return [{ direction: first > 0 ? "both" : "forward" }];
    const [from, to] = [session.range[0] ?? 0, session.range[1] ?? session.lastFrame];
    const prompted = this.promptedFrames.find((frame) => frame >= from && frame <= to) ?? from;
    const ahead = { start_frame: prompted, end_frame: to, direction: "forward" };
    return prompted > from ? [ahead, { start_frame: prompted - 1, end_frame: from, direction: "backward" }] : [ahead];
  }

  async next() {
    const leg = this.legs.shift();
    if (!leg) return;
    try {
      const job = await post("propagate", { session_id: this.session.id, ...leg, background: true, mask_format: "none" });
      this.session.applyJob(job);
    } catch (error) {
      this.legs = [];
      failed(error);
    }
  }

  async cancel() {
    if (!this.session.job) return;
    this.legs = [];
    byId("tracking-text").textContent = "Cancelling…";
    try {
      await post(`sessions/${this.session.id}/cancel`);
    } catch (error) {
      failed(error);
    }
  }

  /** What became of the job: running, frame, done, cancelled, failed, or lost when the service was restarted. */
  onJob(what) {
    const { ended } = this.session;
    if (what === "running") {
      this.note.textContent = "";
      announce("Tracking");
    } else if (what !== "frame") {
      this.onEnd(what, this.before.done + (ended?.done ?? 0), this.before.seconds + (ended?.elapsed_s ?? 0));
    }
    this.render();
  }

  /** A job is over; done and seconds are those of its earlier legs as well. */
  onEnd(what, done, seconds) {
    if (what === "done" && this.legs.length) {
      this.before = { done, seconds };
      this.next();
      return;
    }
    this.legs = [];
    this.before = NOTHING;
    if (this.origin !== null && byId("follow").checked) this.session.seek(this.origin); // for the other direction
    this.origin = null;
    const rate = (done / Math.max(seconds, 0.001)).toFixed(1);
    if (what === "done") this.say(`${count(done, "frame")} in ${seconds.toFixed(1)} s, ${rate} a second.`);
    else if (what === "cancelled") this.say(`Cancelled after ${count(done, "frame")}; the masks are kept.`);
    else if (what === "failed") failed(new Error(this.session.ended.error?.detail ?? "Tracking failed."));
    else if (what === "lost") this.say("Tracking ended while the connection was lost; the frames that were done are kept.");
  }

  say(text) {
    this.note.textContent = text;
    announce(text);
  }

  render() {
    const { session } = this;
    const { job } = session;
    byId("tracking").hidden = !job;
    byId("track-buttons").hidden = Boolean(job);
    const [from, to] = session.range;
    const none = from === null && to === null;
    byId("range-label").textContent = none ? "not set" : `${from ?? 0} – ${to ?? session.lastFrame}`;
    byId("track-range").disabled = none || !this.promptedFrames.length;
    byId("range-clear").disabled = none;
    for (const id of ["track-all", "track-back", "track-forward"]) byId(id).disabled = !this.promptedFrames.length;
    if (job) this.renderJob(job);
  }

  renderJob({ done, total, frames_per_second: rate }) {
    byId("tracking-text").textContent = this.legs.length ? "Tracking (1 of 2)" : "Tracking";
    byId("tracking-progress").value = total ? done / total : 0;
    const left = rate > 0 ? `, ${remaining((total - done) / rate)} left` : "";
    const speed = rate > 0 ? `, ${rate.toFixed(1)} a second` : "";
    byId("tracking-facts").textContent = `${done} of ${count(total, "frame")}${speed}${left}`;
  }
}

/** A duration in words: "33 s", "5 min 10 s", "1 h 20 min". */
export function remaining(seconds) {
  const whole = Math.ceil(seconds),
    minutes = Math.floor(whole / 60);
  if (minutes >= 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}
