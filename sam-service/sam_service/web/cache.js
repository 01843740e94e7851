// What was used least recently goes first.

/** A map that holds at most `limit` of cost; `drop` is called with what goes. */
export class Cache {
  /** @param {number} limit @param {(value: any) => void} drop */
  constructor(limit, drop = () => {}) {
    this.limit = limit;
    this.used = 0;
    this.drop = drop;
    this.entries = new Map();
  }

  get(key) {
    const entry = this.entries.get(key);
    if (entry === undefined) return undefined;
    this.entries.delete(key);
    this.entries.set(key, entry);
    return entry.value;
  }

  has(key) {
    return this.entries.has(key);
  }

  set(key, value, cost = 1) {
    this.delete(key);
    this.entries.set(key, { value, cost });
    this.used += cost;
    for (const oldest of this.entries.keys()) {
      if (this.used <= this.limit || oldest === key) break;
      this.delete(oldest);
    }
  }

  delete(key) {
    const entry = this.entries.get(key);
    if (entry === undefined) return;
    this.entries.delete(key);
    this.used -= entry.cost;
    this.drop(entry.value);
  }

  /** Delete every key that `matches`; all of them without it. @param {(key: any) => boolean} matches */
  clear(matches = () => true) {
    for (const key of [...this.entries.keys()]) if (matches(key)) this.delete(key);
  }
}
