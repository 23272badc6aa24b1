// The window of time in the address: its bounds, the one before and after it, and a range by hand.

import { WINDOWS } from "./router.js";

const UNITS_MS = { m: 60000, h: 3600000, d: 86400000 };
const SHORTEST_MS = 60000;

const spanMs = (last) => Number(last.slice(0, -1)) * UNITS_MS[last.at(-1)];
const iso = (ms) => new Date(ms).toISOString();
const floor = (ms) => Math.floor(ms / SHORTEST_MS) * SHORTEST_MS;

/** Begin and end in ms; a window up to now ends now. */
export function bounds(address) {
  const until = address.until ? new Date(address.until).getTime() : Date.now();
  return [address.since ? new Date(address.since).getTime() : until - spanMs(address.last), until];
}

export const hours = (address) => {
  const [from, until] = bounds(address);
  return (until - from) / UNITS_MS.h;
};

export const grain = (address) => (hours(address) > 200 ? "day" : hours(address) > 2 ? "hour" : "minute");

/** A query over many days is slow and its result changes slowly, so it runs less often. */
export const pace = (address) => (hours(address) > 25 ? { every: 30000 } : {});

/** The changes that move the window by its own length; at the end of time it follows now again. */
export function moved(address, direction) {
  const [from, until] = bounds(address);
  const length = until - from;
  const [a, b] = [floor(from + direction * length), floor(until + direction * length)];
  if (b < Date.now() - SHORTEST_MS) return { since: iso(a), until: iso(b) };
  const last = WINDOWS.find((one) => Math.abs(spanMs(one) - length) < SHORTEST_MS * 2);
  return last ? { last } : { since: iso(floor(Date.now() - length)), until: null };
}

/** The changes that follow now again, with the window of the nearest length. */
export function now(address) {
  const [from, until] = bounds(address);
  const apart = (one) => Math.abs(Math.log(spanMs(one) / (until - from)));
  return { last: [...WINDOWS].sort((a, b) => apart(a) - apart(b))[0] };
}

/** The minute that a time is in. */
export const minute = (ms) => iso(floor(ms));

/** The changes that show a range of a chart, of at least a minute. */
export function zoomed(from, until) {
  const a = floor(from);
  return { since: iso(a), until: iso(Math.max(a + SHORTEST_MS, floor(until) + SHORTEST_MS)) };
}

/** What an input of type datetime-local has of a time: its text in the reader's zone, and the time itself. */
export function forInput(time) {
  const at = new Date(time);
  return { value: iso(at.getTime() - at.getTimezoneOffset() * 60000).slice(0, 16), "data-time": time };
}

/** The changes for two such inputs; null if they are no range. */
export function typed(from, until) {
  const [since, end] = [from, until].map(meant);
  if (!since || (until.value && !end) || new Date(end ?? Date.now()) <= new Date(since)) return null;
  return { since, until: end };
}

/** A text that is as it was drawn means the time that it was drawn for. The text alone does not say it: it has no
    seconds, and in the night when clocks go back it stands for two times. */
function meant({ value, defaultValue, dataset }) {
  if (value === defaultValue) return dataset.time ?? null;
  const at = new Date(value).getTime();
  return Number.isNaN(at) ? null : iso(at);
}
