// The page's elements.

/** The element of this name. Throws where the page has none. @returns {any} */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element "${id}"`);
  return found;
}

/** Give the picture the focus, without a ring around it. */
export function focusPicture() {
  const options = /** @type {FocusOptions} */ ({ preventScroll: true, focusVisible: false });
  byId("canvas").focus(options);
}

/** Arrow keys choose among the radios of a group, Tab enters and leaves it. `signal` ends that. */
export function roving(group, signal) {
  const radios = [...group.querySelectorAll("[role=radio]")];
  const settle = () => {
    for (const radio of radios) radio.tabIndex = radio.getAttribute("aria-checked") === "true" ? 0 : -1;
  };
  group.addEventListener(
    "keydown",
    (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const shown = radios.filter((radio) => radio.checkVisibility());
      const at = shown.indexOf(document.activeElement);
      if (!step || at < 0) return;
      event.preventDefault();
      const next = shown[(at + step + shown.length) % shown.length];
      next.click();
      next.focus();
    },
    { signal },
  );
  const watching = new MutationObserver(settle);
  watching.observe(group, { subtree: true, attributeFilter: ["aria-checked"] });
  signal.addEventListener("abort", () => watching.disconnect());
  settle();
}

/** A new element with properties, attributes (names with a dash) and children. @returns {any} */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) made.setAttribute(name, value);
    else if (name === "dataset") Object.assign(made.dataset, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** A drawing of the page's own set, by name: "trash". */
export function icon(name) {
  const host = document.createElement("template");
  host.innerHTML = `<svg aria-hidden="true"><use href="#i-${name}"/></svg>`;
  return host.content.firstElementChild;
}

/** A button with a drawing only; `label` is its name. */
export function iconButton({ name, label, title = label, act, ...more }) {
  const made = element("button", { type: "button", title, "aria-label": label, ...more }, icon(name));
  made.addEventListener("click", (event) => {
    event.stopPropagation();
    act(event);
  });
  return made;
}
