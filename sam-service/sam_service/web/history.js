// What can be undone: pairs of steps there and back, one at a time.

import { Unreachable } from "./api.js";

/** A list of done things. A step is {label, undo, redo}, both async. */
export class History {
  constructor(changed) {
    this.changed = changed;
    this.done = [];
    this.undone = [];
  }

  push(step) {
    this.done.push(step);
    this.undone = [];
    this.changed();
  }

  /** Undo the last step and return its label; null where there is none. A step that the service refuses is forgotten. */
  undo() {
    return this.move(this.done, this.undone, "undo");
  }

  redo() {
    return this.move(this.undone, this.done, "redo");
  }

  async move(from, to, way) {
    const step = from.pop();
    if (step === undefined) return null;
    try {
      await step[way]();
      to.push(step);
    } catch (error) {
      if (error instanceof Unreachable) from.push(step);
      throw error;
    } finally {
      this.changed();
    }
    return step.label;
  }
}
