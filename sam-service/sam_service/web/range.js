// The range's handles on the timeline: how they look and what moving one does.

export const HANDLE = 8, // how far from a handle a press still takes it, CSS pixels
  HANDLE_TOUCH = 16,
  DRAG_PX = 3;

/** Draw the handles at `left` and `right`: a bracket each, bright where the range was set.
 * @param {any} context @param {number[]} places @param {(number|null)[]} range @param {any} colors */
export function drawHandles(context, [left, right], range, colors) {
  [left, right].forEach((x, end) => {
    const inward = end === 0 ? 1 : -1;
    context.fillStyle = range[end] === null ? colors.muted : colors.accent;
    context.fillRect(inward > 0 ? x : x - 4, 0, 4, 18);
    context.fillRect(inward > 0 ? x : x - 8, 0, 8, 3);
    context.fillRect(inward > 0 ? x : x - 8, 15, 8, 3);
  });
}

/** Move the start (0) or the end (1) of the range to the left edge of frame `edge`; returns the frame that it is at. */
export function moveRange(session, handle, edge) {
  const { lastFrame } = session;
  const [from, to] = [session.range[0] ?? 0, session.range[1] ?? lastFrame];
  const frame = handle === 0 ? Math.min(to, Math.max(0, edge)) : Math.max(from, Math.min(lastFrame, edge - 1));
  const start = handle === 0 ? frame : from,
    end = handle === 1 ? frame : to;
  session.setRange([start === 0 ? null : start, end === lastFrame ? null : end]);
  return frame;
}
