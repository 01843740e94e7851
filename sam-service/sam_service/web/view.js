// Where the picture lies on the stage: zoom and offset, between the stage's and the frame's pixels.

const MAX_ZOOM = 32,
  STEP = 1.25;

/** The transform from frame pixels to CSS pixels of the stage: stage = frame * scale + offset. */
export class View {
  constructor(changed) {
    this.changed = changed;
    this.stage = [1, 1];
    this.frame = [1, 1];
    this.fitted = true;
    this.scale = 1;
    this.offset = [0, 0];
  }

  resize(stage, frame) {
    this.stage = stage;
    this.frame = frame;
    if (this.fitted) this.fit();
    else this.place(this.scale, this.offset);
  }

  get fitScale() {
    return Math.min(this.stage[0] / this.frame[0], this.stage[1] / this.frame[1]);
  }

  fit() {
    const scale = this.fitScale;
    this.place(
      scale,
      [0, 1].map((axis) => (this.stage[axis] - this.frame[axis] * scale) / 2),
    );
    this.fitted = true;
  }

  /** Zoom by a factor and keep the point of the stage where it is; the middle by default. */
  zoom(factor, point = [this.stage[0] / 2, this.stage[1] / 2]) {
    const scale = Math.min(MAX_ZOOM, Math.max(this.fitScale, this.scale * factor));
    if (scale <= this.fitScale * 1.001) return this.fit();
    const ratio = scale / this.scale;
    this.place(
      scale,
      [0, 1].map((axis) => point[axis] - (point[axis] - this.offset[axis]) * ratio),
    );
  }

  zoomStep(direction, point) {
    this.zoom(STEP ** direction, point);
  }

  pan(by) {
    this.place(
      this.scale,
      [0, 1].map((axis) => this.offset[axis] + by[axis]),
    );
  }

  /** Set the transform; a picture larger than the stage leaves no gap at its edges, a smaller one is in the middle. */
  place(scale, offset) {
    this.fitted = false;
    this.scale = scale;
    this.offset = [0, 1].map((axis) => {
      const free = this.stage[axis] - this.frame[axis] * scale;
      return free >= 0 ? free / 2 : Math.min(0, Math.max(free, offset[axis]));
    });
    this.changed();
  }

  toFrame(point) {
    return [0, 1].map((axis) => (point[axis] - this.offset[axis]) / this.scale);
  }

  toStage(point) {
    return [0, 1].map((axis) => point[axis] * this.scale + this.offset[axis]);
  }

  /** A point of the frame moved into the frame. */
  inside(point) {
    return [0, 1].map((axis) => Math.min(this.frame[axis] - 0.01, Math.max(0, point[axis])));
  }

  contains(point) {
    return [0, 1].every((axis) => point[axis] >= 0 && point[axis] < this.frame[axis]);
  }
}
