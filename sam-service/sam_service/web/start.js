// The start screen: drop or choose a video, take one of the server's, or go on with an open session.

import { call, post, upload } from "./api.js";
import { byId } from "./dom.js";
import { droppedFiles, picturesOf } from "./files.js";
import { Library } from "./library.js";
import { count, notify, sentence } from "./say.js";
import { SessionList } from "./sessions.js";

/** Shows the start screen; `open(id)` leads to the editor. */
export class Start {
  constructor(open) {
    this.open = open;
    this.turn = 0;
    this.sessions = new SessionList();
    this.library = new Library((path) => this.openPath(path));
    byId("file").onchange = (event) => this.openFiles([...event.target.files]);
    byId("folder").onchange = (event) => this.choose(async () => picturesOf([...event.target.files]));
    byId("choose-folder").onclick = () => byId("folder").click();
    byId("sample").onclick = () => this.openSample();
    byId("path-form").onsubmit = (event) => {
      event.preventDefault();
      this.openPath(byId("path-form").video_path.value.trim());
    };
    byId("opening-cancel").onclick = () => this.sending?.cancel();
    this.setUpDrop();
  }

  setUpDrop() {
    let inside = 0; // dragenter comes for every element that is passed over
    const over = (by) => {
      inside = by === 0 ? 0 : inside + by;
      for (const id of ["drop", "stage"]) byId(id).classList.toggle("over", inside > 0);
    };
    document.addEventListener("dragenter", () => over(1));
    document.addEventListener("dragleave", () => over(-1));
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      over(0);
      this.choose(() => droppedFiles(event.dataTransfer));
    });
  }

  /** Show the screen, what sessions there are and what lies in the server's folder. */
  async show() {
    const turn = ++this.turn; // a list that comes late must not replace a newer one under the hand
    byId("start").hidden = false;
    this.fail("");
    try {
      const { sessions } = await call("sessions");
      if (turn === this.turn) this.sessions.show(sessions.reverse());
    } catch (error) {
      if (turn === this.turn) this.fail(error.message);
    }
    if (turn === this.turn) this.library.load();
  }

  hide() {
    this.turn++;
    byId("start").hidden = true;
    this.sessions.clear();
  }

  options() {
    const form = byId("path-form");
    return Object.fromEntries(
      ["start_frame", "max_frames", "frame_stride"]
        .filter((name) => form[name].value !== "")
        .map((name) => [name, Number(form[name].value)]),
    );
  }

  /** Open the files that `files()` finds. */
  async choose(files) {
    try {
      this.openFiles(await files());
    } catch (error) {
      notify(error.message, true);
    }
  }

  /** Open a video, or several pictures as one clip. */
  openFiles(files) {
    if (!files.length || this.isOpening()) return;
    if (byId("start").hidden) location.hash = ""; // a drop on the editor; its session stays in the list
    const name = files.length === 1 ? files[0].name : count(files.length, "file");
    const sending = upload(files, this.options(), (fraction) => this.progress(name, fraction));
    this.sending = sending;
    this.progress(name, 0);
    this.finish(sending.done);
  }

  openPath(path) {
    if (!path) return this.fail("Name a file in the server's video folder.");
    if (this.isOpening()) return;
    this.sending = null;
    this.progress(path, 1);
    this.finish(post("initialize", { video_path: path, ...this.options() }));
  }

  openSample() {
    if (this.isOpening()) return;
    this.sending = null;
    this.progress("a sample clip", 1);
    this.finish(post("sample"));
  }

  isOpening() {
    if (byId("opening").hidden) return false;
    notify("Another clip is being opened. Open this one again when it is there.");
    return true;
  }

  progress(name, fraction) {
    byId("drop").hidden = true;
    byId("opening").hidden = false;
    byId("opening-cancel").hidden = !this.sending;
    this.fail("");
    byId("opening-text").textContent = fraction < 1 ? `Sending ${name}: ${Math.floor(fraction * 100)} %` : `Opening ${name}…`;
    if (fraction < 1) byId("opening-progress").value = fraction;
    else byId("opening-progress").removeAttribute("value");
  }

  async finish(done) {
    try {
      this.open((await done).session_id);
    } catch (error) {
      if (error.name !== "AbortError") this.fail(error.message);
    } finally {
      byId("drop").hidden = false;
      byId("opening").hidden = true;
      byId("file").value = byId("folder").value = "";
    }
  }

  fail(text) {
    byId("opening-error").hidden = !text;
    byId("opening-error").textContent = text && sentence(text);
  }
}
