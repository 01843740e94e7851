// The export dialog: format, size, range and objects, then the file for the browser to keep.

import { call, request } from "./api.js";
import { byId } from "./dom.js";
import { drawSample } from "./sample.js";
import { count, sentence } from "./say.js";

const OPTIONS = ["images", "feather", "segmentation", "look", "opacity"]; // fields of the form that some formats take

const STRENGTH = { tint: 0.45, outline: 0, spotlight: 0.7, blur: 1 }; // of the looks that a video can have, at first

/** Exports a session. */
export class Exporting {
  /** @param {import("./viewer.js").Viewer} viewer @param {import("./look.js").Look} look */
  constructor(viewer, look) {
    this.session = viewer.session;
    this.viewer = viewer;
    this.look = look;
    this.dialog = byId("export-dialog");
    this.form = byId("export-form");
    this.options = new Map(); // by format, the options that it takes
    /** @type {AbortController|null} */
    this.controller = null;
  }

  start() {
    const { session, form } = this;
    form.onsubmit = (event) => {
      event.preventDefault();
      this.run();
    };
    form.onchange = () => this.showChoice();
    form.opacity.oninput = () => this.showSample();
    form.look.addEventListener("change", () => (form.opacity.value = STRENGTH[form.look.value]));
    session.on(["tracks"], () => this.dialog.open && this.showCoverage());
    byId("export-close").onclick = () => this.dialog.close();
    this.dialog.onclose = () => this.controller?.abort();
  }

  /** Show what belongs to the chosen format, range and objects. */
  showChoice() {
    this.showOptions();
    this.showCoverage();
    this.showSample();
  }

  showSample() {
    const { form } = this;
    form.opacity.disabled = form.look.value === "outline";
    if (this.format) drawSample(this.viewer, this.format, this.objects, { style: form.look.value, opacity: Number(form.opacity.value) });
  }

  /** The chosen objects' ids. */
  get objects() {
    return [...this.form.querySelectorAll("[name=object]:checked")].map((box) => Number(box.value));
  }

  async open() {
    const { session, form } = this;
    const [from, to] = session.range;
    form.start_frame.value = from ?? 0;
    form.end_frame.value = to ?? session.lastFrame;
    form.start_frame.max = form.end_frame.max = session.lastFrame;
    byId("export-objects").replaceChildren(
      byId("export-objects").querySelector("legend"),
      ...[...session.objects.values()].map((object) => objectChoice(object, !session.hidden.has(object.object_id))),
    );
    form.look.value = this.look.style in STRENGTH ? this.look.style : "tint";
    form.opacity.value = this.look.style in STRENGTH && this.look.style !== "outline" ? this.look.opacity : STRENGTH[form.look.value];
    this.fail("");
    this.working(false);
    this.dialog.showModal();
    if (!this.options.size) await this.loadFormats();
    this.showChoice();
  }

  /** Ask the service which formats there are. */
  async loadFormats() {
    try {
      const { formats } = await call("export-formats");
      byId("export-formats").replaceChildren(...formats.map(formatChoice));
      this.options = new Map(formats.map(({ format, options }) => [format, options]));
    } catch (error) {
      this.fail(sentence(error.message));
    }
  }

  /** The chosen format; undefined while the list is not there. */
  get format() {
    return this.form.format?.value;
  }

  /** Show the options that the chosen format takes. */
  showOptions() {
    for (const name of OPTIONS) this.form[name].parentElement.hidden = !this.takes(name);
    byId("export-go").disabled = !this.format;
  }

  /** Say how many of the chosen frames have masks of the chosen objects. */
  showCoverage() {
    const { form, session } = this;
    const from = Number(form.start_frame.value || 0),
      to = Math.min(session.lastFrame, Number(form.end_frame.value || session.lastFrame));
    const chosen = this.objects.map((id) => session.tracks.get(id));
    let masked = 0;
    for (let frame = from; frame <= to; frame++) if (chosen.some((track) => track?.score[frame] !== undefined)) masked += 1;
    const total = Math.max(0, to - from + 1);
    const missing = masked < total ? " The others come without masks; track the clip first to fill them." : "";
    byId("export-coverage").textContent = `${masked} of ${count(total, "frame")} tracked.${missing}`;
    byId("export-coverage").classList.toggle("warn", masked < total);
  }

  takes(name) {
    return Boolean(this.options.get(this.format)?.includes(name));
  }

  /** What the service says of an export under way: {done, total}. */
  progress({ format, done, total }) {
    if (!this.controller || !total || format !== this.format) return;
    byId("export-progress").value = done / total;
    byId("export-text").textContent = `${done} of ${count(total, "frame")}`;
  }

  async run() {
    const { form, session } = this;
    const { objects } = this;
    if (!objects.length) return this.fail("Choose at least one object.");
    const query = new URLSearchParams({
      format: this.format,
      size: form.size.value,
      start_frame: form.start_frame.value || 0,
      end_frame: form.end_frame.value || session.lastFrame,
    });
    if (objects.length < session.objects.size) query.set("object_ids", objects.join());
    if (this.takes("images") && form.images.checked) query.set("images", "true");
    if (this.takes("segmentation") && form.segmentation.checked) query.set("segmentation", "polygon");
    if (this.takes("feather") && Number(form.feather.value)) query.set("feather", form.feather.value);
    if (this.takes("look") && form.look.value !== "tint") query.set("look", form.look.value);
    if (this.takes("opacity") && form.look.value !== "outline") query.set("opacity", form.opacity.value);
    this.controller = new AbortController();
    this.fail("");
    this.working(true);
    try {
      const response = await request(`sessions/${session.id}/export?${query}`, { signal: this.controller.signal });
      keep(await this.read(response), fileName(response, session, this.format));
      this.dialog.close();
    } catch (error) {
      if (error.name !== "AbortError") this.fail(sentence(error.message));
    } finally {
      this.controller = null;
      this.working(false);
    }
  }

  /** The whole file, showing how much of it is here. */
  async read(response) {
    const reader = response.body.getReader(),
      parts = [];
    let bytes = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      bytes += value.length;
      if (byId("export-progress").position < 0) byId("export-text").textContent = `${(bytes / 1e6).toFixed(1)} MB`;
    }
    return new Blob(parts, { type: response.headers.get("content-type") });
  }

  working(on) {
    byId("export-working").hidden = !on;
    byId("export-progress").removeAttribute("value");
    byId("export-text").textContent = "Exporting…";
    byId("export-go").disabled = on;
    byId("export-close").textContent = on ? "Cancel" : "Close";
  }

  fail(text) {
    byId("export-error").hidden = !text;
    byId("export-error").textContent = text;
  }
}

function formatChoice({ format, title, description }, at) {
  const label = document.createElement("label"),
    radio = document.createElement("input"),
    name = document.createElement("b"),
    words = document.createElement("small");
  Object.assign(radio, { type: "radio", name: "format", value: format, checked: at === 0 });
  name.textContent = title;
  words.textContent = description;
  label.append(radio, " ", name, words);
  return label;
}

function objectChoice(object, checked) {
  const label = document.createElement("label");
  label.className = "check";
  const box = document.createElement("input");
  Object.assign(box, { type: "checkbox", name: "object", value: object.object_id, checked });
  label.append(box, ` ${object.name}`);
  return label;
}

/** The name that the service gave the file. */
function fileName(response, session, format) {
  const disposition = response.headers.get("content-disposition") ?? "";
  const encoded = /filename\*=utf-8''([^;]+)/i.exec(disposition),
    plain = /filename="?([^";]+)"?/i.exec(disposition);
  return encoded ? decodeURIComponent(encoded[1]) : plain ? plain[1] : `${session.info.video_name}-${format}`;
}

/** Hand a file to the browser's downloads. */
function keep(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
