// A crosshair for those who click with the keyboard: arrows move it, Enter clicks, C marks the corners of a box.

import { announce } from "./say.js";

const STEP = 4,
  LARGE_STEP = 32;
const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Cursor {
  /** @param {import("./editor.js").Editor} editor */
  constructor({ viewer, prompting, repair }) {
    this.repair = repair;
    this.stage = viewer.stage;
    this.view = viewer.view;
    this.prompting = prompting;
    /** @type {number[]|null} */
    this.first = null; // the first corner of a box
  }

  get point() {
    return this.stage.cursor;
  }

  toggle() {
    if (this.point) return this.hide();
    const { view } = this;
    this.place(view.inside(view.toFrame(view.stage.map((side) => side / 2))).map(Math.round));
    announce("Crosshair on; the arrow keys move it, Enter clicks");
  }

  hide() {
    if (!this.point) return false;
    this.first = null;
    this.stage.setBox(null);
    this.place(null);
    return true;
  }

  /** Move by an arrow key; false where there is no crosshair. */
  move({ key, shiftKey }) {
    if (!this.point) return false;
    const step = shiftKey ? LARGE_STEP : STEP;
    this.place(this.view.inside(this.point.map((value, axis) => value + DIRECTIONS[key][axis] * step)));
    if (this.first) this.stage.setBox(this.boxFrom(this.first));
    return true;
  }

  click(positive) {
    if (!this.point) return false;
    const part = this.repair.find(this.view.toStage(this.point), 0);
    if (!part || !this.repair.remove(part)) this.prompting.click(this.point, positive);
    return true;
  }

  corner() {
    if (!this.point) return false;
    if (!this.first) {
      this.first = this.point;
      announce("First corner of the box");
      return true;
    }
    const box = this.boxFrom(this.first);
    this.first = null;
    this.stage.setBox(null);
    if (box[2] > box[0] && box[3] > box[1]) this.prompting.box(box);
    return true;
  }

  /** @param {number[]} corner */
  boxFrom([x, y]) {
    const [a, b] = this.point;
    return [Math.min(x, a), Math.min(y, b), Math.max(x, a), Math.max(y, b)];
  }

  place(point) {
    this.stage.cursor = point;
    this.stage.redraw();
  }
}
