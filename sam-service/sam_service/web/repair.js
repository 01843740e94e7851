// Repair on the frame: points and boxes of the chosen object are taken by the pointer, moved and removed.

import { MARK, boxOnStage, crossOf } from "./shapes.js";

/** @typedef {import("./session.js").Prompt} Prompt */
/** A part of a prompt that can be taken: a point, sides of the box (0 left, 1 top, 2 right, 3 bottom), or the box's cross.
 * @typedef {{kind: "point"|"sides"|"cross", at: number, sides: number[], prompt: Prompt}} Handle */

/** Finds and changes what is drawn of the chosen object's prompt on this frame. */
export class Repair {
  /** @param {import("./viewer.js").Viewer} viewer @param {import("./prompting.js").Prompting} prompting */
  constructor({ session, view, stage }, prompting) {
    this.session = session;
    this.view = view;
    this.stage = stage;
    this.prompting = prompting;
  }

  /** What lies under a point of the stage, at most `reach` CSS pixels away; null where nothing does.
   * @returns {Handle|null} */
  find(point, reach) {
    const { session, view } = this;
    const id = this.stage.masks.look.points ? session.selected : null;
    const prompt = id !== null && !session.hidden.has(id) && session.prompt(id, session.frame);
    if (!prompt) return null;
    const part = (kind, at = 0, sides = []) => ({ kind, at, sides, prompt });
    const away = prompt.points.map((at) => distance(view.toStage(at), point));
    const nearest = away.indexOf(Math.min(...away));
    if (nearest >= 0 && away[nearest] <= Math.max(MARK, reach)) return part("point", nearest);
    if (!prompt.box) return null;
    const corners = boxOnStage(view, prompt.box);
    if (distance(crossOf(corners), point) <= Math.max(MARK, reach)) return part("cross");
    const sides = sidesAt(corners, point, reach);
    return sides.length ? part("sides", 0, sides) : null;
  }

  /** The cursor over a part, as the style sheet names it. @param {Handle|null} handle */
  cursor(handle) {
    if (!handle) return "";
    if (handle.kind === "point") return "pointer";
    if (handle.kind === "cross") return "pointer";
    if (handle.sides.length === 1) return handle.sides[0] % 2 ? "ns-resize" : "ew-resize";
    return [1, 5].includes(handle.sides[0] + handle.sides[1]) ? "nwse-resize" : "nesw-resize";
  }

  /** Show a part where the pointer has it; null ends that. */
  drag(handle, point) {
    this.stage.moved = handle && { ...handle.prompt, ...this.changed(handle, point) };
    this.stage.redraw();
  }

  /** The part stays where the pointer left it: the object is asked for again. */
  drop(handle, point) {
    const { object_id: id, frame_idx: frame } = handle.prompt;
    const wanted = this.changed(handle, point);
    const box = wanted.box;
    if (box && (box[2] - box[0] < 1 || box[3] - box[1] < 1)) return this.drag(null);
    this.prompting.rewrite(id, frame, wanted, handle.kind === "point" ? "move of a point" : "change of the box");
    return this.drag(null);
  }

  /** Remove a point, or the box; false where a click does not remove the part. */
  remove(handle) {
    const { points, labels, box, object_id: id, frame_idx: frame } = handle.prompt;
    if (handle.kind === "sides") return false;
    const others = (values) => values.filter((_, at) => at !== handle.at);
    if (handle.kind === "cross") this.prompting.rewrite(id, frame, { points, labels, box: null }, "removal of the box");
    else this.prompting.rewrite(id, frame, { points: others(points), labels: others(labels), box }, "removal of a point");
    return true;
  }

  /** The prompt's points, labels and box with a part moved to a point of the frame. */
  changed({ kind, at, sides, prompt: { points, labels, box } }, point) {
    const [x, y] = this.view.inside(point);
    if (kind === "point") return { points: points.map((other, index) => (index === at ? [x, y] : other)), labels, box };
    const edges = box.map((value, side) => (sides.includes(side) ? [x, y][side % 2] : value));
    const [a, b, c, d] = edges;
    return { points, labels, box: [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)] };
  }
}

/** The sides of a box that lie at a point: one, or two at a corner. @param {number[]} corners @param {number[]} point */
function sidesAt([x0, y0, x1, y1], [x, y], reach) {
  const across = x >= x0 - reach && x <= x1 + reach,
    down = y >= y0 - reach && y <= y1 + reach;
  const away = [down ? x - x0 : Infinity, across ? y - y0 : Infinity, down ? x - x1 : Infinity, across ? y - y1 : Infinity];
  const close = [0, 1, 2, 3].filter((side) => Math.abs(away[side]) <= reach);
  return close.filter((side) => !close.includes(side - 2)); // of a box smaller than the reach: its left, its top
}

const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
