// Masks of the session: run lengths as they come from the service, painted when they are looked at.

import { call } from "./api.js";
import { Cache } from "./cache.js";
import { paint } from "./rle.js";

const RLE_BYTES_KEPT = 48 << 20,
  PAINTED_BYTES_KEPT = 96 << 20;
const RETRY_MS = 1000;

/** Masks of one session. The session says "picture" with the frame whose masks came. */
export class Masks {
  /** @param {import("./session.js").Session} session @param {import("./look.js").Look} look */
  constructor(session, failed, look) {
    this.session = session;
    this.look = look;
    this.failed = failed;
    this.frames = new Cache(RLE_BYTES_KEPT); // frame -> Map of object id -> object mask
    this.painted = new Cache(PAINTED_BYTES_KEPT);
    this.loading = new Map();
    this.pausedUntil = 0; // after a failure no masks are asked for until then, ms
    session.on(["masks"], (change) => this.change(change));
    session.on(["remasked"], (frames) => this.renew(frames));
  }

  /** Take over masks that came by themselves, or forget those of objects that have none any more. */
  change({ frame, objects = [], without = [] }) {
    for (const id of without) {
      for (const { value } of this.frames.entries.values()) value.delete(id);
      this.painted.clear((key) => key.split(":")[1] === String(id));
    }
    for (const mask of objects) this.put(frame, mask);
    this.session.emit("picture", frame ?? this.session.frame);
  }

  /** Forget all masks; those that are wanted are asked for again. */
  forget() {
    this.frames.clear();
    this.painted.clear();
  }

  put(frame, mask) {
    if (mask.mask_format !== "rle") return;
    const held = this.frames.get(frame);
    if (held === undefined && objectsElsewhere(this.session, frame, mask.object_id)) return this.reload(frame);
    const masks = held ?? new Map();
    masks.set(mask.object_id, mask);
    this.frames.set(
      frame,
      masks,
      [...masks.values()].reduce((sum, { mask: rle }) => sum + rle.counts.length, 200),
    );
    this.painted.clear((key) => key.startsWith(`${frame}:${mask.object_id}:`));
  }

  reload(frame) {
    this.frames.delete(frame);
    this.want(frame);
  }

  /** Ask for a frame's masks again, and forget those of the other frames; what is on screen stays until the new ones are here. */
  renew(frames) {
    const { frame } = this.session;
    for (const other of frames) {
      this.loading.get(other)?.abort();
      this.loading.delete(other);
      if (other !== frame) this.frames.delete(other);
    }
    if (frames.includes(frame)) this.load(frame);
  }

  /** Get the masks of a frame from the service, unless they are here or on their way. */
  async want(frame) {
    if (!this.session.masked.has(frame) || this.frames.has(frame) || this.loading.has(frame)) return;
    if (performance.now() < this.pausedUntil) return;
    await this.load(frame);
  }

  async load(frame) {
    const controller = new AbortController();
    this.loading.set(frame, controller);
    try {
      const answer = await call(`sessions/${this.session.id}/masks/${frame}?mask_format=rle`, { signal: controller.signal });
      if (controller.signal.aborted) return;
      const masks = new Map(answer.objects.map((mask) => [mask.object_id, mask]));
      this.frames.set(
        frame,
        masks,
        answer.objects.reduce((sum, { mask }) => sum + mask.counts.length, 200),
      );
      this.painted.clear((key) => key.startsWith(`${frame}:`));
      this.session.emit("picture", frame);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.status === 404 && !error.sessionGone) this.session.masked.delete(frame); // its objects are gone
      else this.pausedUntil = performance.now() + RETRY_MS;
      if (error.status !== 404) this.failed(error);
    } finally {
      if (this.loading.get(frame) === controller) this.loading.delete(frame);
    }
  }

  /** Abort what is on its way for frames outside of `from` to `to`. */
  keep(from, to) {
    for (const [frame, controller] of this.loading) {
      if (frame >= from && frame <= to) continue;
      controller.abort();
      this.loading.delete(frame);
    }
  }

  /** The painted masks of a frame but of the object `without`: [{canvas, x, y}], the selected object last and stronger. */
  layers(frame, without = undefined) {
    const masks = this.frames.get(frame);
    if (masks === undefined) return [];
    const { session } = this;
    const shown = [...masks.values()].filter(
      ({ object_id: id, bbox }) => bbox && id !== without && session.objects.has(id) && !session.hidden.has(id),
    );
    shown.sort((a, b) => Number(a.object_id === session.selected) - Number(b.object_id === session.selected));
    return shown.map((mask) => this.layer(frame, mask));
  }

  layer(frame, mask) {
    const { session } = this;
    const color = session.color(mask.object_id),
      selected = mask.object_id === session.selected,
      { onObjects } = this.look;
    const fill = !onObjects ? 1 : this.look.style === "outline" ? 0 : this.look.opacity;
    const key = `${frame}:${mask.object_id}:${color}:${selected}:${onObjects}:${fill}`;
    let layer = this.painted.get(key);
    if (layer === undefined) {
      const thin = Math.max(1, Math.round(session.info.width / 900));
      layer = paint(mask.mask, mask.bbox, color, fill, selected ? 2 * thin : thin);
      this.painted.set(key, layer, mask.bbox[2] * mask.bbox[3] * 4);
    }
    return layer;
  }

  /** An object's mask on a frame, as the service sent it; undefined where it is not here. */
  mask(frame, id) {
    return this.frames.get(frame)?.get(id);
  }

  close() {
    for (const controller of this.loading.values()) controller.abort();
  }
}

/** Whether a frame may hold stored masks of other objects, which must not be hidden by a map that has one only. */
function objectsElsewhere(session, frame, id) {
  return [...session.tracks.entries()].some(([other, track]) => other !== id && track.score[frame] !== undefined);
}
