// The list of open sessions on the start screen: what each is, how far it is, and how long it is kept.

import { call, request } from "./api.js";
import { byId, element, icon } from "./dom.js";
import { clock, count, failed } from "./say.js";

/** Shows the open sessions. */
export class SessionList {
  constructor() {
    this.host = byId("sessions");
    this.pictures = [];
  }

  show(sessions) {
    byId("sessions-section").hidden = !sessions.length;
    const shown = new Map([...this.host.children].map((row) => [row.dataset.session, row])); // one may be about to be clicked
    this.host.replaceChildren(...sessions.map((info) => shown.get(info.session_id) ?? this.row(info)));
  }

  clear() {
    this.host.replaceChildren(); // an old list must not be there to click on when the new one comes
    this.pictures.forEach(URL.revokeObjectURL);
    this.pictures = [];
  }

  row(info) {
    const picture = element("img", { alt: "" });
    this.picture(picture, info.session_id);
    const words = element(
      "span",
      { className: "words" },
      element("b", { textContent: info.video_name }),
      element("span", { className: "muted small numbers", textContent: facts(info) }),
      element("span", { className: "muted small numbers", textContent: state(info) }),
    );
    const row = element("li", { dataset: { session: info.session_id } });
    row.append(element("a", { href: `#session=${info.session_id}` }, picture, words), this.removal(info, row));
    return row;
  }

  removal(info, row) {
    const button = element("button", { type: "button", className: "icon", title: "Delete this session" }, icon("trash"));
    button.setAttribute("aria-label", `Delete ${info.video_name}`);
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
        byId("sessions-section").hidden = !this.host.children.length;
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
}

const facts = (info) =>
  [`${info.width} × ${info.height}`, clock(info.num_frames / info.fps), count(info.objects.length, "object")].join(" · ");

/** How far a session is, when it was opened, and how long it is kept if nobody uses it. */
function state(info, now = Date.now() / 1000) {
  const tracked = `${info.frames_with_masks.length} of ${count(info.num_frames, "frame")} tracked`;
  const progress = info.running ? `tracking, ${Math.round((100 * info.running.done) / (info.running.total || 1))} %` : tracked;
  return [progress, `opened ${ago(now - info.created_at)}`, `kept ${span(info.expires_at - now)} more`].join(" · ");
}

const ago = (seconds) => (seconds < 60 ? "just now" : `${span(seconds)} ago`);

/** A stretch of time in one unit: "5 min", "3 h", "2 days". */
export function span(seconds) {
  const minutes = Math.max(1, Math.round(seconds / 60));
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  return hours < 36 ? `${hours} h` : `${Math.round(hours / 24)} days`;
}
