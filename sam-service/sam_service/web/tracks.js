// Scores of a track in words, and which frames deserve a look.

/** The limits of the words. `score` is the mask's, `objectScore` says whether the object is in the frame; both 0 to 1. */
export const LIMITS = { good: 0.5, check: 0.3, objectScore: 0.5 };

/** The words for a person. */
export const WORDS = { good: "good", check: "check", lost: "lost", gone: "not in frame" };

/** A mask on a frame as "good", "check", "lost" or "gone" (the object is not in the frame); undefined without a mask. */
export function verdict(track, frame) {
  if (track.score[frame] === undefined) return undefined;
  return verdictOf({ score: track.score[frame], object_score: track.object_score[frame], area: track.area[frame] });
}

/** The same of one mask as the service sends it. */
export function verdictOf({ score, object_score: inFrame, area }) {
  if (!(area > 0) || inFrame < LIMITS.objectScore) return "gone";
  return score >= LIMITS.good ? "good" : score >= LIMITS.check ? "check" : "lost";
}

/** How bad a frame is, for a person to look at: its score where the mask may be wrong, LIMITS.good where the object leaves. */
function badness(track, frame) {
  const found = verdict(track, frame);
  if (found === "check" || found === "lost") return track.score[frame];
  const leaves = found === "gone" && ["good", "check", "lost"].includes(verdict(track, frame - 1));
  return leaves ? LIMITS.good : undefined;
}

/** Whether a person should look at a frame. */
export const isWeak = (track, frame) => badness(track, frame) !== undefined;

/** A track's stretches of weak frames: their first, last and worst frame, and how bad that is. */
export function weakStretches(track) {
  const stretches = [];
  for (let frame = 0; frame < track.score.length; frame++) {
    if (!isWeak(track, frame)) continue;
    const from = frame;
    let worst = frame;
    while (isWeak(track, frame + 1)) {
      frame += 1;
      if (badness(track, frame) < badness(track, worst)) worst = frame;
    }
    stretches.push({ from, to: frame, worst, badness: badness(track, worst) });
  }
  return stretches;
}

/** A track's stretches without a mask, as [first, last] frame; none of an object that is only clicked so far. */
export function gaps(track, prompted, lastFrame) {
  const masked = [...track.score.keys()].filter((frame) => track.score[frame] !== undefined);
  if (masked.every((frame) => prompted.includes(frame))) return [];
  return [-1, ...masked]
    .map((frame, at) => [frame + 1, (masked[at] ?? lastFrame + 1) - 1])
    .filter(([from, to]) => from <= to);
}

/** The worst frame of every stretch of weak frames, over all tracks, the worst of all first. */
export function weakFrames(tracks) {
  const worst = new Map(); // frame -> its lowest score
  for (const stretch of tracks.flatMap(weakStretches))
    worst.set(stretch.worst, Math.min(stretch.badness, worst.get(stretch.worst) ?? 1));
  return [...worst.entries()].sort(([a, low], [b, lower]) => low - lower || a - b).map(([frame]) => frame);
}
