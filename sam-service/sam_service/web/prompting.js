// Clicks, boxes and objects: what the user does becomes calls, in the order it was done, each of which can be undone.

import { Unreachable, call, post } from "./api.js";
import { History } from "./history.js";
import { announce, count, failed, notify } from "./say.js";
import { WORDS, verdictOf } from "./tracks.js";

const ROUND = 100;
const RETRY_MS = 2000;

/** Acts on one session. The session says "prompts" when the history or what is under way changes. */
export class Prompting {
  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.session = session;
    this.pending = session.pending;
    this.history = new History(() => this.changed());
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
    const before = id === null ? null : content(session.prompt(id, frame));
    const after = merged(before, added),
      created = id === null;
    const body = { session_id: session.id, frame_idx: frame, ...(created ? {} : { object_id: id }), ...added };
    const earlier = new Set(session.objects.keys());
    const answer = await this.delivered(
      () => post(created ? "add-object" : "refine", { ...body, mask_format: "rle" }),
      () => this.carriedOut(frame, after, (other) => (created ? !earlier.has(other) : other === id)),
    );
    this.note(answer.object_id, frame, after);
    if (created) {
      draft.id = answer.object_id;
      await this.refresh();
      if (draft === this.draft) session.select(answer.object_id);
    }
    session.applyMask(answer);
    announce(`${session.name(answer.object_id)}: ${count(answer.area, "pixel")}, ${WORDS[verdictOf(answer)]}`);
    const object = { ...session.objects.get(answer.object_id) };
    this.history.push({
      label: added.box ? "box" : "click",
      undo: () => this.restore(object, frame, before, created),
      redo: () => this.restore(object, frame, after, created),
    });
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
    return this.run(async () => {
      const object = { ...session.objects.get(id) };
      const before = session.prompt(id, frame);
      const [earlier, later] = [content(before), content(rounded(wanted))];
      await this.restore(object, frame, later, false);
      announce(`${session.name(id)}: ${label}`);
      if (before?.mask) return; // a painted mask cannot be given back
      this.history.push({
        label,
        undo: () => this.restore(object, frame, earlier, false),
        redo: () => this.restore(object, frame, later, false),
      });
    });
  }

  /** Clear what the chosen object is prompted with on this frame. */
  clearFrame() {
    const { selected: id, frame } = this.session;
    if (id === null || !this.session.prompt(id, frame)) return notify("This object has no click, box or mask on this frame.");
    return this.rewrite(id, frame, null, "clearing of the frame");
  }

  /** Give an object, or a new one (`id` null), a painted mask on a frame: base64 of a PNG as large as the frame. */
  paint(id, frame, mask) {
    const { session } = this;
    return this.run(async () => {
      const before = id === null ? null : session.prompt(id, frame);
      const object = { ...session.objects.get(id) };
      const body = { session_id: session.id, frame_idx: frame, mask, mask_format: "rle" };
      const answer = await post(id === null ? "add-object" : "refine", id === null ? body : { ...body, object_id: id });
      await this.refresh();
      session.select(answer.object_id);
      session.applyMask(answer);
      announce(`${session.name(answer.object_id)}: painted, ${count(answer.area, "pixel")}`);
      if (before?.mask || id === null) return; // a painted mask cannot be given back
      this.history.push({
        label: "brush",
        undo: () => this.restore(object, frame, content(before), false),
        redo: () => post("refine", { ...body, object_id: id }).then((again) => session.applyMask(again)),
      });
    });
  }

  close() {
    this.closed = true;
    this.resume();
  }

  /** Bring an object's prompt on a frame to `wanted`; null takes it away, and with it an object that it had `created`. */
  async restore(object, frame, wanted, created) {
    const { session } = this;
    const id = object.object_id;
    session.seek(frame);
    const target = { session_id: session.id, object_id: id };
    if (wanted === null && created) {
      await post("remove-object", target);
    } else if (wanted === null) {
      await post("clear-prompts", { ...target, frame_idx: frame });
    } else {
      await this.put(object, frame, wanted);
    }
    await this.refresh();
    if (session.objects.has(id)) session.select(id);
    if (wanted === null && session.objects.get(id)?.prompted_frames.length) await this.trackAgain(id, frame);
  }

  /** Prompt an object with exactly `wanted` on a frame; it is added where it does not exist. */
  async put(object, frame, wanted) {
    const { session } = this;
    const exists = session.objects.has(object.object_id);
    const body = { session_id: session.id, object_id: object.object_id, frame_idx: frame, ...wanted, mask_format: "rle" };
    const answer = await post(
      exists ? "refine" : "add-object",
      exists ? { ...body, replace: true } : { ...body, name: object.name },
    );
    if (!exists) await this.change(object.object_id, { color: object.color });
    this.note(object.object_id, frame, wanted);
    session.applyMask(answer);
  }

  /** A frame whose last prompt was taken back gets the tracked mask again, unless a propagation does so anyway. */
  async trackAgain(id, frame) {
    if (this.session.job) return;
    const answer = await post("propagate", {
      session_id: this.session.id,
      start_frame: frame,
      end_frame: frame,
      object_ids: [id],
      mask_format: "rle",
    });
    for (const { objects } of answer.frames) objects.forEach((mask) => this.session.applyMask(mask));
  }

  /** Note a prompt as the service has it now, without asking. */
  note(id, frame, prompt) {
    const { session } = this;
    const object = session.objects.get(id);
    if (object && !object.prompted_frames.includes(frame)) object.prompted_frames.push(frame);
    session.prompts.set(`${id}:${frame}`, {
      object_id: id,
      frame_idx: frame,
      mask: false,
      box: null,
      points: [],
      labels: [],
      ...prompt,
    });
    session.emit("objects");
  }

  async refresh() {
    const info = await call(`sessions/${this.session.id}`);
    this.session.applyObjects(info.objects, info.prompts);
  }

  /** Choose to click a new object next. */
  newObject() {
    this.draft = {};
    this.session.select(null);
  }

  remove(id) {
    const { session } = this;
    return this.run(async () => {
      const object = { ...session.objects.get(id) };
      const prompts = session.promptsOf(id);
      await post("remove-object", { session_id: session.id, object_id: id });
      await this.refresh();
      const restorable = prompts.length && prompts.every((prompt) => !prompt.mask);
      if (!restorable) return;
      this.history.push({
        label: "removal of an object",
        undo: () => this.bringBack(object, prompts),
        redo: async () => {
          await post("remove-object", { session_id: session.id, object_id: id });
          await this.refresh();
        },
      });
    });
  }

  /** Add a removed object again with all its prompts, one that says where it is first. */
  async bringBack(object, prompts) {
    const first = prompts.find((prompt) => prompt.box || prompt.labels.includes(1));
    for (const prompt of [first, ...prompts.filter((other) => other !== first)]) {
      await this.put(object, prompt.frame_idx, content(prompt));
      await this.refresh();
    }
    this.session.select(object.object_id);
  }

  /** Change an object's name or colour. */
  describe(id, wanted) {
    const { session } = this;
    const object = session.objects.get(id);
    const before = Object.fromEntries(Object.keys(wanted).map((key) => [key, object[key]]));
    if (Object.keys(wanted).every((key) => wanted[key] === before[key])) return Promise.resolve();
    return this.run(async () => {
      await this.change(id, wanted);
      this.history.push({
        label: "name" in wanted ? "name" : "colour",
        undo: () => this.change(id, before),
        redo: () => this.change(id, wanted),
      });
    });
  }

  async change(id, wanted) {
    const answer = await call(`sessions/${this.session.id}/objects/${id}`, { method: "PATCH", body: wanted });
    const object = this.session.objects.get(id);
    if (object) Object.assign(object, answer);
    this.session.emit("objects");
  }

  undo() {
    return this.run(() => this.history.undo());
  }

  redo() {
    return this.run(() => this.history.redo());
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
