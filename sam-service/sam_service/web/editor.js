// The editor of one session: puts its parts together and takes them down again.

import { call } from "./api.js";
import { bindActions } from "./actions.js";
import { Events } from "./events.js";
import { Exporting } from "./exporting.js";
import { Frames } from "./frames.js";
import { Masks } from "./masks.js";
import { ObjectList } from "./objects.js";
import { Player } from "./player.js";
import { Pointer } from "./pointer.js";
import { Prompting } from "./prompting.js";
import { announce, count, failed, notify } from "./say.js";
import { Session } from "./session.js";
import { Stage } from "./stage.js";
import { Timeline, clock } from "./timeline.js";
import { WORDS, verdictOf } from "./tracks.js";
import { Tracking } from "./tracking.js";
import { View } from "./view.js";

const TIMES_INTERVAL_MS = 500, // between two questions for the times of frames that were extracted meanwhile
  PREFETCHED_MASKS = 10,
  FRAME_KEPT_MS = 300;
const byId = (id) => document.getElementById(id);

export class Editor {
  /** Open the editor of a session whose state is `info`; `leave(problem)` is called when the session is gone. */
  constructor(info, frame, leave) {
    byId("editor").hidden = false;
    byId("offline").hidden = true;
    this.closing = new AbortController();
    this.leave = leave;
    const session = (this.session = new Session(info));
    session.frame = Math.min(Math.max(0, frame || 0), session.lastFrame);
    this.frames = new Frames(session, (came) => this.onFrameCame(came), failed);
    this.masks = new Masks(session, (came) => came === this.stage?.shownFrame && this.stage.redraw(), failed);
    this.view = new View(() => this.onView());
    this.stage = new Stage(byId("canvas"), session, this.view, this.frames, this.masks);
    this.prompting = new Prompting(session, {
      pending: this.stage.pending,
      failed,
      changed: () => this.onHistory(),
      done: (mask, ms) => this.onAnswer(mask, ms),
    });
    this.pointer = new Pointer(byId("canvas"), this.view, {
      click: (point, positive) => this.prompting.click(point, positive),
      box: (box) => this.prompting.box(box),
      drag: (box) => this.setBox(box),
    });
    this.player = new Player(
      session,
      (next) => this.isReady(next),
      () => this.onPlayer(),
    );
    this.timeline = new Timeline(session, (to) => this.userSeek(to));
    this.objects = new ObjectList(session, this.prompting);
    this.tracking = new Tracking(session, failed);
    this.exporting = new Exporting(session);
    this.listen();
    bindActions(this, this.closing.signal);
    this.events = new Events(session.id, {
      state: (state) => this.onState(state),
      event: (event) => this.onEvent(event),
      lost: (wait) => this.onLost(wait),
      silent: (ms) => this.onSilent(ms),
      heard: () => (byId("offline").hidden = true),
      gone: (problem) => leave(problem),
    });
    this.onInfo();
    this.onHistory();
    this.onPlayer();
    this.onFrame();
    this.onWeak();
    this.hint();
  }

  listen() {
    const { session, stage } = this;
    session.on("frame", () => this.onFrame());
    session.on("selected view objects", () => stage.redraw());
    session.on("selected objects", () => this.hint());
    session.on("info", () => this.onInfo());
    session.on("tracks", () => this.soonWeak());
    session.on("times", () => this.showTime());
    const { signal } = this.closing;
    document.addEventListener("mousedown", keepFocus, { signal });
    byId("speed").addEventListener("change", focusPicture, { signal });
    document.addEventListener("themechange", () => this.timeline.redraw(), { signal });
  }

  // The service's word

  onState(info) {
    byId("offline").hidden = true;
    this.session.apply(info);
    this.prompting.resume();
    this.session.emit("masks", { all: true });
    this.loadTracks();
    this.timeline.thumbs.retry();
    this.frames.want(this.session.frame, this.player.playing);
    this.masks.want(this.session.frame);
    if (this.wasLost) announce("Connected again");
    this.wasLost = false;
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
      if (!this.closing.signal.aborted) this.loadTimes();
    }, TIMES_INTERVAL_MS);
  }

  async loadTracks() {
    try {
      this.session.applyTracks(await call(`sessions/${this.session.id}/tracks`));
    } catch (error) {
      failed(error);
    }
  }

  onEvent(message) {
    const { session } = this;
    switch (message.event) {
      case "extraction":
        Object.assign(session.info, {
          status: message.status,
          frames_ready: message.frames_ready,
          num_frames: message.num_frames,
        });
        session.emit("info");
        break;
      case "objects":
        session.applyObjects(message.objects, message.prompts);
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
        this.exporting.progress(message);
        break;
      case "deleted":
        this.leave(new Error("This session was deleted."));
        break;
    }
  }

  onLost(wait) {
    this.wasLost = true;
    const seconds = Math.max(1, Math.round(wait / 1000));
    this.offline(`The connection to the service is lost. Trying again in ${seconds} s. Clicks are kept, nothing is lost.`);
  }

  onSilent(ms) {
    this.offline(`The service has not answered for ${Math.round(ms / 1000)} s. Clicks are kept and sent when it answers.`);
  }

  offline(text) {
    byId("offline").hidden = false;
    byId("offline-text").textContent = text;
  }

  onInfo() {
    const { info } = this.session;
    byId("video-name").textContent = info.video_name;
    const facts = [`${info.width} × ${info.height}`, count(info.num_frames, "frame"), `${Number(info.fps.toFixed(2))} fps`];
    byId("video-facts").textContent = [...facts, ...(info.truncated ? ["part of the clip"] : [])].join(" · ");
    byId("frame-number").max = this.session.lastFrame;
    byId("frame-total").textContent = `0 – ${this.session.lastFrame}`;
    const reading = info.status === "extracting";
    byId("extraction").hidden = !reading && info.status !== "failed";
    byId("extraction").textContent = reading
      ? `reading the video: ${info.frames_ready} of ${info.num_frames}`
      : `the video could be read up to frame ${info.frames_ready - 1}`;
    this.frames.next();
    this.loadTimes();
  }

  // What is on screen

  showTime() {
    byId("time").textContent = clock(this.session.timeOf(this.session.frame), true);
  }

  onFrame() {
    const { session, player } = this;
    const { frame } = session;
    this.frames.want(frame, player.playing);
    this.masks.keep(frame - 1, frame + PREFETCHED_MASKS);
    this.wantMasks(frame);
    if (document.activeElement !== byId("frame-number")) byId("frame-number").value = frame;
    this.showTime();
    this.stage.show(frame);
    byId("waiting").hidden = true;
    clearTimeout(this.waitingTimer);
    if (!this.frames.get(frame))
      this.waitingTimer = setTimeout(() => {
        byId("waiting").hidden = Boolean(this.frames.get(session.frame));
      }, 400);
    clearTimeout(this.hashTimer);
    this.hashTimer = setTimeout(
      () => history.replaceState(null, "", `#session=${session.id}&frame=${session.frame}`),
      FRAME_KEPT_MS,
    );
  }

  /** Ask for a frame's masks, and while playing for those of the next frames. */
  wantMasks(frame) {
    for (let next = frame; next <= frame + (this.player.playing ? PREFETCHED_MASKS : 0); next++) this.masks.want(next);
  }

  onFrameCame(frame) {
    if (frame === this.session.frame) byId("waiting").hidden = true;
    if (frame === this.session.frame || !this.frames.get(this.session.frame)) this.stage.show(frame);
  }

  /** Whether a frame can be shown: its picture is here, and its masks if it has any. What is missing is asked for. */
  isReady(frame) {
    if (frame >= this.session.ready) return false;
    this.frames.want(this.session.frame, true);
    this.wantMasks(frame);
    return Boolean(this.frames.get(frame)) && (!this.session.masked.has(frame) || this.masks.frames.has(frame));
  }

  onView() {
    byId("zoom-label").textContent = `${Math.round(this.view.scale * (window.devicePixelRatio || 1) * 100)}%`;
    this.stage?.redraw();
  }

  setBox(box) {
    this.stage.box = box;
    this.stage.redraw();
  }

  onPlayer() {
    const { playing, speed } = this.player;
    byId("play").setAttribute("aria-label", playing ? "Pause" : "Play");
    byId("play")
      .querySelector("use")
      .setAttribute("href", playing ? "#i-pause" : "#i-play");
    byId("speed").value = String(speed);
  }

  onHistory() {
    if (!this.prompting) return;
    const {
      history: { done, undone },
      waiting,
    } = this.prompting;
    byId("undo").disabled = !done.length;
    byId("redo").disabled = !undone.length;
    byId("undo").title = done.length ? `Undo ${done.at(-1).label} (Ctrl+Z)` : "Undo (Ctrl+Z)";
    byId("canvas").classList.toggle("busy", waiting > 0);
    byId("canvas").dataset.waiting = waiting;
  }

  onAnswer(mask, ms) {
    byId("canvas").dataset.answerMs = Math.round(ms);
    announce(`${this.session.name(mask.object_id)}: ${count(mask.area, "pixel")}, ${WORDS[verdictOf(mask)]}`);
  }

  hint() {
    const { objects, selected } = this.session;
    byId("hint").textContent = !objects.size
      ? "Click what you want to follow, or drag a box around it"
      : selected === null
        ? "Click the new object"
        : "";
  }

  soonWeak() {
    if (this.weakTimer) return;
    this.weakTimer = setTimeout(() => {
      this.weakTimer = null;
      this.onWeak();
    }, 250);
  }

  onWeak() {
    const weak = this.session.weak();
    byId("weak").hidden = !weak.length;
    byId("weak-count").textContent = weak.length;
  }

  // What the user does in more than one place

  userSeek(frame) {
    this.player.pause();
    if (this.session.job) byId("follow").checked = false;
    this.session.seek(frame);
  }

  /** Go to the worst frame to check; from there to the next worse one (1) or back (-1), around the ends. */
  jumpWeak(direction) {
    const weak = this.session.weak();
    if (!weak.length) return notify("No frame needs a check.");
    const at = weak.indexOf(this.session.frame);
    const next = at < 0 ? 0 : (at + direction + weak.length) % weak.length;
    this.userSeek(weak[next]);
    announce(`Frame ${weak[next]}, ${next + 1} of ${weak.length} to check`);
  }

  close() {
    this.closing.abort();
    this.events.close();
    this.player.pause();
    for (const timer of [this.hashTimer, this.waitingTimer, this.weakTimer]) clearTimeout(timer);
    for (const part of [this.frames, this.masks, this.stage, this.timeline, this.pointer, this.prompting]) part.close();
    byId("offline").hidden = true;
    byId("editor").hidden = true;
  }
}

const focusPicture = () => byId("canvas").focus({ preventScroll: true, focusVisible: false });

/** A button that is clicked does not take the focus, so that Space plays afterwards; a field that is edited is left. */
function keepFocus(event) {
  if (event.target.closest("dialog") || !event.target.closest("button, .check")) return;
  event.preventDefault();
  focusPicture();
}
