// Polls the API; an error is part of the state of a query.

const EVERY_MS = 5000;
const TIMEOUT_MS = 30000;
/** In an outage, a query waits longer after each failure, but never longer than this. */
const MOST_WAIT_MS = 30000;
/** An answer that took longer than this ends a note that the page still waits. */
const LATE_MS = 2500;
/** What the server refuses is refused again: such a query is sent once. */
const REFUSED = [400, 401, 403, 421];

const MESSAGES = {
  database_unavailable: "The database hasn't answered",
  database_refused: "The database rejects the sign-in or the query: a login, role, or migration is missing",
  busy: "The server is too busy",
  too_slow: "The database takes too long to answer",
  unauthorised: "The server needs a token",
  server_unavailable: "The server hasn't answered",
  internal_error: "The server failed, and its log says why",
  no_such_page: "This page belongs to another list, or to an older version of the server",
  not_found: "Nothing is stored under this id. It hasn't been read yet, or it was deleted",
};

export class ApiError extends Error {
  constructor(status, reason, detail) {
    super(MESSAGES[reason] ?? `The server can't answer this: ${detail ?? reason}`);
    this.status = status;
    this.reason = reason;
    this.detail = detail;
  }

  get refused() {
    return REFUSED.includes(this.status);
  }

  /** Nothing is wrong with the server or with the other figures: only the panel itself says it. */
  get isNothingThere() {
    return this.status === 404 || this.reason === "no_such_page";
  }
}

/** A GET of the API with the token; the known answer, as of now, if its rows are the same. Throws ApiError. */
export async function get(path, query, signal, { accept = "application/json", known = null } = {}) {
  // No header can carry another character, and no token has one: the server refuses it as any wrong one.
  const token = sessionStorage.getItem("token")?.trim().replace(/[^!-~]/g, "?");
  let response;
  try {
    response = await fetch(`/api/v1/${path}${query.size ? `?${query}` : ""}`, {
      cache: "no-cache",
      headers: { Accept: accept, ...(token ? { Authorization: `Bearer ${token}` } : {}) },
      // A file takes as long as it is large.
      signal: accept === "application/json" ? AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]) : signal,
    });
    if (response.ok && accept !== "application/json") return await response.blob();
    if (response.ok) {
      const etag = response.headers.get("etag");
      // If the rows are the same, the browser gives the bytes that it kept, which have the times of an earlier answer.
      const times = JSON.parse(response.headers.get("answer-clock"));
      if (etag && etag === known?.etag) {
        await response.body.cancel();
        return Object.assign(known, times);
      }
      return { ...(await response.json()), ...times, etag };
    }
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError(0, "server_unavailable", String(error));
  }
  const body = await response.json().catch(() => ({}));
  throw new ApiError(response.status, body.reason ?? `status ${response.status}`, body.detail);
}

/** Answers stay when the reader leaves a screen, so that going back shows them at once. */
const answerCache = new Map();

export class Query {
  constructor(path, query, { every = EVERY_MS, failingSince = null } = {}) {
    this.path = path;
    this.query = query;
    this.every = every;
    this.address = `${path}?${query}`;
    this.answer = answerCache.get(this.address) ?? null;
    this.error = null;
    this.failingSince = failingSince;
    this.failures = 0;
    /** When it's sent again, in an outage. */
    this.nextAt = null;
    this.sentAt = null;
    this.answeredAt = null;
  }

  /** No request waits for longer than its timeout: what is beyond is the sleep of the computer. */
  get waitingSince() {
    return this.sentAt && Math.max(this.sentAt, Date.now() - TIMEOUT_MS);
  }

  /** Polls until the signal. A paused page sends none once it has an answer of its own, a hidden tab none after an error either. */
  async follow(signal, onAnswer, paused) {
    while (!signal.aborted) {
      const first = !this.answeredAt;
      if (document.hidden ? first && !this.error : first || !paused()) {
        const changed = await this.once(signal);
        if (signal.aborted) return;
        if (changed) onAnswer(this);
      }
      await (this.error?.refused ? untilLive(signal) : pause(this.error ? this.#untilRetry() : untilPoll(this.every), signal));
    }
  }

  #untilRetry() {
    const ms = untilPoll(EVERY_MS) + Math.min(EVERY_MS * 2 ** (this.failures - 1), MOST_WAIT_MS) - EVERY_MS;
    this.nextAt = Date.now() + ms;
    return ms;
  }

  /** Gives whether there is something to draw again: other rows, an error, or the end of one. */
  async once(signal) {
    this.sentAt = Date.now();
    this.nextAt = null;
    let changed = this.error !== null;
    try {
      const answer = await get(this.path, this.query, signal, { known: this.answer });
      changed ||= answer !== this.answer;
      this.answer = answer;
      this.answeredAt = Date.now();
      answerCache.set(this.address, this.answer);
      if (answerCache.size > 200) answerCache.delete(answerCache.keys().next().value);
      this.error = this.failingSince = null;
      this.failures = 0;
    } catch (error) {
      if (signal.aborted) return;
      this.error = error;
      this.failures += 1;
      changed = true;
      if (error.refused || error.isNothingThere) this.answer = this.answeredAt = null;
      this.failingSince ??= this.waitingSince;
    }
    const late = Date.now() - this.waitingSince > LATE_MS;
    this.sentAt = null;
    return changed || late;
  }
}

/**
 * Queries of a page are sent together, so that their answers can be drawn together; other pages began
 * at other times. Half of the interval is left at least: a server that needs the other half is slow.
 */
function untilPoll(every) {
  const left = every - (performance.now() % every);
  return left < every / 2 ? left + every : left;
}

/** Waits, but ends early when the tab becomes visible or the page is live again. */
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

/** Waits for the reader: the button "Try again", or the end of a pause. */
function untilLive(signal) {
  return new Promise((resolve) => {
    const end = () => {
      signal.removeEventListener("abort", end);
      removeEventListener("live", end);
      resolve();
    };
    signal.addEventListener("abort", end);
    addEventListener("live", end);
  });
}
