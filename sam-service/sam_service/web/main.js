// The page: the start screen, or the editor of the session that the address names (#session=…&frame=…).

import { call } from "./api.js";
import { setUpDialogs, showModel } from "./dialogs.js";
import { byId, focusPicture } from "./dom.js";
import { Editor } from "./editor.js";
import { announce, count, failed, notify, sentence } from "./say.js";
import { Start } from "./start.js";
import { setUpCamera } from "./webcam.js";

const RETRY_MS = 3000;
const start = new Start((id) => {
  location.hash = `session=${id}`;
});
let editor = null;
let turn = 0;

/** Show what the address says. */
async function route() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const id = wanted.get("session");
  if (editor && editor.session.id === id) {
    if (Number(wanted.get("frame")) >= 0 && wanted.has("frame")) editor.session.jump(Number(wanted.get("frame")));
    return;
  }
  editor?.close();
  editor = null;
  const mine = ++turn;
  if (!id) return showStart();
  try {
    const info = await call(`sessions/${encodeURIComponent(id)}`);
    if (mine !== turn) return;
    start.hide();
    editor = new Editor(info, Number(wanted.get("frame")), leave);
    header(true);
    document.title = `${info.video_name} · sam-service`;
    focusPicture();
    announce(`${info.video_name}, ${count(info.num_frames, "frame")}, ${count(info.objects.length, "object")}`);
  } catch (error) {
    if (mine !== turn) return;
    if (error.status === 404 || error.status === 410) return leave(error);
    byId("offline").hidden = false;
    byId("offline-text").textContent = sentence(error.message);
    setTimeout(route, RETRY_MS);
  }
}

/** Back to the start screen, saying why. */
function leave(problem) {
  editor?.close();
  editor = null;
  history.replaceState(null, "", location.pathname);
  notify(problem.message, true);
  showStart();
}

function showStart() {
  header(false);
  byId("offline").hidden = true;
  document.title = "sam-service studio";
  start.show();
}

function header(editing) {
  for (const id of ["video-name", "video-facts", "open-export"]) byId(id).hidden = !editing;
}

async function model() {
  try {
    await showModel();
  } catch (error) {
    failed(error);
    setTimeout(model, RETRY_MS);
  }
}

setUpDialogs();
setUpCamera();
byId("home").onclick = (event) => {
  event.preventDefault();
  location.hash = "";
};
byId("skip").onclick = (event) => {
  event.preventDefault(); // the address names the session
  byId(editor ? "canvas" : "file").focus();
};
window.addEventListener("hashchange", route);
route();
model();
