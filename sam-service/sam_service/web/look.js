// How the objects are shown: tinted, outlined, cut out, in a spotlight or before a blurred background. Kept in this browser.

import { byId } from "./dom.js";
import { announce } from "./say.js";

const KEPT = "sam-service-look";
const STYLES = { tint: 0.45, outline: 0, spotlight: 0.7, blur: 1, cutout: 1 }; // and how strong each is at first
const WORDS = { tint: "Tint", outline: "Outline", spotlight: "Spotlight", blur: "Blurred background", cutout: "Cut out" };

/** @typedef {"tint"|"outline"|"spotlight"|"blur"|"cutout"} Style */

/** The look of the open session's picture. `opacity`: of the tint, the darkness or the blurred picture, 0 to 1. */
export class Look {
  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.session = session;
    /** @type {Style} */
    this.style = "tint";
    this.opacity = STYLES.tint;
    this.points = true; // whether points and boxes are shown
    this.load();
  }

  /** Whether the look is drawn on the objects; else it is drawn on what is outside of them. */
  get onObjects() {
    return this.style === "tint" || this.style === "outline";
  }

  start() {
    const form = byId("look-form");
    form.oninput = () => {
      if (form.style_name.value !== this.style) form.opacity.value = STYLES[form.style_name.value];
      this.set(form.style_name.value, Number(form.opacity.value), form.points.checked);
    };
    this.show();
  }

  /** Take the next style. */
  next() {
    const names = /** @type {Style[]} */ (Object.keys(STYLES));
    const style = names[(names.indexOf(this.style) + 1) % names.length];
    this.set(style, STYLES[style], this.points);
    announce(WORDS[style]);
  }

  /** @param {Style} style */
  set(style, opacity, points) {
    Object.assign(this, { style, opacity, points });
    localStorage.setItem(KEPT, JSON.stringify({ style, opacity, points }));
    this.show();
    this.session.emit("view");
  }

  show() {
    const form = byId("look-form");
    form.style_name.value = this.style;
    form.opacity.value = String(this.opacity);
    form.opacity.disabled = this.style === "outline" || this.style === "cutout";
    form.points.checked = this.points;
    byId("look-name").textContent = WORDS[this.style];
  }

  load() {
    try {
      const { style, opacity, points } = JSON.parse(localStorage.getItem(KEPT) ?? "{}");
      if (style in STYLES && opacity >= 0 && opacity <= 1) Object.assign(this, { style, opacity, points: points !== false });
    } catch {
      localStorage.removeItem(KEPT); // another version's, or damaged
    }
  }
}
