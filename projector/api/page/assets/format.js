// Figures in, words out: what a number, a time or a state is called on the page.

export const STATUSES = ["COMPLETED", "FAILED", "ERROR", "CANCELLED"];

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const few = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** 1,234 as it is; from a million on in three digits: 1.23M. */
export function count(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) < 1e6 ? whole.format(value) : compact.format(value);
}

export function rate(value) {
  if (value === null || value === undefined) return "–";
  return value >= 10 ? whole.format(value) : few.format(value);
}

/** Never rounds a failure away: 0% and 100% are said only where they are true. */
export function percent(share) {
  if (share === null || share === undefined) return "–";
  if (share === 0) return "0%";
  if (share === 1) return "100%";
  const value = share * 100;
  if (value < 0.1) return "<0.1%";
  if (value > 99.9) return ">99.9%";
  return `${value.toFixed(1)}%`;
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const s = Math.abs(seconds);
  if (s < 0.0995) return `${few.format(s * 1000)} ms`;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 600) return `${Math.floor(s / 60)} min ${pad(Math.floor(s % 60))} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 129600) return `${Math.floor(s / 3600)} h ${pad(Math.floor((s % 3600) / 60))} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

const pad = (value) => String(value).padStart(2, "0");

/** The viewer's wall clock; with the day where it is not today. */
export function clock(iso, { millis = false } = {}) {
  if (!iso) return "–";
  const at = new Date(iso);
  let text = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  if (millis) text += `.${String(at.getMilliseconds()).padStart(3, "0")}`;
  return at.toDateString() === new Date().toDateString() ? text : `${day(at)} ${text}`;
}

export const day = (at) => `${pad(at.getDate())} ${at.toLocaleString("en", { month: "short" })}`;

/** The form plotly draws: it knows no time zones. */
export function local(iso) {
  const at = new Date(iso);
  return (
    `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ` +
    `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`
  );
}

export const attempt = (n) => (Number(n) === 0 ? "first try" : `retry ${n}`);

export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

const WINDOW_NAMES = { "15m": "15 minutes", "1h": "hour", "6h": "6 hours", "24h": "24 hours",
  "7d": "7 days", "30d": "30 days" };

export function windowText(address) {
  if (address.since) {
    const until = address.until ? clock(address.until) : "now";
    return `from ${clock(address.since)} until ${until}`;
  }
  return `in the last ${WINDOW_NAMES[address.last] ?? address.last}`;
}
