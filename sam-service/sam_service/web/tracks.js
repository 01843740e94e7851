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

/** The worst frame of every stretch of weak frames, over all tracks, the worst of all first. */
export function weakFrames(tracks) {
  const worst = new Map(); // frame -> its lowest score
  for (const track of tracks) {
    for (let frame = 0; frame < track.score.length; frame++) {
      if (!isWeak(track, frame)) continue;
      let lowest = frame;
      while (isWeak(track, frame + 1)) {
        frame += 1;
        if (badness(track, frame) < badness(track, lowest)) lowest = frame;
      }
      worst.set(lowest, Math.min(badness(track, lowest), worst.get(lowest) ?? 1));
    }
  }
  return [...worst.entries()].sort(([a, low], [b, lower]) => low - lower || a - b).map(([frame]) => frame);
}
