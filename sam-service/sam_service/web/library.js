// The videos in the server's video folder as small pictures, on the start screen.

import { call, request } from "./api.js";
import { byId, element, icon } from "./dom.js";
import { count } from "./say.js";

const SHOWN = 12; // at first; the rest at a press

/** Shows the folder; `open(path)` opens one of its videos. */
export class Library {
  constructor(open) {
    this.open = open;
    this.host = byId("library");
    this.pictures = new Map(); // path -> address of its picture
    this.waiting = [];
    this.watching = new IntersectionObserver((seen) => this.onSeen(seen));
    byId("library-more").onclick = () => this.show(this.videos.length);
  }

  /** Ask what there is; an answer that cannot be had leaves the folder out, the form for a name stays. */
  async load() {
    try {
      const { enabled, videos, complete } = await call("videos");
      this.videos = videos;
      byId("library-section").hidden = !videos.length;
      byId("path-field").hidden = !enabled;
      byId("library-note").textContent = complete ? "" : `The first ${count(videos.length, "video")}; name others below.`;
      this.show(SHOWN);
    } catch {
      byId("library-section").hidden = true;
    }
  }

  show(most) {
    this.watching.disconnect();
    this.host.replaceChildren(...this.videos.slice(0, most).map((video) => this.card(video)));
    byId("library-more").hidden = this.videos.length <= most;
    byId("library-more").textContent = `All ${count(this.videos.length, "video")}`;
  }

  card({ video_path: path, size_bytes: bytes, is_folder: isFolder }) {
    const name = path.split("/").at(-1);
    const picture = element("span", { className: "cover", dataset: { path } }, icon(isFolder ? "plus" : "play"));
    const button = element(
      "button",
      { type: "button", className: "card", title: path },
      picture,
      element("b", { textContent: name }),
      element("span", { className: "muted small", textContent: isFolder ? "pictures" : `${(bytes / 1e6).toFixed(1)} MB` }),
    );
    button.onclick = () => this.open(path);
    if (this.pictures.has(path)) this.put(picture, this.pictures.get(path));
    else this.watching.observe(picture);
    return element("li", {}, button);
  }

  /** Pictures are asked for when they come into view, one at a time. */
  onSeen(seen) {
    for (const { target, isIntersecting } of seen) {
      if (!isIntersecting) continue;
      this.watching.unobserve(target);
      this.waiting.push(target);
    }
    if (!this.filling) this.fill();
  }

  async fill() {
    this.filling = true;
    for (let host; (host = this.waiting.shift());) {
      if (!host.isConnected) continue;
      try {
        const path = host.dataset.path;
        const response = await request(`videos/picture?video_path=${encodeURIComponent(path)}`);
        this.pictures.set(path, URL.createObjectURL(await response.blob()));
        this.put(host, this.pictures.get(path));
      } catch {
        host.classList.add("bare"); // it is listed without a picture; opening it says what is wrong
      }
    }
    this.filling = false;
  }

  put(host, address) {
    host.replaceChildren(element("img", { alt: "", src: address }));
  }
}
