// The session's events over a WebSocket. A lost connection is reported and tried again; then the page reads the state anew.

import { apiKey, call, url, wantKey } from "./api.js";

const FIRST_WAIT_MS = 400,
  LONGEST_WAIT_MS = 8000,
  LONGEST_POLL_MS = 1500,
  BEAT_MS = 2000,
  PING_MS = 4000,
  SILENT_MS = 6000, // without an answer to a ping: this is said
  DEAD_MS = 20000; // and after this a new connection is made
const KEY_REFUSED = 4401;

/** Follows one session. Handlers: state(info), event(message), lost(ms until the next try), gone(problem),
 * silent(ms since the service should have answered), heard() once it answers after that. */
export class Events {
  constructor(id, handlers) {
    this.id = id;
    this.handlers = handlers;
    this.closed = false;
    this.wait = FIRST_WAIT_MS;
    this.connect();
    this.beat = setInterval(() => this.check(), BEAT_MS);
    this.onOnline = () => this.retryNow();
    window.addEventListener("online", this.onOnline);
  }

  connect() {
    clearTimeout(this.timer);
    const address = url(`sessions/${this.id}/events?mask_format=rle`);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const key = apiKey();
    this.key = key;
    this.opened = false;
    this.asked = performance.now(); // since when an answer is owed; null while none is
    this.pinged = this.asked;
    const socket = new WebSocket(address, key ? ["sam-service", `key.${base64url(key)}`] : ["sam-service"]);
    this.socket = socket;
    socket.onmessage = ({ data }) => {
      this.asked = null;
      if (this.silent) this.handlers.heard();
      this.silent = false;
      const message = JSON.parse(data);
      if (message.event === "hello") this.welcome(message.session);
      else if (message.event !== "pong") this.handlers.event(message);
    };
    socket.onclose = (event) => this.socket === socket && this.onClose(event);
  }

  welcome(info) {
    this.opened = true;
    this.wait = FIRST_WAIT_MS;
    this.handlers.state(info);
  }

  async onClose({ code }) {
    if (this.closed) return;
    if (code === KEY_REFUSED) {
      await wantKey(this.key);
      return this.connect();
    }
    const answered = !this.opened && (await this.readInstead());
    if (this.closed) return;
    if (!answered) this.handlers.lost(this.wait);
    this.timer = setTimeout(() => this.connect(), this.wait * (0.8 + 0.4 * Math.random()));
    this.wait = Math.min(LONGEST_WAIT_MS, this.wait * 2);
  }

  /** Where a proxy lets no WebSocket through, the state is read at each try. False where the service does not answer. */
  async readInstead() {
    try {
      const info = await call(`sessions/${this.id}`, { signal: AbortSignal.timeout(DEAD_MS) });
      this.wait = Math.min(this.wait, LONGEST_POLL_MS);
      if (!this.closed) this.handlers.state(info);
      return true;
    } catch (error) {
      if ((error.status === 404 || error.status === 410) && !this.closed) this.handlers.gone(error);
      return false;
    }
  }

  /** Try again at once instead of waiting on. */
  retryNow() {
    if (this.closed || this.socket.readyState <= WebSocket.OPEN) return;
    this.wait = FIRST_WAIT_MS;
    this.connect();
  }

  /** Find out about a connection that is dead without saying so. */
  check() {
    const { socket } = this,
      now = performance.now();
    if (socket.readyState > WebSocket.OPEN) return;
    const owed = this.asked === null ? 0 : now - this.asked;
    if (owed > DEAD_MS) return this.drop();
    if (owed > SILENT_MS) {
      this.silent = true;
      this.handlers.silent(owed);
    }
    if (socket.readyState !== WebSocket.OPEN || now - this.pinged < PING_MS) return;
    socket.send(JSON.stringify({ ping: 1 }));
    this.pinged = now;
    this.asked ??= now;
  }

  /** Give up a connection without waiting for the other side's farewell. */
  drop() {
    const { socket } = this;
    socket.onclose = socket.onmessage = null;
    socket.close();
    this.onClose({ code: 0 });
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    clearInterval(this.beat);
    window.removeEventListener("online", this.onOnline);
    this.socket.close();
  }
}

function base64url(text) {
  const bytes = new TextEncoder().encode(text);
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replace(/=+$/, "");
}
