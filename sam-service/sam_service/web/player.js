// Play, pause and speed. Time passes only while frames are there: a slow connection slows the clip down, it loses no frame.

const SPEEDS = [0.25, 0.5, 1, 2, 4];

/** Plays a session. `isReady` tells whether a frame can be shown. */
export class Player {
  constructor(session, isReady, changed) {
    Object.assign(this, { session, isReady, changed });
    this.playing = false;
    this.speed = 1;
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    const { session } = this;
    if (session.frame >= session.lastFrame) session.seek(0);
    this.playing = true;
    this.changed();
    this.due = performance.now();
    requestAnimationFrame((now) => this.tick(now));
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.changed();
  }

  /** Show the frames whose time has come; above the screen's rate some are left out. */
  tick(now) {
    if (!this.playing) return;
    const { session } = this;
    const length = 1000 / (session.info.fps * this.speed);
    let frame = session.frame;
    while (now >= this.due + length && frame < session.lastFrame && this.isReady(frame + 1)) {
      frame += 1;
      this.due += length;
    }
    if (now >= this.due + length) this.due = now - length; // the next frame is not here yet: wait for it, do not race after it
    session.seek(frame);
    if (frame >= session.lastFrame) return this.pause();
    requestAnimationFrame((next) => this.tick(next));
  }

  setSpeed(speed) {
    this.speed = speed;
    this.changed();
  }

  /** The next faster (1) or slower (-1) speed. */
  changeSpeed(direction) {
    const at = SPEEDS.indexOf(this.speed) + direction;
    if (at >= 0 && at < SPEEDS.length) this.setSpeed(SPEEDS[at]);
  }
}
