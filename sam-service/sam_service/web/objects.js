// The list of objects: name, colour, how good the mask is on this frame, visibility, removal.

import { byId, element, icon, iconButton } from "./dom.js";
import { ObjectMenu } from "./menu.js";
import { count } from "./say.js";
import { WORDS, verdict } from "./tracks.js";


/** Shows and changes the objects of a session. */
export class ObjectList {
  /** @param {import("./session.js").Session} session @param {import("./prompting.js").Prompting} prompting */
  constructor(session, prompting) {
    this.session = session;
    this.prompting = prompting;
    this.menu = new ObjectMenu(session, prompting);
    this.list = byId("objects");
  }

  start() {
    const { session } = this;
    this.menu.start(() => this.rename());
    session.on(["objects", "selected", "view"], () => this.render());
    session.on(["frame", "tracks"], () => this.renderScores());
    session.on(["selected"], () => this.list.querySelector(".selected")?.scrollIntoView({ block: "nearest" }));
    this.render();
  }

  render() {
    const typing = this.list.contains(document.activeElement) && document.activeElement.matches(".name, [type=color]");
    if (typing) return; // rendered when the field is left
    const { session } = this;
    const focused = /** @type {any} */ (document.activeElement?.closest("#objects [data-focus]"))?.dataset.focus;
    const rows = [...session.objects.values()].map((object) => this.row(object));
    if (session.selected === null) rows.push(draftRow(rows.length === 0));
    this.list.replaceChildren(...rows);
    if (focused) this.list.querySelector(`[data-focus="${focused}"]`)?.focus();
    this.renderScores();
  }

  row(object) {
    const { session } = this;
    const id = object.object_id,
      hidden = session.hidden.has(id);
    const row = document.createElement("li");
    row.className = "object";
    row.dataset.object = id;
    row.classList.toggle("selected", id === session.selected);
    if (id === session.selected) row.setAttribute("aria-current", "true");
    row.onclick = () => session.select(id);
    row.append(
      this.color(object),
      this.name(object),
      score(),
      lock(object),
      iconButton({
        name: hidden ? "eye-off" : "eye",
        label: `${hidden ? "Show" : "Hide"} ${object.name}`,
        dataset: { focus: `eye-${id}` },
        act: () => session.setHidden(id, !hidden),
      }),
      iconButton({
        name: "more",
        label: `More about ${object.name}`,
        dataset: { focus: `more-${id}` },
        act: ({ currentTarget }) => this.menu.open(id, currentTarget),
      }),
    );
    return row;
  }

  color(object) {
    const input = document.createElement("input");
    input.type = "color";
    input.value = object.color;
    input.setAttribute("aria-label", `Colour of ${object.name}`);
    input.onclick = (event) => event.stopPropagation();
    input.onchange = () => {
      input.blur();
      this.prompting.describe(object.object_id, { color: input.value });
    };
    return input;
  }

  name(object) {
    const input = document.createElement("input");
    input.className = "name";
    input.value = object.name;
    input.maxLength = 80;
    input.spellcheck = false;
    input.setAttribute("aria-label", `Name of object ${object.object_id}`);
    input.onfocus = () => this.session.select(object.object_id);
    input.onkeydown = (event) => {
      if (event.key === "Escape") input.value = object.name;
      if (event.key === "Enter" || event.key === "Escape") byId("canvas").focus();
    };
    input.onblur = () => {
      const name = input.value.trim();
      if (name && name !== object.name) this.prompting.describe(object.object_id, { name });
      else input.value = object.name;
      setTimeout(() => this.render());
    };
    return input;
  }

  renderScores() {
    const { session } = this;
    for (const row of this.list.querySelectorAll("[data-object]")) {
      const track = session.tracks.get(Number(row.dataset.object));
      const cell = row.querySelector(".score");
      const found = track && verdict(track, session.frame);
      cell.dataset.verdict = found ?? "";
      cell.textContent = found ? WORDS[found] : "";
      cell.title = found ? numbers(track, session.frame) : "";
    }
  }

  close() {
    this.menu.close();
  }

  /** Move the focus into the selected object's name. */
  rename() {
    this.list.querySelector(".selected .name")?.select();
    this.list.querySelector(".selected .name")?.focus();
  }
}

/** The numbers behind the word. */
function numbers(track, frame) {
  const [score, inFrame] = [track.score[frame], track.object_score[frame]].map((value) => value.toFixed(2));
  return `Mask score ${score} of 1, in the frame ${inFrame} of 1, ${count(track.area[frame], "pixel")}`;
}

function score() {
  const cell = document.createElement("span");
  cell.className = "score";
  return cell;
}

function draftRow(first) {
  const row = document.createElement("li");
  row.className = "object draft selected";
  row.innerHTML = '<span class="swatch"></span><span class="name"></span>';
  row.querySelector(".name").textContent = first ? "click an object" : "click the new object";
  return row;
}

/** A sign on a locked object. */
function lock({ locked, name }) {
  if (!locked) return element("span");
  const sign = element("span", { className: "lock", title: "Locked: nothing changes its masks" }, icon("lock"));
  sign.append(element("span", { className: "unseen", textContent: `${name} is locked` }));
  return sign;
}
