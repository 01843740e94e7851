// Words to the user: short messages on screen, and for screen readers.

import { byId } from "./dom.js";

const toasts = byId("toasts"),
  status = byId("status");
const SHOWN_MS = 6000,
  FAILURE_SHOWN_MS = 12000;

/** Say something to screen readers only. */
export function announce(text) {
  status.textContent = text;
}

/** Show a message for a while. */
export function notify(text, failed = false) {
  if ([...toasts.children].some((shown) => shown.dataset.text === text)) return;
  const toast = document.createElement("div");
  toast.className = failed ? "toast failed" : "toast";
  toast.dataset.text = text;
  const words = document.createElement("p");
  words.textContent = sentence(text);
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "×";
  close.setAttribute("aria-label", "Close this message");
  close.onclick = () => toast.remove();
  toast.append(words, close);
  toasts.append(toast);
  setTimeout(() => toast.remove(), failed ? FAILURE_SHOWN_MS : SHOWN_MS);
}

/** Show what went wrong, unless it was an abort. That the session is gone is said once, where the page leaves it. */
export function failed(error) {
  if (error.name === "AbortError" || error.sessionGone) return;
  notify(error.message, true);
  if (error.status === undefined && error.constructor.name === "TypeError") console.error(error);
}

/** A number with its word: "1 frame", "2 frames". */
export const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

/** With a capital letter and a full stop. */
export function sentence(text) {
  const words = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(words) ? words : `${words}.`;
}

/** Seconds as m:ss, with tenths where `fine`. */
export function clock(seconds, fine = false) {
  const whole = Math.floor(seconds / 60),
    rest = seconds - whole * 60;
  return `${whole}:${fine ? rest.toFixed(1).padStart(4, "0") : String(Math.floor(rest)).padStart(2, "0")}`;
}
