// Formats numbers, times and names as text.

export const STATUSES = ["COMPLETED", "FAILED", "ERROR", "CANCELLED"];

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const few = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
const exact = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** 1,234 in full; from a million on with three digits: 1.23M. */
export function count(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) < 1e6 ? whole.format(value) : compact.format(value);
}

export function rate(value) {
  if (value === null || value === undefined) return "–";
  return value >= 10 ? whole.format(value) : few.format(value);
}

/** Never rounds to 0% or 100%: these mean exactly none and exactly all. A ratio may be above 1. */
export function percent(share) {
  if (share === null || share === undefined) return "–";
  if (share === 0) return "0%";
  if (share === 1) return "100%";
  const value = share * 100;
  if (value < 0.1) return "<0.1%";
  if (value > 99.9 && value < 100) return ">99.9%";
  if (value > 100) return value < 100.1 ? ">100%" : `${value < 1000 ? value.toFixed(1) : count(value)}%`;
  return `${value.toFixed(1)}%`;
}

/** By how much a share changed: +1.3 points. */
export function points(change) {
  if (change === null || change === undefined) return "–";
  if (Math.abs(change) < 0.0005) return "as before";
  return `${change > 0 ? "+" : "−"}${(Math.abs(change) * 100).toFixed(1)} points`;
}

export function span(s) {
  if (s === null || s === undefined) return "–";
  if (s < 0) return `−${span(-s)}`;
  if (s < 0.995) return `${few.format(s * 1000)} ms`;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  const full = Math.round(s);
  if (full < 60) return `${full} s`;
  if (full < 600) return `${Math.floor(full / 60)} min ${pad(full % 60)} s`;
  if (full < 3600) return `${Math.floor(full / 60)} min`;
  if (full < 129600) return `${Math.floor(full / 3600)} h ${pad(Math.floor((full % 3600) / 60))} min`;
  return `${Math.floor(full / 86400)} d ${Math.floor((full % 86400) / 3600)} h`;
}

/** Time after a begin, always to the millisecond, so that many can be compared: +0:47.062, +1:02:03.004. */
export function offset(ms) {
  const whole = Math.round(Math.abs(ms));
  const [hours, minutes, s] = [Math.floor(whole / 3600000), Math.floor(whole / 60000) % 60, Math.floor(whole / 1000) % 60];
  return `${ms < 0 ? "−" : "+"}${hours ? `${hours}:${pad(minutes)}` : minutes}:${pad(s)}.${String(whole % 1000).padStart(3, "0")}`;
}

/** Time since a moment of this or another computer, whose clock may be ahead. */
export const since = (ms) => span(Math.max(0, (Date.now() - ms) / 1000));

const pad = (value) => String(value).padStart(2, "0");

/** A number at an axis whose greatest is `most`: 125, 12.5K, 0.05. */
export function tick(value, most = value) {
  if (value === null || value === undefined) return "–";
  return value && Math.abs(most) >= 10000 ? compact.format(value) : exact.format(value);
}

export const millis = (iso) => new Date(iso).getTime();

/** The first of these times. Their texts have no order: only some have a fraction of a second. */
export const earliest = (times) => times.filter(Boolean).sort((a, b) => millis(a) - millis(b))[0];

/** Local time of a text or of milliseconds; with the day if it is not today, unless `always` without. */
export function clock(iso, { millis = false, always = false } = {}) {
  if (!iso) return "–";
  const at = new Date(iso);
  let text = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  if (millis) text += `.${String(at.getMilliseconds()).padStart(3, "0")}`;
  return always || at.toDateString() === new Date().toDateString() ? text : `${day(at)} ${text}`;
}

/** toLocaleString would take a third of the time of a drawing. */
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** 25 Nov; with the year if it is not this one. */
export const day = (at) => `${pad(at.getDate())} ${MONTHS[at.getMonth()]}` +
  (at.getFullYear() === new Date().getFullYear() ? "" : ` ${at.getFullYear()}`);

/** With a no-break space: a number on a line of its own says nothing. */
export const attempt = (n) => (Number(n) === 0 ? "first\u00a0attempt" : `retry\u00a0${n}`);

/** on the first attempt, on retry 2 */
export const onAttempt = (n) => (Number(n) === 0 ? "on the first attempt" : `on ${attempt(n)}`);

/** per minute, per 5 min, per hour, per 6 h, per day: the interval of a chart. */
export function per(ms) {
  const [n, unit, word] = ms < 3600000 ? [ms / 60000, "min", "minute"] : ms < 86400000 ? [ms / 3600000, "h", "hour"] : [ms / 86400000, "days", "day"];
  return n === 1 ? `per ${word}` : `per ${n} ${unit}`;
}

export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** 25 Nov 20:00–21:00; with seconds only if they are not 0, and with the second day if it differs. */
export function between(since, until) {
  const [a, b] = [new Date(since), new Date(until)];
  const seconds = a.getSeconds() || b.getSeconds();
  const time = (at) => `${pad(at.getHours())}:${pad(at.getMinutes())}${seconds ? `:${pad(at.getSeconds())}` : ""}`;
  return day(a) === day(b) ? `${day(a)} ${time(a)}–${time(b)}` : `${day(a)} ${time(a)} – ${day(b)} ${time(b)}`;
}

/** Time since a commit; recent ones in one word, others without seconds, so that the text does not flicker. */
export function ago(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 10) return "just now";
  return seconds < 60 || seconds >= 600 ? `${span(seconds)} ago` : `${Math.floor(seconds / 60)} min ago`;
}

const WINDOW_NAMES = { "15m": "15 minutes", "1h": "hour", "6h": "6 hours", "24h": "24 hours",
  "7d": "7 days", "30d": "30 days" };

export function windowText(address) {
  if (address.since) {
    return address.until ? `on ${between(address.since, address.until)}` : `since ${clock(address.since)}`;
  }
  return `in the last ${WINDOW_NAMES[address.last] ?? address.last}`;
}
