// The start screen: drop or choose a video, name one in the server's folder, or go on with an open session.

import { call, post, request, upload } from "./api.js";
import { byId } from "./dom.js";
import { count, failed, sentence, notify } from "./say.js";
import { clock } from "./timeline.js";


/** Shows the start screen; `open(id)` leads to the editor. */
export class Start {
  constructor(open) {
    this.open = open;
    this.pictures = [];
    this.turn = 0;
    byId("file").onchange = (event) => this.openFiles([...event.target.files]);
    byId("path-form").onsubmit = (event) => {
      event.preventDefault();
      this.openPath();
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
      this.openFiles([...event.dataTransfer.files]);
    });
  }

  /** Show the screen and what sessions there are. */
  async show() {
    const turn = ++this.turn; // a list that comes late must not replace a newer one under the hand
    byId("start").hidden = false;
    this.fail("");
    try {
      const { sessions } = await call("sessions");
      if (turn === this.turn) this.list(sessions.reverse());
    } catch (error) {
      if (turn === this.turn) this.fail(error.message);
    }
  }

  hide() {
    this.turn++;
    byId("start").hidden = true;
    byId("sessions").replaceChildren(); // an old list must not be there to click on when the new one comes
    this.pictures.forEach(URL.revokeObjectURL);
    this.pictures = [];
  }

  list(sessions) {
    byId("sessions-section").hidden = !sessions.length;
    const shown = new Map([...byId("sessions").children].map((row) => [row.dataset.session, row])); // one may be about to be clicked
    byId("sessions").replaceChildren(...sessions.map((info) => shown.get(info.session_id) ?? this.row(info)));
  }

  row(info) {
    const row = document.createElement("li"),
      link = document.createElement("a"),
      words = document.createElement("span");
    const picture = document.createElement("img"),
      name = document.createElement("b"),
      facts = document.createElement("span");
    row.dataset.session = info.session_id;
    link.href = `#session=${info.session_id}`;
    picture.alt = "";
    this.picture(picture, info.session_id);
    words.className = "words";
    name.textContent = info.video_name;
    facts.className = "muted small numbers";
    const all = [`${info.width} × ${info.height}`, clock(info.num_frames / info.fps), count(info.objects.length, "object")];
    facts.textContent = [...all, ...(info.running ? ["tracking"] : [])].join(" · ");
    words.append(name, facts);
    link.append(picture, words);
    row.append(link, this.removal(info, row));
    return row;
  }

  removal(info, row) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "icon";
    button.setAttribute("aria-label", `Delete ${info.video_name}`);
    button.title = "Delete this session";
    button.innerHTML = '<svg><use href="#i-trash"/></svg>';
    button.onclick = async () => {
      if (!button.classList.contains("sure")) {
        button.classList.remove("icon");
        button.classList.add("sure");
        button.textContent = "Delete?";
        button.setAttribute("aria-label", `Really delete ${info.video_name}`);
        return;
      }
      try {
        await call(`sessions/${info.session_id}`, { method: "DELETE" });
        row.remove();
        byId("sessions-section").hidden = !byId("sessions").children.length;
      } catch (error) {
        failed(error);
      }
    };
    return button;
  }

  async picture(image, id) {
    try {
      const response = await request(`sessions/${id}/frames/0?width=192`);
      image.src = URL.createObjectURL(await response.blob());
      this.pictures.push(image.src);
    } catch {
      image.hidden = true; // a session whose first frame cannot be read is listed without a picture
    }
  }

  options() {
    const form = byId("path-form");
    return Object.fromEntries(
      ["start_frame", "max_frames", "frame_stride"]
        .filter((name) => form[name].value !== "")
        .map((name) => [name, Number(form[name].value)]),
    );
  }

  /** Open a video, or several pictures as one clip. */
  openFiles(files) {
    if (!files.length) return;
    if (!byId("opening").hidden) return notify("Another clip is being opened. Drop this one again when it is there.");
    if (byId("start").hidden) location.hash = ""; // a drop on the editor; its session stays in the list
    const name = files.length === 1 ? files[0].name : count(files.length, "file");
    const sending = upload(files, this.options(), (fraction) => this.progress(name, fraction));
    this.sending = sending;
    this.progress(name, 0);
    this.finish(sending.done);
  }

  openPath() {
    const path = byId("path-form").video_path.value.trim();
    if (!path) return this.fail("Name a file in the server's video folder.");
    this.sending = null;
    this.progress(path, 1);
    this.finish(post("initialize", { video_path: path, ...this.options() }));
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
      byId("file").value = "";
    }
  }

  fail(text) {
    byId("opening-error").hidden = !text;
    byId("opening-error").textContent = text && sentence(text);
  }
}
