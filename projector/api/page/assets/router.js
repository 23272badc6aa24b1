// The page's address in, what is asked for out: whoever gets the address sees the same view.

export const FILTERS = ["playbook", "step", "attempts", "status", "worker", "event_type"];
export const WINDOWS = ["15m", "1h", "6h", "24h", "7d", "30d"];

const KNOWN = ["last", "since", "until", ...FILTERS, "show", "failed", "execution", "command", "event", "cursor"];

export function read() {
  const query = new URLSearchParams(location.search);
  const address = { last: "24h", show: "dashboard" };
  for (const name of KNOWN) if (query.get(name)) address[name] = query.get(name);
  return address;
}

/** The address with some of it changed; null leaves a part out. Order is fixed: one view, one address. */
export function link(address, changes) {
  const next = { ...address, cursor: null, ...changes };
  if (changes.last) next.since = next.until = null;
  const query = new URLSearchParams();
  for (const name of KNOWN) {
    const value = next[name];
    if (value === null || value === undefined || value === "") continue;
    if (name === "last" && (next.since || value === "24h")) continue;
    if (name === "show" && value === "dashboard") continue;
    query.append(name, value);
  }
  const text = query.toString();
  return text ? `/?${text}` : "/";
}

/** Back to the figures, with window and filters but without what was looked into. */
export function home(address) {
  return link(address, { show: null, failed: null, execution: null, command: null, event: null });
}

/** The parameters of a question: its window, and those filters it knows. */
export function parameters(address, filters, more = {}) {
  const query = new URLSearchParams();
  if (address.since) {
    query.append("since", address.since);
    if (address.until) query.append("until", address.until);
  } else query.append("last", address.last);
  for (const name of filters) if (address[name]) query.append(name, address[name]);
  for (const [name, value] of Object.entries(more)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined) query.append(name, one);
  }
  return query;
}
