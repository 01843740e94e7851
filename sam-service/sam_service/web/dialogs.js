// Help, the model, the API key, and light or dark.

import { call, onKeyWanted } from "./api.js";
import { byId } from "./dom.js";
import { renderHelp } from "./keys.js";
import { sentence } from "./say.js";

const THEME = "sam-service-theme";

export function setUpDialogs() {
  renderHelp(byId("help-keys"));
  byId("help").onclick = () => byId("help-dialog").showModal();
  byId("model").onclick = () => byId("model-dialog").showModal();
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.id !== "key-dialog" && dialog.close());
  }
  onKeyWanted(askForKey);
  setUpTheme();
}

/** Ask for the API key until something is typed. */
function askForKey(wasRefused) {
  const dialog = byId("key-dialog"),
    field = byId("key");
  byId("key-error").hidden = !wasRefused;
  byId("key-error").textContent = "The service refused this key.";
  field.value = "";
  dialog.oncancel = (event) => event.preventDefault();
  dialog.showModal();
  return new Promise((resolve) => {
    byId("key-form").onsubmit = () => resolve(field.value);
  });
}

function setUpTheme() {
  const root = document.documentElement;
  const kept = localStorage.getItem(THEME);
  if (kept) root.dataset.theme = kept;
  byId("theme").onclick = () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem(THEME, root.dataset.theme);
    document.dispatchEvent(new Event("themechange"));
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("themechange")));
}

/** Show which model is in use. Waits for it while it loads; `stopped` ends the waiting. */
export async function showModel(stopped = () => false) {
  const health = await call("health");
  if (health.error) throw new Error(`The model cannot be loaded: ${health.error}`);
  if (!health.model) {
    byId("start-model").textContent = "The model is being loaded…";
    await new Promise((resolve) => setTimeout(resolve, 1000));
    return stopped() ? null : showModel(stopped);
  }
  const { label: shown, image_size: side, source, parameters, quantized, note } = health.model;
  byId("model").hidden = false;
  byId("model-words").innerHTML = note ? "Fast trial model. Better masks: <u>how</u>" : "";
  if (!note) byId("model-words").textContent = `${shown} · ${health.device}`;
  byId("model").title = "About the model";
  facts(byId("model-facts"), {
    Model: shown,
    Weights: source,
    Parameters: `${(parameters / 1e6).toFixed(1)} million`,
    Input: `${side} × ${side} pixels`,
    Device: `${health.device}${quantized ? ", INT8" : ""}, ${health.threads} threads`,
    Service: health.version,
  });
  byId("model-note").textContent = note ? sentence(note) : "";
  byId("start-model").textContent = `Model: ${shown}, on ${health.device}.`;
  if (health.fetching) followFetching(health.fetching);
  return health;
}

let following = null;

/** Show how far the weights are that replace the trial model, and look again until they are here. */
function followFetching(fetching) {
  byId("start-model").textContent += ` ${fetchingWords(fetching)}`;
  byId("model-words").textContent = fetchingWords(fetching);
  byId("model-note").textContent = `${fetchingWords(fetching)} Open sessions keep their model.`;
  clearTimeout(following);
  if (fetching.state !== "failed") following = setTimeout(() => showModel().catch(() => {}), 2000);
}

function fetchingWords({ label, state, done_bytes: done, total_bytes: total, error }) {
  if (state === "failed") return `${label} cannot be used: ${error}`;
  if (state === "loading") return `${label} is being loaded.`;
  if (state === "waiting") return `${label} cannot be fetched yet; the service tries again.`;
  return `${label} is being fetched${total ? `: ${Math.floor((100 * done) / total)} %` : "…"}`;
}

function facts(list, rows) {
  list.replaceChildren(
    ...Object.entries(rows).flatMap(([name, value]) => {
      const term = document.createElement("dt"),
        words = document.createElement("dd");
      term.textContent = name;
      words.textContent = value;
      return [term, words];
    }),
  );
}
