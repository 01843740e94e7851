// The camera: its frames are pushed one by one to a live session, and shown with their masks. A click prompts on the newest one.

import { call, post, request } from "./api.js";
import { byId, element } from "./dom.js";
import { decodeBox } from "./rle.js";
import { failed, sentence } from "./say.js";

const LONGER_SIDE = 640;
const JPEG_QUALITY = 0.9;

/** Let a button of the start screen open the camera; without one, or on an address without TLS, it stays hidden. */
export function setUpCamera() {
  const button = byId("camera");
  button.hidden = !navigator.mediaDevices?.getUserMedia;
  button.onclick = () => new Camera().open();
}

/** One run with the camera, from the permission to the end of its session. */
class Camera {
  constructor() {
    this.session = "";
    this.object = null;
    this.colors = new Map();
    this.ended = false;
    this.frame = element("canvas", { className: "live-picture", tabIndex: 0 });
    this.frame.setAttribute("aria-label", "The camera. A click marks the object, with shift what is not the object");
    this.video = element("video", { muted: true, playsInline: true });
    this.facts = element("span", { className: "muted numbers", id: "live-facts" }, "waiting for the camera");
    this.dialog = element(
      "dialog",
      { id: "live-dialog", "aria-label": "Camera" },
      this.frame,
      element(
        "div",
        { className: "row" },
        this.facts,
        element("span", { className: "grow" }),
        element("button", { type: "button", id: "live-new", onclick: () => (this.object = null) }, "New object"),
        element("button", { type: "button", id: "live-keep", onclick: () => this.keep() }, "Open in the editor"),
        element("button", { type: "button", id: "live-stop", className: "primary", onclick: () => this.dialog.close() }, "Stop"),
      ),
    );
    this.frame.onclick = (event) => this.prompt(event, event.shiftKey ? 0 : 1);
    this.frame.oncontextmenu = (event) => this.prompt(event, 0);
    this.dialog.onclose = () => this.end(true);
  }

  async open() {
    document.body.append(this.dialog);
    this.dialog.showModal();
    try {
      this.video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: LONGER_SIDE } } });
      await this.video.play();
      const scale = Math.min(1, LONGER_SIDE / Math.max(this.video.videoWidth, this.video.videoHeight));
      this.frame.width = Math.round(this.video.videoWidth * scale);
      this.frame.height = Math.round(this.video.videoHeight * scale);
      const { width, height } = this.frame;
      const opened = await call("initialize", { method: "POST", body: { live: true, width, height } });
      this.session = opened.session_id;
      if (this.ended) return await this.forget();
      while (!this.ended) await this.push();
    } catch (error) {
      if (this.ended) return;
      failed(error.name === "NotAllowedError" ? new Error("The browser does not allow the camera.") : error);
      this.dialog.close();
    }
  }

  /** Push the picture that the camera shows now, and draw it with the masks of the answer. */
  async push() {
    const picture = document.createElement("canvas");
    [picture.width, picture.height] = [this.frame.width, this.frame.height];
    picture.getContext("2d").drawImage(this.video, 0, 0, picture.width, picture.height);
    const body = await new Promise((done) => picture.toBlob(done, "image/jpeg", JPEG_QUALITY));
    const started = performance.now();
    const path = `sessions/${this.session}/frames?mask_format=rle`;
    const answer = await (await request(path, { method: "PUT", body })).json();
    if (this.ended) return;
    const context = this.frame.getContext("2d");
    context.drawImage(picture, 0, 0);
    for (const mask of answer.objects) if (mask.bbox) this.paint(context, mask);
    const rate = 1000 / Math.max(1, performance.now() - started);
    this.facts.textContent = `frame ${answer.frame_idx} · ${rate.toFixed(1)} frames/s`;
    this.frame.dataset.frame = answer.frame_idx;
    this.frame.dataset.areas = answer.objects.map((mask) => mask.area).join(",");
  }

  /** @param {CanvasRenderingContext2D} context @param {any} mask */
  paint(context, mask) {
    const [x, y, width, height] = mask.bbox;
    const inside = decodeBox(mask.mask, mask.bbox);
    const color = this.colors.get(mask.object_id) ?? "#56b4e9";
    const rgb = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
    const pixels = new ImageData(width + 2, height + 2);
    inside.forEach((value, at) => {
      if (value) pixels.data.set([...rgb, 130], 4 * at);
    });
    const layer = document.createElement("canvas");
    [layer.width, layer.height] = [width + 2, height + 2];
    layer.getContext("2d").putImageData(pixels, 0, 0);
    context.drawImage(layer, x - 1, y - 1);
  }

  /** A click on the picture: the object there from the next frame on. @param {MouseEvent} event @param {number} label */
  async prompt(event, label) {
    event.preventDefault();
    if (!this.session || (this.object === null && label === 0)) return;
    const scale = this.frame.width / this.frame.clientWidth;
    const body = { session_id: this.session, frame_idx: "latest", mask_format: "none", labels: [label],
                   points: [[event.offsetX * scale, event.offsetY * scale]] }; // prettier-ignore
    try {
      const known = this.object !== null;
      const answer = await post(known ? "refine" : "add-object", known ? { ...body, object_id: this.object } : body);
      this.object = answer.object_id;
      const { objects } = await call(`sessions/${this.session}`);
      this.colors = new Map(objects.map((item) => [item.object_id, item.color]));
    } catch (error) {
      this.facts.textContent = sentence(error.message);
    }
  }

  /** Stop the camera and go on with the kept frames in the editor. */
  keep() {
    if (!this.session) return;
    this.end(false);
    this.dialog.close();
    location.hash = `session=${this.session}`;
  }

  /** Let the camera go. @param {boolean} forget whether the session goes, too */
  end(forget) {
    if (this.ended) return;
    this.ended = true;
    for (const track of this.video.srcObject?.getTracks() ?? []) track.stop();
    this.dialog.remove();
    if (forget && this.session) this.forget();
  }

  async forget() {
    await call(`sessions/${this.session}`, { method: "DELETE" }).catch(() => {});
  }
}
