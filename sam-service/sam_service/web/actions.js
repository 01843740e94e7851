// Buttons and keys of the editor, and what each of them does.

import { Cursor } from "./cursor.js";
import { byId, roving } from "./dom.js";
import { listen } from "./keys.js";

const MODES = { a: "add", s: "remove", h: "pan", p: "paint", q: "erase" };

/** Connect the editor's buttons and keys, until `signal` aborts. */
export function bindActions(editor, signal) {
  const { session, prompting, player, tracking, checks } = editor;
  const { view } = editor.viewer;
  const cursor = new Cursor(editor);
  const mode = (name) => {
    editor.pointer.setMode(name);
    for (const other of Object.values(MODES)) byId(`mode-${other}`).setAttribute("aria-checked", other === name);
    byId("brush").hidden = !editor.pointer.paints;
  };
  const step = (by) => session.jump(session.frame + by);
  const openExport = () => (session.objects.size ? editor.exporting.open() : false);
  const onSelected = (act) => session.selected !== null && act(session.selected);

  const actions = {
    newObject: () => prompting.newObject(),
    chooseObject: ({ key }) => {
      const id = [...session.objects.keys()][Number(key) - 1];
      if (id !== undefined) session.select(id);
    },
    rename: () => editor.objects.rename(),
    toggleVisible: () => onSelected((id) => session.setHidden(id, !session.hidden.has(id))),
    absent: () => prompting.markAbsent(),
    clearFrame: () => prompting.clearFrame(),
    removeObject: () => onSelected((id) => prompting.remove(id)),
    mode: ({ key }) => mode(MODES[key]),
    undo: () => prompting.undo(),
    redo: () => prompting.redo(),
    cursor: () => cursor.toggle(),
    cursorAdd: () => cursor.click(true),
    cursorRemove: () => cursor.click(false),
    cursorCorner: () => cursor.corner(),
    play: ({ repeat }) => repeat || player.toggle(),
    arrow: (event) =>
      cursor.move(event) ||
      (/Left|Right/.test(event.key) && step((event.key === "ArrowLeft" ? -1 : 1) * (event.shiftKey ? 10 : 1))),
    stepFrame: ({ key }) => step(key === "," ? -1 : 1),
    ends: ({ key }) => session.jump(key === "Home" ? 0 : session.lastFrame),
    speed: ({ key }) => player.changeSpeed(key === "[" ? -1 : 1),
    mark: ({ key }) => session.setRange(key === "i" ? [session.frame, session.range[1]] : [session.range[0], session.frame]),
    clearRange: () => session.setRange([null, null]),
    weak: ({ shiftKey }) => checks.jump(shiftKey ? -1 : 1),
    gap: () => checks.jumpGap(),
    trackAll: () => tracking.track("all"),
    trackFrom: ({ key }) => tracking.track(key === "f" ? "forward" : "back"),
    trackRange: () => tracking.track("range"),
    cancel: () => (session.job ? tracking.cancel() : cursor.hide()),
    export: openExport,
    zoom: ({ key }) => view.zoomStep(/[+=]/.test(key) ? 1 : -1),
    fit: () => view.fit(),
    look: () => editor.look.next(),
    help: () => byId("help-dialog").showModal(),
  };
  listen(actions, signal);

  const buttons = {
    "new-object": actions.newObject,
    "start-over": () => prompting.startOver(),
    undo: actions.undo,
    redo: actions.redo,
    "zoom-in": () => view.zoomStep(1),
    "zoom-out": () => view.zoomStep(-1),
    "zoom-fit": actions.fit,
    "mode-add": () => mode("add"),
    "mode-remove": () => mode("remove"),
    "mode-pan": () => mode("pan"),
    "mode-paint": () => mode("paint"),
    "mode-erase": () => mode("erase"),
    "track-all": actions.trackAll,
    "track-forward": () => tracking.track("forward"),
    "track-back": () => tracking.track("back"),
    "track-range": actions.trackRange,
    "range-start": () => actions.mark({ key: "i" }),
    "range-end": () => actions.mark({ key: "o" }),
    "range-clear": actions.clearRange,
    cancel: () => tracking.cancel(),
    first: () => session.jump(0),
    last: () => session.jump(session.lastFrame),
    back: () => step(-1),
    step: () => step(1),
    play: () => player.toggle(),
    "gap-next": () => checks.jumpGap(),
    "timeline-in": () => editor.timeline.zoomStep(1),
    "timeline-out": () => editor.timeline.zoomStep(-1),
    "weak-next": () => checks.jump(1),
    "weak-previous": () => checks.jump(-1),
    "open-export": openExport,
    retry: () => editor.link.retryNow(),
  };
  for (const [id, act] of Object.entries(buttons)) byId(id).addEventListener("click", act, { signal });
  byId("speed").addEventListener("change", (event) => player.setSpeed(Number(event.target.value)), { signal });
  byId("frame-number").addEventListener(
    "change",
    (event) => {
      if (event.target.value !== "") session.jump(Number(event.target.value));
      event.target.value = session.frame;
    },
    { signal },
  );
  const leaveOnEnter = ({ key }) => key === "Enter" && byId("canvas").focus(); // so that keys are keys again
  byId("frame-number").addEventListener("keydown", leaveOnEnter, { signal });
  mode("add");
  roving(byId("modes"), signal);
  const enableExport = () => {
    byId("open-export").disabled = byId("start-over").disabled = !session.objects.size;
  };
  session.on(["objects"], enableExport);
  enableExport();
}
