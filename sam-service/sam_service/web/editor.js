// The editor of one session: its parts, which hear of each other through the session alone, started and taken down together.

import { bindActions } from "./actions.js";
import { Brush } from "./brush.js";
import { Checks } from "./checks.js";
import { byId, focusPicture } from "./dom.js";
import { Exporting } from "./exporting.js";
import { Link } from "./link.js";
import { Look } from "./look.js";
import { ObjectList } from "./objects.js";
import { Player } from "./player.js";
import { Pointer } from "./pointer.js";
import { Prompting } from "./prompting.js";
import { Repair } from "./repair.js";
import { Screen } from "./screen.js";
import { Session } from "./session.js";
import { Timeline } from "./timeline.js";
import { Tracking } from "./tracking.js";
import { Viewer } from "./viewer.js";

export class Editor {
  /** Open the editor of a session whose state is `info`; `leave(problem)` is called when the session is gone. */
  constructor(info, frame, leave) {
    byId("editor").hidden = false;
    this.closing = new AbortController();
    const session = (this.session = new Session(info));
    session.frame = Math.min(Math.max(0, frame || 0), session.lastFrame);
    this.look = new Look(session);
    this.viewer = new Viewer(session, this.look);
    this.prompting = new Prompting(session);
    this.repair = new Repair(this.viewer, this.prompting);
    this.brush = new Brush(this.viewer, this.prompting);
    const act = {
      click: (point, positive) => this.prompting.click(point, positive),
      box: (box) => this.prompting.box(box),
      drag: (box) => this.viewer.stage.setBox(box),
    };
    this.pointer = new Pointer(byId("canvas"), this.viewer.view, act, this.repair, this.brush);
    this.player = new Player(session, (next) => this.viewer.isReady(next));
    this.timeline = new Timeline(session);
    this.objects = new ObjectList(session, this.prompting);
    this.tracking = new Tracking(session);
    this.exporting = new Exporting(this.viewer, this.look);
    this.checks = new Checks(session);
    this.screen = new Screen(session, this.viewer.view);
    this.link = new Link(session, {
      returned: () => this.onReturn(),
      exported: (progress) => this.exporting.progress(progress),
      gone: leave,
    });
    this.start();
  }

  /** All parts are there: let them show what there is and listen. */
  start() {
    const { signal } = this.closing;
    for (const part of this.parts) part.start?.();
    bindActions(this, signal);
    this.session.emit("player", this.player);
    this.session.emit("prompts", this.prompting);
    document.addEventListener("mousedown", keepFocus, { signal });
    byId("speed").addEventListener("change", focusPicture, { signal });
  }

  /** @returns {any[]} */
  get parts() {
    const { look, viewer, prompting, pointer, player, timeline, objects, tracking, exporting, checks, screen, link } = this;
    return [look, viewer, prompting, pointer, player, timeline, objects, tracking, exporting, checks, screen, link];
  }

  /** The service's whole state was read anew. */
  onReturn() {
    this.prompting.resume();
    this.viewer.refresh();
    this.timeline.thumbs.retry();
  }

  close() {
    this.closing.abort();
    for (const part of this.parts) part.close?.();
    byId("editor").hidden = true;
  }
}

/** A button that is clicked does not take the focus, so that Space plays afterwards; a field that is edited is left. */
function keepFocus(event) {
  if (event.target.closest("dialog") || !event.target.closest("button, .check")) return;
  event.preventDefault();
  focusPicture();
}
