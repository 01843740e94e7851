// The keys: one table, which the help dialog shows as well.

/** Groups of [keys as shown, what they do, test of an event, name of the action].
 * @type {[string, [string, string, (e: any) => boolean, string][]][]} */
export const KEYS = [
  [
    "Objects",
    [
      ["N", "new object", (e) => e.key === "n", "newObject"],
      ["1 … 9", "choose an object", (e) => /^[1-9]$/.test(e.key), "chooseObject"],
      ["F2", "rename it", (e) => e.key === "F2", "rename"],
      ["V", "hide or show it", (e) => e.key === "v", "toggleVisible"],
      ["Delete", "remove it", (e) => e.key === "Delete" || e.key === "Backspace", "removeObject"],
    ],
  ],
  [
    "Clicks",
    [
      ["A  S  H", "click adds, removes, moves", (e) => /^[ash]$/.test(e.key), "mode"],
      ["P  Q", "brush, eraser", (e) => /^[pq]$/.test(e.key), "mode"],
      ["K", "clear this frame of the object", (e) => e.key === "k", "clearFrame"],
      ["M", "not in the frame from here", (e) => e.key === "m", "absent"],
      ["Ctrl Z", "undo", (e) => mod(e) && !e.shiftKey && e.key === "z", "undo"],
      ["Ctrl Shift Z", "redo", (e) => mod(e) && ((e.shiftKey && e.key === "z") || e.key === "y"), "redo"],
      ["X", "crosshair on or off; arrows move it", (e) => e.key === "x", "cursor"],
      ["Enter", "click at the crosshair", (e) => e.key === "Enter" && !e.shiftKey, "cursorAdd"],
      ["Shift Enter", "remove at the crosshair", (e) => e.key === "Enter" && e.shiftKey, "cursorRemove"],
      ["C", "a box's first, then second corner", (e) => e.key === "c", "cursorCorner"],
    ],
  ],
  [
    "Time",
    [
      ["Space", "play or pause", (e) => e.key === " ", "play"],
      ["← →", "one frame (Shift: ten)", (e) => /^Arrow(Left|Right)$/.test(e.key), "arrow"],
      [", .", "one frame, always", (e) => e.key === "," || e.key === ".", "stepFrame"],
      ["Home End", "first, last frame", (e) => e.key === "Home" || e.key === "End", "ends"],
      ["[ ]", "slower, faster", (e) => e.key === "[" || e.key === "]", "speed"],
      ["I  O", "the range starts, ends here", (e) => e.key === "i" || e.key === "o", "mark"],
      ["U", "no range", (e) => e.key === "u", "clearRange"],
      ["G", "the next gap in a track", (e) => e.key === "g", "gap"],
      ["W", "worst frame to check, then the next (Shift: back)", (e) => e.key === "w", "weak"],
    ],
  ],
  [
    "Track",
    [
      ["T", "track the whole clip", (e) => e.key === "t", "trackAll"],
      ["F  B", "track forward, back from here", (e) => e.key === "f" || e.key === "b", "trackFrom"],
      ["R", "track the range", (e) => e.key === "r", "trackRange"],
      ["Esc", "cancel", (e) => e.key === "Escape", "cancel"],
      ["E", "export", (e) => e.key === "e", "export"],
    ],
  ],
  [
    "View",
    [
      ["+ −", "zoom", (e) => /^[+=\-_]$/.test(e.key), "zoom"],
      ["0", "fit", (e) => e.key === "0", "fit"],
      ["L", "another look", (e) => e.key === "l", "look"],
      ["?", "this list", (e) => e.key === "?", "help"],
    ],
  ],
];

const mod = (event) => event.ctrlKey || event.metaKey;
const WITH_ARROWS = new Set(["ArrowUp", "ArrowDown"]);

/** Call `actions[name](event)` for keys, unless they are typed into a field, pressed on a button or meant for a dialog. */
export function listen(actions, signal) {
  document.addEventListener(
    "keydown",
    (pressed) => {
      if (document.querySelector("dialog[open]") || isTyping(pressed)) return;
      const event = lower(pressed);
      const found = WITH_ARROWS.has(event.key)
        ? [, , , "arrow"]
        : KEYS.flatMap(([, rows]) => rows).find(([, , test]) => test(event));
      if (!found || pressed.altKey || (mod(pressed) && !["undo", "redo"].includes(found[3]))) return;
      if (actions[found[3]]?.(event) !== false) pressed.preventDefault();
    },
    { signal },
  );
}

/** The event's key without what shift and caps lock make of a letter. */
function lower({ key, shiftKey, ctrlKey, metaKey, repeat }) {
  return { key: key.length === 1 ? key.toLowerCase() : key, shiftKey, ctrlKey, metaKey, repeat };
}

function isTyping({ target, key }) {
  if (target.closest?.("[role=radio]") && key.startsWith("Arrow")) return true;
  if (target.closest?.("input:not([type=checkbox]):not([type=color]), select, textarea, a")) return true;
  return Boolean(target.closest?.("button, [type=checkbox], [type=color], summary")) && (key === " " || key === "Enter");
}

/** Fill the help dialog. */
export function renderHelp(host) {
  host.replaceChildren(
    ...KEYS.map(([title, rows]) => {
      const section = document.createElement("section");
      const heading = document.createElement("h3");
      heading.textContent = title;
      section.append(
        heading,
        ...rows.map(([keys, words]) => {
          const row = document.createElement("div"),
            what = document.createElement("span"),
            which = document.createElement("span");
          what.textContent = words;
          which.append(...keys.split(/ {2}/).flatMap((key, at) => [at ? " " : "", kbd(key)]));
          row.append(what, which);
          return row;
        }),
      );
      return section;
    }),
  );
}

function kbd(text) {
  const key = document.createElement("kbd");
  key.textContent = text;
  return key;
}
