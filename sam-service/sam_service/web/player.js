// Play, pause and speed. Time passes only while frames are there: a slow connection slows the clip down, it loses no frame.

const SPEEDS = [0.25, 0.5, 1, 2, 4];

/** Plays a session. `isReady` says whether a frame can be shown. */
export class Player {
  /** @param {import("./session.js").Session} session @param {(frame: number) => boolean} isReady */
  constructor(session, isReady) {
    this.session = session;
    this.isReady = isReady;
    this.playing = false;
    this.speed = 1;
  }

  start() {
    this.session.on(["jump"], () => this.pause());
  }

  changed() {
    this.session.emit("player", this);
  }

  close() {
    this.pause();
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
    const length = (frame) => (1000 * (session.timeOf(frame + 1) - session.timeOf(frame))) / this.speed;
    let frame = session.frame;
    while (frame < session.lastFrame && now >= this.due + length(frame) && this.isReady(frame + 1)) {
      this.due += length(frame);
      frame += 1;
    }
    // The next frame is not here yet: wait for it, do not race after it.
    if (frame < session.lastFrame) this.due = Math.max(this.due, now - length(frame));
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
