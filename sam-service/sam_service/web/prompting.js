// Clicks, boxes and objects: what the user does becomes calls, in the order it was done. The service keeps what can be undone.

import { Unreachable, call, post } from "./api.js";
import { announce, count, failed, notify } from "./say.js";
import { WORDS, verdictOf } from "./tracks.js";

const ROUND = 100;
const RETRY_MS = 2000;
/** What a step of the service's history is called on the page. */
export const STEPS = {
  add: "new object",
  refine: "click",
  clear: "clearing of a frame",
  remove: "removal of an object",
  edit: "change of an object",
  merge: "merge",
  absent: "“not in the frame”",
  start_over: "start over",
};

/** Acts on one session. The session says "prompts" when what is under way changes. */
export class Prompting {
  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.session = session;
    this.pending = session.pending;
    /** @type {Promise<unknown>} */
    this.queue = Promise.resolve();
    this.waiting = 0;
    this.resume = () => {}; // sends at once what waits for the service
    this.closed = false;
    /** @type {{id?: number}} */
    this.draft = {}; // a new object; it has an id once its first prompt is answered
  }

  changed() {
    this.session.emit("prompts", this);
  }

  /** Run a task after the ones before it. Its failure is shown and does not stop the next. */
  run(task) {
    this.waiting += 1;
    this.changed();
    const result = this.queue
      .then(task)
      .catch(failed)
      .finally(() => {
        this.waiting -= 1;
        this.changed();
      });
    this.queue = result;
    return result;
  }

  click(point, positive) {
    return this.prompt({ points: [point.map(round)], labels: [positive ? 1 : 0] });
  }

  box(box) {
    return this.prompt({ box: box.map(round) });
  }

  /** Add points or a box to the selected object, or to a new one, on the current frame. */
  prompt(added) {
    const { session } = this;
    const frame = session.frame;
    const { draft } = this;
    const mark = { points: [], labels: [], ...added, frame_idx: frame, object_id: session.selected };
    this.pending.push(mark);
    session.emit("view");
    return this.run(() => this.send(mark.object_id, frame, added, draft)).finally(() => {
      this.pending.splice(this.pending.indexOf(mark), 1);
      session.emit("view");
    });
  }

  async send(id, frame, added, draft) {
    const { session } = this;
    id ??= session.objects.has(draft.id) ? draft.id : null;
    const created = id === null;
    const after = merged(created ? null : content(session.prompt(id, frame)), added);
    const body = { session_id: session.id, frame_idx: frame, ...(created ? {} : { object_id: id }), ...added };
    const earlier = new Set(session.objects.keys());
    const answer = await this.delivered(
      () => post(created ? "add-object" : "refine", { ...body, mask_format: "rle" }),
      () => this.carriedOut(frame, after, (other) => (created ? !earlier.has(other) : other === id)),
    );
    await this.answered(answer, created && draft === this.draft);
    draft.id = answer.object_id;
  }

  /** Take over an object's answered mask, and the session's state after it. */
  async answered(mask, selects) {
    const { session } = this;
    session.applyMask(mask);
    await this.refresh();
    if (selects) session.select(mask.object_id);
    announce(`${session.name(mask.object_id)}: ${count(mask.area, "pixel")}, ${WORDS[verdictOf(mask)]}`);
  }

  /** Send until the service answers, and say once that the click is kept. `found` looks for a call whose answer was lost. */
  async delivered(send, found) {
    for (let failures = 0; ; failures++) {
      try {
        return (failures && (await found())) || (await send());
      } catch (error) {
        if (!isAway(error)) throw error;
        const why = error instanceof Unreachable ? "The service cannot be reached." : "The service is starting or stopping.";
        if (!failures) notify(`${why} Your click is kept and is sent when it is back.`, true);
      }
      await this.pause();
      if (this.closed) throw new DOMException("the session was left", "AbortError");
    }
  }

  /** Wait a while, or until the connection is back. */
  pause() {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, RETRY_MS);
      this.resume = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** The mask of a prompt that the service holds already, of an object that `matches`; undefined where it does not. */
  async carriedOut(frame, wanted, matches) {
    const { id } = this.session;
    const { prompts } = await call(`sessions/${id}`);
    const same = (prompt) => JSON.stringify(content(prompt)) === JSON.stringify(wanted);
    const held = prompts.find((prompt) => prompt.frame_idx === frame && matches(prompt.object_id) && same(prompt));
    if (!held) return undefined;
    const { objects } = await call(`sessions/${id}/masks/${frame}?mask_format=rle`);
    const mask = objects.find((other) => other.object_id === held.object_id);
    return mask && { ...mask, frame_idx: frame };
  }

  /** Give an object another prompt on a frame: what `wanted` has of points, labels and a box; nothing clears the frame. */
  rewrite(id, frame, wanted, label) {
    const { session } = this;
    const target = { session_id: session.id, object_id: id, frame_idx: frame };
    return this.run(async () => {
      const prompt = content(rounded(wanted));
      if (prompt) return this.answered(await post("refine", { ...target, ...prompt, replace: true, mask_format: "rle" }), false);
      await post("clear-prompts", target);
      await this.refresh();
      if (session.objects.get(id)?.prompted_frames.length) await this.trackAgain(id, frame);
      announce(`${session.name(id)}: ${label}`);
    });
  }

  /** A frame whose last prompt was cleared gets the tracked mask again, unless a propagation does so anyway. */
  async trackAgain(id, frame) {
    const { session } = this;
    if (session.job) return;
    const where = { start_frame: frame, end_frame: frame, object_ids: [id] };
    const answer = await post("propagate", { session_id: session.id, ...where, mask_format: "rle" });
    for (const { objects } of answer.frames) objects.forEach((mask) => session.applyMask(mask));
  }

  /** Clear what the chosen object is prompted with on this frame. */
  clearFrame() {
    const { selected: id, frame } = this.session;
    if (id === null || !this.session.prompt(id, frame)) return notify("This object has no click, box or mask on this frame.");
    return this.rewrite(id, frame, null, "the frame is cleared");
  }

  /** Say that the chosen object is not in the frame from here on, until its next prompt. */
  markAbsent() {
    const { selected: id, frame } = this.session;
    if (id === null) return notify("Choose an object first.");
    return this.act("mark-absent", { object_id: id, frame_idx: frame }, () => `${this.session.name(id)}: not in the frame from here`);
  }

  /** Give an object, or a new one (`id` null), a painted mask on a frame: base64, to come, of a PNG as large as the frame. */
  paint(id, frame, painted) {
    return this.run(async () => {
      const body = { session_id: this.session.id, frame_idx: frame, mask: await painted, mask_format: "rle" };
      const answer = await post(id === null ? "add-object" : "refine", id === null ? body : { ...body, object_id: id });
      return this.answered(answer, id === null);
    });
  }

  /** Choose to click a new object next. */
  newObject() {
    this.draft = {};
    this.session.select(null);
  }

  remove(id) {
    const name = this.session.name(id);
    return this.act("remove-object", { object_id: id }, () => `${name} is removed`);
  }

  /** Remove all objects that are not locked. */
  startOver() {
    return this.act("start-over", {}, () => "All objects are removed. Undo brings them back.");
  }

  /** Put the masks of some objects into the first one. */
  merge(ids) {
    return this.act("merge-objects", { object_ids: ids }, () => `Merged into ${this.session.name(ids[0])}`);
  }

  /** Change an object: its name, colour, lock or place in the list. */
  describe(id, wanted) {
    const { session } = this;
    const object = session.objects.get(id);
    if (!object || Object.keys(wanted).every((key) => wanted[key] === object[key])) return Promise.resolve();
    return this.run(async () => {
      const answer = await call(`sessions/${session.id}/objects/${id}`, { method: "PATCH", body: wanted });
      Object.assign(object, answer);
      await this.refresh();
    });
  }

  undo() {
    return this.move("undo", "Undone");
  }

  redo() {
    return this.move("redo", "Redone");
  }

  /** One step of the service's history back or forth; the page goes to its frame. */
  move(way, word) {
    const { session } = this;
    return this.run(async () => {
      if (!session.history[way].length) return;
      const { step, changed_frames: frames } = await post(way, { session_id: session.id });
      if (step.frame_idx !== null) session.seek(step.frame_idx);
      await this.refresh(frames);
      const id = step.object_ids.find((other) => session.objects.has(other));
      if (id !== undefined) session.select(id);
      announce(`${word}: ${STEPS[step.kind] ?? step.kind}`);
    });
  }

  /** One call that changes objects, in turn; `words` say what it did. */
  act(path, body, words) {
    return this.run(async () => {
      const answer = await post(path, { session_id: this.session.id, ...body });
      await this.refresh(answer.changed_frames ?? []);
      announce(words());
    });
  }

  /** Read the objects, prompts and history anew; `frames` have other masks now. */
  async refresh(frames = []) {
    this.session.applyChange(await call(`sessions/${this.session.id}`));
    if (frames.length) this.session.applyChangedMasks(frames);
  }

  close() {
    this.closed = true;
    this.resume();
  }
}

/** Whether the service is away and will be back: it cannot be reached, or it starts or stops. */
const isAway = (error) => error instanceof Unreachable || ["not_ready", "stopping"].includes(error.code);

/** What a prompt holds, in the form that a call takes; null where it holds nothing. */
function content(prompt) {
  if (!prompt) return null;
  const { points, labels, box } = prompt;
  const found = { ...(points.length ? { points, labels } : {}), ...(box ? { box } : {}) };
  return Object.keys(found).length ? found : null;
}

/** What a prompt holds once `added` comes on top: points add up, a new box takes the place of an earlier one. */
function merged(before, added) {
  const points = [...(before?.points ?? []), ...(added.points ?? [])];
  const labels = [...(before?.labels ?? []), ...(added.labels ?? [])];
  const box = added.box ?? before?.box;
  return { ...(points.length ? { points, labels } : {}), ...(box ? { box } : {}) };
}

/** A prompt's numbers with two decimals; null stays null. */
function rounded(prompt) {
  return prompt && { ...prompt, points: prompt.points.map((point) => point.map(round)), box: prompt.box && prompt.box.map(round) };
}

const round = (value) => Math.round(value * ROUND) / ROUND;
