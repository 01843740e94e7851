// The service's messages in the words of the page: what the API calls a field is not what a person sees.

const FIELDS = {
  video_path: "file name",
  start_frame: "first frame",
  end_frame: "last frame",
  max_frames: "number of frames",
  frame_stride: "frame step",
  object_ids: "objects",
  object_id: "object",
  frame_idx: "frame",
  session_id: "session",
};
const BY_CODE = {
  path_outside: "That file is not in the server's video folder.",
  video_path_disabled: "This server has no video folder. Drop a file instead.",
  invalid_multipart: "The file did not arrive whole. Try again.",
  nothing_to_propagate: "Click an object first; then it can be tracked.",
  propagation_running: "Tracking is under way. Cancel it or wait for its end.",
  object_locked: "This object is locked. Unlock it in its menu first.",
  nothing_to_undo: "There is nothing to undo.",
  nothing_to_redo: "There is nothing to redo.",
  prompted_here: "This frame has a click, box or mask of the object. Clear the frame first.",
  source_gone: "The video file itself is gone from the server. Choose the frame size instead of the original size.",
};
const FIRST_CLICK = "Click the object first, or drag a box around it. A click that removes comes after that.";

/** A problem document's message for a person; `fallback` where it says nothing. */
export function inWords({ code, detail, title }, fallback) {
  const text = detail || title || fallback;
  if (BY_CODE[code]) return BY_CODE[code];
  if (code === "invalid_prompt" && text.includes("needs a positive point")) return FIRST_CLICK;
  const fields = new RegExp(`\\b(${Object.keys(FIELDS).join("|")})\\b`, "g");
  return text
    .replace(/ \([A-Z0-9_]+\)/g, "")
    .replaceAll("`", "")
    .replace(fields, (name) => FIELDS[name]);
}
