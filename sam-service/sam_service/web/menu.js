// What can be done with one object, besides clicking it: a panel that opens at its row.

import { byId, element } from "./dom.js";

/** The panel of the chosen object. */
export class ObjectMenu {
  /** @param {import("./session.js").Session} session @param {import("./prompting.js").Prompting} prompting */
  constructor(session, prompting) {
    this.session = session;
    this.prompting = prompting;
    this.panel = byId("object-panel");
    this.id = null;
  }

  start(rename) {
    const { prompting } = this;
    const acts = {
      "object-rename": rename,
      "object-clear": () => prompting.clearFrame(),
      "object-absent": () => prompting.markAbsent(),
      "object-lock": () => prompting.describe(this.id, { locked: !this.session.objects.get(this.id).locked }),
      "object-up": () => this.move(-1),
      "object-down": () => this.move(1),
      "object-remove": () => prompting.remove(this.id),
    };
    for (const [name, act] of Object.entries(acts)) {
      byId(name).onclick = () => {
        this.panel.hidePopover();
        act();
      };
    }
    byId("object-merge").onchange = ({ target }) => {
      this.panel.hidePopover();
      if (target.value) prompting.merge([Number(target.value), this.id]);
    };
  }

  /** Open the panel of an object at its button. */
  open(id, button) {
    const { session, panel } = this;
    const { right, bottom, top } = button.getBoundingClientRect(); // the choice below draws the list anew
    this.id = id;
    session.select(id);
    const ids = [...session.objects.keys()],
      { locked, name } = session.objects.get(id);
    panel.setAttribute("aria-label", name);
    byId("object-lock").textContent = locked ? "Unlock" : "Lock";
    for (const part of ["clear", "absent", "remove"]) byId(`object-${part}`).disabled = locked;
    byId("object-up").disabled = ids[0] === id;
    byId("object-down").disabled = ids.at(-1) === id;
    const others = ids.filter((other) => other !== id && !session.objects.get(other).locked);
    byId("object-merge").disabled = locked || !others.length;
    byId("object-merge").replaceChildren(
      element("option", { value: "", textContent: "Merge into …" }),
      ...others.map((other) => element("option", { value: String(other), textContent: session.name(other) })),
    );
    panel.showPopover();
    panel.style.left = `${Math.max(8, right - panel.offsetWidth)}px`;
    panel.style.top = `${bottom + panel.offsetHeight < innerHeight ? bottom + 4 : Math.max(8, top - panel.offsetHeight - 4)}px`;
    panel.querySelector("button").focus();
  }

  move(by) {
    return this.prompting.describe(this.id, { position: [...this.session.objects.keys()].indexOf(this.id) + by });
  }

  close() {
    this.panel.hidePopover();
  }
}
