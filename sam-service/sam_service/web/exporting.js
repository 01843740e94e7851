// The export dialog: format, size, range and objects, then the file for the browser to keep.

import { request } from "./api.js";
import { sentence } from "./say.js";

const FORMATS = [
  ["webm", "Overlay video", "WebM, masks drawn over the frames"],
  ["png", "Masks", "zip of a PNG for each object and frame"],
  ["davis", "DAVIS", "zip of palette PNGs, all objects in one"],
  ["coco", "COCO", "JSON with compressed RLE"],
  ["yolo", "YOLO segmentation", "zip of label files with polygons"],
  ["cutout", "Cut out, video", "WebM, the background removed"],
  ["cutout-png", "Cut out, pictures", "zip of PNGs with transparency"],
];
const OPTIONS = { images: ["davis", "yolo"], feather: ["cutout", "cutout-png"] }; // which formats take which
const byId = (id) => document.getElementById(id);

/** Exports a session. */
export class Exporting {
  constructor(session) {
    this.session = session;
    this.dialog = byId("export-dialog");
    this.form = byId("export-form");
    byId("export-formats").replaceChildren(...FORMATS.map(formatChoice));
    this.form.onsubmit = (event) => {
      event.preventDefault();
      this.run();
    };
    this.form.onchange = () => this.showOptions();
    byId("export-close").onclick = () => this.dialog.close();
    this.dialog.onclose = () => this.controller?.abort();
  }

  open() {
    const { session, form } = this;
    const [from, to] = session.range;
    form.start_frame.value = from ?? 0;
    form.end_frame.value = to ?? session.lastFrame;
    form.start_frame.max = form.end_frame.max = session.lastFrame;
    byId("export-objects").replaceChildren(
      byId("export-objects").querySelector("legend"),
      ...[...session.objects.values()].map((object) => objectChoice(object, !session.hidden.has(object.object_id))),
    );
    this.fail("");
    this.working(false);
    this.showOptions();
    this.dialog.showModal();
  }

  /** Show the options that the chosen format takes. */
  showOptions() {
    for (const name of Object.keys(OPTIONS)) this.form[name].parentElement.hidden = !this.takes(name);
  }

  takes(name) {
    return OPTIONS[name].includes(this.form.format.value);
  }

  /** What the service says of an export under way: {done, total}. */
  progress({ format, done, total }) {
    if (!this.controller || !total || format !== this.form.format.value) return;
    byId("export-progress").value = done / total;
    byId("export-text").textContent = `${done} of ${total} frames`;
  }

  async run() {
    const { form, session } = this;
    const objects = [...form.querySelectorAll("[name=object]:checked")].map((box) => box.value);
    if (!objects.length) return this.fail("Choose at least one object.");
    const query = new URLSearchParams({
      format: form.format.value,
      size: form.size.value,
      start_frame: form.start_frame.value || 0,
      end_frame: form.end_frame.value || session.lastFrame,
    });
    if (objects.length < session.objects.size) query.set("object_ids", objects.join());
    if (this.takes("images") && form.images.checked) query.set("images", "true");
    if (this.takes("feather") && Number(form.feather.value)) query.set("feather", form.feather.value);
    this.controller = new AbortController();
    this.fail("");
    this.working(true);
    try {
      const response = await request(`sessions/${session.id}/export?${query}`, { signal: this.controller.signal });
      keep(await this.read(response), fileName(response, session, form.format.value));
      this.dialog.close();
    } catch (error) {
      if (error.name !== "AbortError") this.fail(sentence(error.message));
    } finally {
      this.controller = null;
      this.working(false);
    }
  }

  /** The whole file, telling how much of it is here. */
  async read(response) {
    const reader = response.body.getReader(),
      parts = [];
    let bytes = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      bytes += value.length;
      this.form.dataset.bytes = bytes;
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

function formatChoice([value, title, words], at) {
  const label = document.createElement("label");
  label.innerHTML = `<input type="radio" name="format" value="${value}"> <b>${title}</b><small>${words}</small>`;
  label.querySelector("input").checked = at === 0;
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
