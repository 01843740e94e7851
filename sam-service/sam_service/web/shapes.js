// Where the drawn parts of a prompt lie on the stage.

export const MARK = 7; // radius of a point, CSS pixels

/** A box's corners [x0, y0, x1, y1] in CSS pixels of the stage. */
export function boxOnStage(view, box) {
  return [...view.toStage([box[0], box[1]]), ...view.toStage([box[2], box[3]])];
}

/** Where the cross that removes a box is: outside of its top right corner. */
export const crossOf = (corners) => [corners[2] + 11, corners[1] - 11];
