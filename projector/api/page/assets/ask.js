// A question in, its newest answer out, again and again; what goes wrong is part of the answer.

const EVERY_MS = 5000;
const PATIENCE_MS = 30000;

const WORDS = {
  database_unavailable: "The database does not answer",
  database_refused: "The database refused the question",
  busy: "The server has too much to do",
  too_slow: "The database takes too long to answer",
  unauthorised: "The server wants a token",
  server_unavailable: "The server does not answer",
  internal_error: "The server made a mistake; its log says which",
  not_found: "There is no such thing",
};

export class Refused extends Error {
  constructor(status, reason, detail) {
    super(WORDS[reason] ?? `The server cannot answer this: ${detail ?? reason}`);
    this.status = status;
    this.reason = reason;
    this.detail = detail;
  }
}

async function ask(path, query, signal) {
  const token = sessionStorage.getItem("token");
  let response, body;
  try {
    response = await fetch(`/api/v1/${path}${query.size ? `?${query}` : ""}`, {
      cache: "no-cache",
      headers: token ? { Authorization: `Bearer ${token}` } : {},
      signal: AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]),
    });
    body = await response.json();
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Refused(0, "server_unavailable", String(error));
  }
  if (!response.ok) throw new Refused(response.status, body.reason, body.detail);
  return body;
}

/** Answers outlive the screen they were on: coming back shows them at once, with their time. */
const remembered = new Map();

export class Question {
  constructor(path, query, { every = EVERY_MS } = {}) {
    this.path = path;
    this.query = query;
    this.every = every;
    this.address = `${path}?${query}`;
    this.answer = remembered.get(this.address) ?? null;
    this.error = null;
    this.failingSince = null;
    this.waitingSince = null;
    this.answeredAt = null;
  }

  /** Until the signal: ask, tell, wait; nothing is asked by a tab nobody sees or that is held. */
  async follow(signal, tell, held) {
    while (!signal.aborted) {
      if (!(document.hidden || held()) || (!this.answer && !this.error)) {
        await this.once(signal);
        if (signal.aborted) return;
        tell(this);
      }
      await pause(this.error ? EVERY_MS : this.every, signal);
    }
  }

  async once(signal) {
    this.waitingSince = Date.now();
    try {
      this.answer = await ask(this.path, this.query, signal);
      this.answeredAt = Date.now();
      remembered.set(this.address, this.answer);
      if (remembered.size > 200) remembered.delete(remembered.keys().next().value);
      this.error = this.failingSince = null;
    } catch (error) {
      if (signal.aborted) return;
      this.error = error;
      this.failingSince ??= this.waitingSince;
    }
    this.waitingSince = null;
  }
}

/** Ends early when the tab is shown again, so that nobody looks at old figures. */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      document.removeEventListener("visibilitychange", shown);
      removeEventListener("live", end);
      resolve();
    };
    const shown = () => document.hidden || end();
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
    document.addEventListener("visibilitychange", shown);
    addEventListener("live", end);
  });
}
