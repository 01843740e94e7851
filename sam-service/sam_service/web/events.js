// The session's events over a WebSocket. A lost connection is told, tried again, and made up for by reading the state anew.

import { apiKey, call, url, wantKey } from "./api.js";

const FIRST_WAIT_MS = 400,
  LONGEST_WAIT_MS = 8000,
  LONGEST_POLL_MS = 1500,
  PING_MS = 15000,
  SILENCE_MS = 25000;
const KEY_REFUSED = 4401;

/** Follows one session. Handlers: state(info), event(message), lost(seconds until the next try), gone(problem). */
export class Events {
  constructor(id, handlers) {
    this.id = id;
    this.handlers = handlers;
    this.closed = false;
    this.wait = FIRST_WAIT_MS;
    this.connect();
    this.beat = setInterval(() => this.ping(), PING_MS);
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
    const socket = new WebSocket(address, key ? ["sam-service", `key.${base64url(key)}`] : ["sam-service"]);
    this.socket = socket;
    socket.onmessage = ({ data }) => {
      this.heard = performance.now();
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
      const info = await call(`sessions/${this.id}`);
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
  ping() {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    if (this.heard && performance.now() - this.heard > PING_MS + SILENCE_MS) return this.socket.close();
    this.socket.send(JSON.stringify({ ping: 1 }));
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
