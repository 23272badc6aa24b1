// The state of the page is in its address, so that a copied address opens the same view.

export const FILTERS = ["playbook", "version", "step", "attempts", "status", "worker", "event_type"];
export const WINDOWS = ["15m", "1h", "6h", "24h", "7d", "30d"];

/** Every status that a call can have; events have more, but no filter is for them. */
export const CALL_STATUSES = ["PENDING", "CLAIMED", "RUNNING", "COMPLETED", "FAILED", "ERROR", "CANCELLED"];
/** STUCK is a choice of the list of executions, where it means RUNNING, but silent. */
export const EXECUTION_STATUSES = ["RUNNING", "STUCK", "COMPLETED", "FAILED", "CANCELLED"];
const mayBeStuck = ({ status, show }) => status !== "STUCK" || show === "executions";

export const REASONS = ["too_large", "unsupported_framing", "invalid_utf8", "invalid_json", "too_deep", "not_an_event",
  "missing_execution_id", "invalid_id", "missing_time", "rejected_by_database", "skipped"];
const SHAPES = ["python_emit", "python_request", "python_row", "python_legacy", "rust_request", "rust_row", "rust_projector",
  "worker", "executor", "unknown", "", "sql"];
/** The screens in the bar at the top, and their names. */
export const SCREENS = [["dashboard", "Dashboard"], ["executions", "Executions"], ["calls", "Calls"], ["errors", "Errors"],
  ["quarantine", "Quarantine"], ["playbooks", "Playbooks"], ["retries", "Retries"], ["workers", "Workers and queues"], ["producers", "Producers"]];
/** The screens of one object, which need its id. */
const OF_ONE = ["execution", "error", "record"];
/** Parts that belong to one screen: a link to another one drops them. */
const OF_SCREEN = ["failed", "error_class", "reason", "shape", "execution", "command", "try", "event", "record",
  "begun", "waits_for", "time", "zoom", "hide", "sort", "cursor"];
/** Where "" is a value: what has no step, or no worker. */
const MAY_BE_EMPTY = ["playbook", "step", "worker", "event_type", "shape", "error_class"];
const KNOWN = ["view", "last", "since", "until", ...FILTERS, "show", ...OF_SCREEN];

/** Of a day that there is, and with a zone: the browser reads more than the API does. */
function isTime(text) {
  const local = text.slice(0, 19);
  return /^\d{4}(-\d\d){2}T\d\d(:\d\d){2}(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(text)
    && !text.startsWith("0000") && !Number.isNaN(new Date(text).getTime()) && new Date(`${local}Z`).toISOString().startsWith(local);
}

/** A range in ms since the epoch, which ends before the browser's last date. */
function isZoom(text) {
  const [from, to] = text.split("~").map(Number);
  return /^\d{1,15}~\d{1,15}$/.test(text) && from < to;
}

const VALID = {
  view: (text) => text === "wall",
  last: (text) => /^[1-9]\d{0,3}[mhd]$/.test(text),
  since: isTime,
  until: isTime,
  attempts: (text) => /^(0|[1-9]\d{0,8})$/.test(text),
  try: (text) => /^(0|[1-9]\d{0,8})$/.test(text),
  status: (text) => [...CALL_STATUSES, ...EXECUTION_STATUSES].includes(text),
  show: (text) => OF_ONE.includes(text) || SCREENS.some(([show]) => show === text),
  failed: (text) => ["true", "false"].includes(text),
  begun: (text) => ["true", "false"].includes(text),
  waits_for: (text) => ["claim", "start", "finish", "next"].includes(text),
  reason: (text) => REASONS.includes(text),
  shape: (text) => SHAPES.includes(text),
  execution: (text) => /^\d{1,19}$/.test(text),
  event: (text) => /^\d{1,19}$/.test(text),
  time: (text) => text === "ended_at",
  zoom: isZoom,
  record: (text) => /^\d{1,19}$/.test(text),
};
const NEEDS = { execution: "execution", error: "error_class", record: "record" };

/** The address that is shown, and the parts of it that nothing could be made of. */
export let current = { last: "24h", show: "dashboard" };
export let ignored = [];

export function read() {
  const query = new URLSearchParams(location.search);
  const address = { last: "24h", show: "dashboard" };
  ignored = [];
  for (const [name, value] of query) {
    if (!KNOWN.includes(name) || value !== query.get(name) || (VALID[name] && !VALID[name](value))) ignored.push(`${name}=${value}`);
    else if (value || MAY_BE_EMPTY.includes(name)) address[name] = value;
  }
  const needed = NEEDS[address.show];
  if (needed && address[needed] === undefined) {
    ignored.push(`show=${address.show} without ${needed}`);
    address.show = "dashboard";
  }
  if (!mayBeStuck(address)) {
    ignored.push(`status=${address.status}`);
    delete address.status;
  }
  if (address.since && address.until && new Date(address.since) >= new Date(address.until)) {
    ignored.push("since is not before until");
    delete address.since;
    delete address.until;
  }
  if (address.until && !address.since) {
    ignored.push(`until=${address.until} without since`);
    delete address.until;
  }
  current = address;
  return address;
}

/** An address with changes; null removes a part. The order is fixed, so a view has one address. */
export function link(address, changes) {
  const next = { ...address, cursor: null };
  if ("show" in changes) for (const name of [...OF_SCREEN, "view"]) next[name] = null;
  Object.assign(next, changes);
  if (!mayBeStuck(next)) next.status = null;
  if (next.status !== "STUCK") next.begun = next.waits_for = null;
  if (changes.last) next.since = next.until = null;
  const query = new URLSearchParams();
  for (const name of KNOWN) {
    const value = next[name];
    if (value === null || value === undefined || (value === "" && !MAY_BE_EMPTY.includes(name))) continue;
    if (name === "last" && (next.since || value === "24h")) continue;
    if (name === "show" && value === "dashboard") continue;
    query.append(name, value);
  }
  const text = query.toString();
  return text ? `/?${text}` : "/";
}

/** The address of the dashboard with the same window and filters. */
export const home = (address) => link(address, { show: null });

/** The parameters of a query: the window, and the filters that it has. */
export function parameters(address, filters, more = {}) {
  const query = new URLSearchParams();
  if (address.since) {
    query.append("since", address.since);
    if (address.until) query.append("until", address.until);
  } else query.append("last", address.last);
  return add(query, address, filters, more);
}

/** The same without the window. */
export const only = (address, filters, more = {}) => add(new URLSearchParams(), address, filters, more);

function add(query, address, filters, more) {
  for (const name of filters) if (address[name] !== undefined && address[name] !== null) query.append(name, address[name]);
  for (const [name, value] of Object.entries(more)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined) query.append(name, one);
  }
  return query;
}
