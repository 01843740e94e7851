// The page's copy of the session's state. It comes from the service alone; views listen and draw.

import { gaps, weakFrames, weakStretches } from "./tracks.js";

const NO_COLOR = "#9aa3b2";

/** What may change: the service's state (info, objects, history, masks, remasked, tracks, times, job, tracked), what the page shows (frame,
 * selected, range, view, picture), what the user does (jump, prompts, player). */
const EVENTS = ["info", "objects", "masks", "tracks", "times", "job", "tracked", "frame", "selected", "range", "view", "picture",
  "jump", "prompts", "player", "history", "remasked"]; // prettier-ignore

/** @typedef {"info"|"objects"|"masks"|"tracks"|"times"|"job"|"tracked"|"frame"|"selected"|"range"|"view"|"picture"|"jump"
 * |"prompts"|"player"|"history"|"remasked"} EventName */
/** @typedef {{object_id: number, frame_idx: number, points: number[][], labels: number[], box: number[]|null, mask: boolean}}
 * Prompt */
/** @typedef {{object_id: number, name: string, color: string, prompted_frames: number[], locked: boolean,
 * absent_from: number[]}} ObjectState */
/** @typedef {{size: number[], counts: string}} Rle */
/** @typedef {{frame_idx: number, object_id: number, mask: Rle, mask_format: string, score: number, object_score: number,
 * area: number, bbox: number[]|null}} ObjectMask */
/** @typedef {{score: number[], object_score: number[], area: number[]}} Track */

/** The open session. Listeners hear what changed by the names of EVENTS. */
export class Session {
  constructor(info) {
    /** @type {any} */
    this.info = info;
    this.id = info.session_id;
    this.frame = 0;
    this.selected = null; // an object id; null is a new object that has no click yet
    /** @type {Set<number>} */
    this.hidden = new Set();
    /** @type {(number|null)[]} */
    this.range = [null, null];
    /** @type {number[]} */
    this.times = []; // when each extracted frame is shown, in seconds
    /** @type {Map<number, Track>} */
    this.tracks = new Map(); // object id -> columns by frame, with holes
    /** @type {any} */
    this.job = null; // the propagation under way
    /** @type {any} */
    this.ended = null; // the one before it
    /** @type {Prompt[]} */
    this.pending = []; // prompts that the service has not answered yet
    this.history = { undo: [], redo: [] }; // steps of the service's history, the next one first
    this.listeners = new Map(EVENTS.map((name) => [name, new Set()]));
    /** @type {Map<number, ObjectState>} */
    this.objects = new Map();
    /** @type {Map<string, Prompt>} */
    this.prompts = new Map();
    this.apply(info);
    this.selected = this.objects.size ? [...this.objects.keys()][0] : null;
  }

  /** Call `listener` on these events. Returns a function that ends it. @param {EventName[]} names */
  on(names, listener) {
    for (const name of names) this.of(name).add(listener);
    return () => names.forEach((name) => this.of(name).delete(listener));
  }

  /** @param {EventName} name */
  emit(name, detail = undefined) {
    for (const listener of this.of(name)) listener(detail);
  }

  of(name) {
    const found = this.listeners.get(name);
    if (!found) throw new Error(`there is no event "${name}"`);
    return found;
  }

  /** Take over the service's state. */
  apply(info) {
    const was = this.job;
    this.info = info;
    this.masked = new Set(info.frames_with_masks);
    this.job = info.running;
    if (this.job?.job_id === this.ended?.job_id) this.ended = null;
    this.applyChange(info);
    this.emit("info");
    if (was || this.job) this.emit("job", this.job ? "running" : "lost");
  }

  /** Take over how far the video is read. */
  applyExtraction({ status, frames_ready, num_frames }) {
    Object.assign(this.info, { status, frames_ready, num_frames });
    this.emit("info");
  }

  /** Take over objects, prompts and what can be undone. */
  applyChange({ objects, prompts, history }) {
    this.applyObjects(objects, prompts);
    this.applyHistory(history);
  }

  applyHistory(history) {
    this.history = history;
    this.emit("history");
  }

  /** Frames have other masks now: what the page holds of them is asked for again. */
  applyChangedMasks(frames) {
    for (const frame of frames) this.masked.add(frame);
    this.emit("remasked", frames);
  }

  /** Take over objects and prompts; what is gone loses its masks. */
  applyObjects(objects, prompts) {
    const before = this.objects;
    this.objects = new Map(objects.map((object) => [object.object_id, object]));
    this.prompts = new Map(prompts.map((prompt) => [promptKey(prompt.object_id, prompt.frame_idx), prompt]));
    const without = [...before.keys()].filter((id) => !this.objects.get(id)?.prompted_frames.length);
    for (const id of without) this.tracks.delete(id);
    if (this.selected !== null && !this.objects.has(this.selected)) this.selected = [...this.objects.keys()].at(-1) ?? null;
    this.emit("objects");
    if (without.length) this.emit("masks", { without });
  }

  /** Take over an object's mask on a frame, `mask` being its RLE. */
  applyMask(mask) {
    this.noteMask(mask);
    this.emit("masks", { frame: mask.frame_idx, objects: [mask] });
    this.emit("tracks");
  }

  /** Take over a job's start or end. An end that was taken over stays. */
  applyJob(job) {
    if (job.state === "interrupted") return; // the service stops, and goes on with it when it is back
    if (job.state === "running") {
      if (this.ended?.job_id === job.job_id || this.job?.job_id === job.job_id) return;
      this.job = job;
    } else {
      if (this.ended?.job_id === job.job_id) return;
      this.job = null;
      this.ended = job;
    }
    this.emit("job", job.state);
  }

  /** Take over a frame of a running propagation. */
  applyFrame(event) {
    for (const mask of event.objects) this.noteMask(mask);
    if (this.job?.job_id === event.job_id)
      Object.assign(this.job, { done: event.done, total: event.total, frames_per_second: event.frames_per_second });
    this.emit("masks", { frame: event.frame_idx, objects: event.objects });
    this.emit("tracks");
    this.emit("job", "frame");
    this.emit("tracked", event.frame_idx);
  }

  noteMask(mask) {
    this.masked.add(mask.frame_idx);
    const track = this.track(mask.object_id);
    for (const column of ["score", "object_score", "area"]) track[column][mask.frame_idx] = mask[column];
  }

  track(id) {
    if (!this.tracks.has(id)) this.tracks.set(id, { score: [], object_score: [], area: [] });
    return this.tracks.get(id);
  }

  /** Take over the columns of `/tracks`. */
  applyTracks(answer) {
    this.tracks.clear();
    for (const columns of answer.objects) {
      const track = this.track(columns.object_id);
      columns.frames.forEach((frame, at) => {
        for (const column of ["score", "object_score", "area"]) track[column][frame] = columns[column][at];
      });
    }
    this.emit("tracks");
  }

  /** Take over when each frame is shown: seconds, of all frames that are extracted. */
  applyTimes(times) {
    this.times = times;
    this.emit("times");
  }

  /** When a frame is shown, in seconds from the start; by the mean rate where that is not known yet. */
  timeOf(frame) {
    if (frame < this.times.length) return this.times[frame];
    const last = this.times.length - 1;
    return last < 0 ? frame / this.info.fps : this.times[last] + (frame - last) / this.info.fps;
  }

  /** The place in frames, with a fraction, that is reached after so many seconds. */
  frameAt(seconds) {
    let [low, high] = [0, this.lastFrame];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.timeOf(middle) <= seconds) low = middle;
      else high = middle - 1;
    }
    const length = this.timeOf(low + 1) - this.timeOf(low);
    return low + (length > 0 ? Math.min(1, (seconds - this.timeOf(low)) / length) : 0);
  }

  get lastFrame() {
    return Math.max(0, this.info.num_frames - 1);
  }

  get ready() {
    return this.info.frames_ready;
  }

  seek(frame) {
    const target = Math.min(this.lastFrame, Math.max(0, Math.round(frame)));
    if (target === this.frame) return;
    this.frame = target;
    this.emit("frame");
  }

  /** The user goes to a frame: playing stops, and what follows a propagation stops following. */
  jump(frame) {
    this.emit("jump");
    this.seek(frame);
  }

  select(id) {
    if (id === this.selected) return;
    this.selected = id;
    this.emit("selected");
  }

  setHidden(id, hidden) {
    if (hidden) this.hidden.add(id);
    else this.hidden.delete(id);
    this.emit("view");
  }

  setRange(range) {
    const [from, to] = range;
    this.range = from !== null && to !== null && from > to ? [to, from] : range;
    this.emit("range");
  }

  prompt(id, frame) {
    return this.prompts.get(promptKey(id, frame));
  }

  promptsOf(id) {
    return [...this.prompts.values()].filter((prompt) => prompt.object_id === id);
  }

  color(id) {
    return this.objects.get(id)?.color ?? NO_COLOR;
  }

  name(id) {
    return this.objects.get(id)?.name ?? `object ${id}`;
  }

  /** An object's stretches of frames without a mask, once it is tracked: [first, last] each. */
  gapsOf(id) {
    const track = this.tracks.get(id);
    return track ? gaps(track, this.objects.get(id).prompted_frames, this.lastFrame) : [];
  }

  weakStretches(id) {
    const track = this.tracks.get(id);
    return track ? weakStretches(track) : [];
  }

  /** The first frames of all gaps, ascending. */
  gaps() {
    const starts = [...this.objects.keys()].flatMap((id) => this.gapsOf(id)).map(([from]) => from);
    return [...new Set(starts)].sort((a, b) => a - b);
  }

  /** Frames where a mask should be looked at, ascending. */
  weak() {
    return weakFrames([...this.tracks.entries()].filter(([id]) => this.objects.has(id)).map(([, track]) => track));
  }
}

export const promptKey = (id, frame) => `${id}:${frame}`;
