// Which frames of a track deserve a look.

export const WEAK_SCORE = 0.6;

/** How sure the service is of a mask on a frame, 0 to 1; undefined where there is none. */
export function confidence(track, frame) {
  const score = track.score[frame];
  return score === undefined ? undefined : Math.min(score, track.object_score[frame]);
}

/** Whether the object is in the frame. */
export const present = (track, frame) => track.area[frame] > 0;

/** Whether a frame has a mask that the service is not sure of, or is the first without the object that was there before. */
export function isWeak(track, frame) {
  const score = confidence(track, frame);
  if (score === undefined) return false;
  if (!present(track, frame)) return frame > 0 && present(track, frame - 1);
  return score < WEAK_SCORE;
}

/** The first frame of every stretch of weak frames, over all tracks, ascending. */
export function weakFrames(tracks) {
  const found = new Set();
  for (const track of tracks) {
    for (let frame = 0; frame < track.score.length; frame++) {
      if (isWeak(track, frame) && !(frame > 0 && isWeak(track, frame - 1))) found.add(frame);
    }
  }
  return [...found].sort((a, b) => a - b);
}
