// The state of the page is in its address, so that a copied address opens the same view.

export const FILTERS = ["playbook", "step", "attempts", "status", "worker", "event_type"];
export const WINDOWS = ["15m", "1h", "6h", "24h", "7d", "30d"];

const KNOWN = ["last", "since", "until", ...FILTERS, "show", "failed", "execution", "command", "event", "cursor"];

export function read() {
  const query = new URLSearchParams(location.search);
  const address = { last: "24h", show: "dashboard" };
  for (const name of KNOWN) if (query.get(name)) address[name] = query.get(name);
  return address;
}

/** An address with changes; null removes a part. The order is fixed, so a view has one address. */
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

/** The address of the dashboard with the same window and filters. */
export function home(address) {
  return link(address, { show: null, failed: null, execution: null, command: null, event: null });
}

/** The parameters of a query: the window, and the filters that it has. */
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
