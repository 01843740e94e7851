// Calls of the service: JSON in and out, problem documents as errors, the API key, uploads with progress.

import { inWords } from "./words.js";

const KEY = "sam-service-key";
const base = new URL(".", document.baseURI);
let askForKey = null;
let asking = null;

/** The service refused or failed. `fields` maps each bad field to what is wrong with it. */
export class Problem extends Error {
  /** @param {number} status @param {any} document */
  constructor(status, document = {}) {
    super(inWords(document, `the service answered ${status}`));
    this.status = status;
    this.code = document.code || "";
    this.sessionGone = status === 404 && (document.errors || []).some(({ field }) => field === "session_id");
    this.retryAfter = document.retry_after_s;
  }
}

/** The service could not be reached. */
export class Unreachable extends Error {
  constructor() {
    super("The service cannot be reached.");
  }
}

/** Say how a key is asked for: a function from "was one refused" to a promise of the key. */
export function onKeyWanted(ask) {
  askForKey = ask;
}

export const apiKey = () => sessionStorage.getItem(KEY);
export const url = (path) => new URL(path, base);

/** One call. `body` is sent as JSON, a Blob as it is. Resolves to the Response; throws Problem, Unreachable, or AbortError.
 * @param {string} path @param {any} options */
export async function request(path, { method = "GET", body, signal, headers = {}, ...options } = {}) {
  for (;;) {
    const key = apiKey();
    const kind = body instanceof Blob ? body.type : "application/json";
    const sent = { ...headers, ...(key ? { "X-API-Key": key } : {}), ...(body ? { "Content-Type": kind } : {}) };
    let response;
    try {
      const raw = !body || body instanceof Blob ? body : JSON.stringify(body);
      response = await fetch(url(path), { method, signal, headers: sent, body: raw, ...options });
    } catch (error) {
      throw error.name === "AbortError" ? error : new Unreachable();
    }
    if (response.ok) return response;
    const problem = new Problem(response.status, await response.json().catch(() => ({})));
    if (response.status !== 401) throw problem;
    await wantKey(key);
  }
}

/** One call with a JSON answer. @param {string} path @param {any} options */
export async function call(path, options = {}) {
  const response = await request(path, options);
  return response.status === 204 ? null : response.json();
}

/** POST a body, get JSON. @param {string} path @param {any} body @param {any} options */
export const post = (path, body = undefined, options = {}) => call(path, { method: "POST", body, ...options });

/** Upload a video, or several pictures as one clip, with the options. `progress` is called with the fraction sent; returns {done: promise, cancel}. */
export function upload(files, options, progress) {
  const form = new FormData();
  for (const [name, value] of Object.entries(options)) form.append(name, value);
  for (const file of files) form.append("file", file, file.name);
  const sending = new XMLHttpRequest();
  let cancelled = false;
  const attempt = () =>
    new Promise((resolve, reject) => {
      const key = apiKey();
      sending.open("POST", url("initialize"));
      if (key) sending.setRequestHeader("X-API-Key", key);
      sending.responseType = "json";
      sending.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
      sending.onerror = () => reject(new Unreachable());
      sending.onabort = () => reject(new DOMException("cancelled", "AbortError"));
      sending.onload = () => {
        if (sending.status < 300) resolve(sending.response);
        else if (sending.status === 401) wantKey(key).then(() => resolve(attempt()), reject);
        else reject(new Problem(sending.status, sending.response || {}));
      };
      sending.send(form);
    });
  return {
    done: attempt(),
    cancel: () => {
      cancelled || sending.abort();
      cancelled = true;
    },
  };
}

/** Ask for the key, once for all the calls that were refused together. */
export async function wantKey(refused) {
  if (apiKey() !== refused) return; // another call has got one meanwhile
  asking ??= askForKey(refused !== null)
    .then((key) => sessionStorage.setItem(KEY, key))
    .finally(() => {
      asking = null;
    });
  await asking;
}
