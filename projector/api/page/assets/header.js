// The bar at the top: screens, search, window and filters.

import { CALL_STATUSES, EXECUTION_STATUSES, FILTERS, SCREENS, WINDOWS, home, link } from "./router.js";
import { h } from "./dom.js";
import { attempt, between, clock } from "./format.js";
import { isLive } from "./banner.js";
import { searchBox } from "./search.js";
import { page } from "./state.js";
import { bounds, forInput, minute, moved, now } from "./windows.js";

export const LABELS = { playbook: "Playbook", version: "Version", step: "Step", attempts: "Attempt", status: "Status",
  worker: "Worker", event_type: "Event type" };
const CHOICES = { playbook: "playbooks", version: "versions", step: "steps", attempts: "attempts", status: "statuses",
  worker: "workers", event_type: "event_types" };
/** The list that a screen of one object belongs to: marked above, and where the way back leads. */
const PART_OF = { execution: "executions", error: "errors", record: "quarantine" };

export function header() {
  const { address, screen } = page;
  const shown = FILTERS.filter((name) => address[name] !== undefined
    // The versions of all playbooks would be a long list: one is chosen on its playbook's screen.
    || (name !== "version" && screen.panels.some((one) => one.filters?.includes(name))));
  const set = FILTERS.filter((name) => address[name] !== undefined);
  const open = document.body.dataset.filters === "open";
  const theme = document.documentElement.dataset.theme ?? "auto";
  const state = page.paused ? "Paused" : isLive() ? "Live" : "Not live";
  const does = page.paused ? "Go live" : "Pause";
  return [
    h("div", { class: "row", "data-key": "bar" },
      h("a", { class: "name", href: home(address) }, "Projector"),
      screens(address),
      searchBox(),
      h("div", { class: "self" },
        screen.timeless || !shown.length ? null : h("button", { type: "button", class: "button", id: "filters", "aria-expanded": String(open) },
          set.length ? `Filters (${set.length})` : "Filters"),
        h("button", { type: "button", class: "button live", id: "pause", "data-paused": page.paused ? "" : null, title: does, "aria-label": `${state}. ${does}` }, state),
        h("a", { class: "button", id: "wall", href: link(address, { show: null, view: "wall" }), title: "Six figures for a screen on the wall" }, "Wall"),
        h("button", { type: "button", class: "button theme", id: "theme", "data-theme": theme, "aria-label": `Theme: ${theme}`,
          title: `Theme: ${theme}` }))),
    screen.timeless ? null : h("div", { class: "row second", "data-key": "window" },
      windows(address),
      shown.length ? h("div", { class: "filters", role: "group", "aria-label": "Filters" }, shown.map((name) => select(name, options(name))),
        set.length ? h("a", { class: "clear", href: link(address, Object.fromEntries(FILTERS.map((name) => [name, null]))) }, "Clear") : null) : null),
  ];
}

function screens(address) {
  const shown = PART_OF[address.show] ?? address.show;
  return h("nav", { class: "screens", "aria-label": "Screens" }, SCREENS.map(([show, word]) =>
    h("a", { href: link(address, { show: show === "dashboard" ? null : show }), "aria-current": show === shown ? "page" : null }, word)));
}

const OF_ONE = [["execution", "Execution"], ["error", "Error"], ["record", "Record"], ["wall", "Wall"]];

/** The way back: to where the reader came from, else from one object to the list of it with its filters, and from a list to the dashboard. */
export function back(address) {
  if (address.show === "playbooks" && address.playbook !== undefined) {
    return h("a", { href: link(address, { playbook: null, version: null }), class: "back" }, "← Playbooks");
  }
  const { from, steps } = history.state ?? {};
  const query = new URLSearchParams(from?.slice(1));
  const name = query.get("view") ?? query.get("show") ?? "dashboard";
  // The way from a list to the dashboard keeps the filters of the list.
  if (from && (PART_OF[address.show] || name !== "dashboard")) {
    const [, came] = [...SCREENS, ...OF_ONE].find(([show]) => show === name) ?? SCREENS[0];
    return h("a", { href: from, class: "back", "data-steps": steps }, `← ${came}`);
  }
  const list = PART_OF[address.show] ?? "dashboard";
  const [, word] = SCREENS.find(([show]) => show === list);
  const href = list === "dashboard" ? home(address) : link(address, { show: list, reason: address.reason, shape: address.shape });
  return h("a", { href, class: "back" }, `← ${word}`);
}

function windows(address) {
  const [from, until] = bounds(address);
  const words = address.since ? (address.until ? between(from, until) : `since ${clock(address.since)}`) : "Range";
  return h("nav", { class: "windows", "aria-label": "Window" },
    h("a", { href: link(address, moved(address, -1)), "aria-label": "Step back by the window's length", title: "Step back" }, "‹"),
    WINDOWS.map((last) =>
      h("a", { href: link(address, { last }), "aria-current": !address.since && address.last === last ? "true" : null }, last)),
    h("details", { class: "picker", "data-key": "picker" },
      h("summary", { "data-set": address.since ? "" : null }, words),
      // Else the browser submits nothing while a field has the error of the time before.
      h("form", { id: "range", novalidate: true },
        h("label", {}, "From ", h("input", { type: "datetime-local", name: "from", required: true, ...forInput(address.since ?? minute(from)) })),
        h("label", {}, "Until ", h("input", { type: "datetime-local", name: "until", ...(address.until ? forInput(address.until) : {}) })),
        h("p", {}, "Without an end, the window goes up to now. You can drag over a chart, too."),
        h("button", { class: "button" }, "Show"))),
    address.since ? h("a", { href: link(address, moved(address, 1)), "aria-label": "Step forward by the window's length", title: "Step forward" }, "›") : null,
    address.since ? h("a", { href: link(address, now(address)), id: "now" }, "Now") : null);
}

function options(name) {
  const known = (page.choices?.answer?.rows[0]?.[CHOICES[name]] ?? []).map(String);
  const set = page.address[name];
  if (name === "status") return page.address.show === "executions" && EXECUTION_STATUSES.includes(set ?? "STUCK") ? EXECUTION_STATUSES : CALL_STATUSES;
  return set !== undefined && !known.includes(set) ? [set, ...known] : known;
}

function select(name, known) {
  const set = page.address[name];
  const without = name === "status" && page.address.failed;
  const node = h("select", { name, "aria-label": LABELS[name], "data-set": set === undefined && !without ? null : "", title: set ?? null },
    h("option", { value: "" }, without ? "Without success" : `All ${CHOICES[name].replace("_", " ")}`),
    known.map((one) => h("option", { value: one, selected: one === set }, name === "attempts" ? attempt(one) : one || "(none)")));
  node.selectedIndex = set === undefined ? 0 : 1 + known.indexOf(set);
  return node;
}

/**
 * The address of Grafana's dashboard with the same window and filters. Null if no Grafana is set, and on the
 * screen of one execution, which Grafana has no dashboard for.
 */
function inGrafana() {
  const { grafana } = page.settings?.answer ?? {};
  const { address } = page;
  if (!grafana || address.execution) return null;
  const [from, until] = bounds(address);
  const query = new URLSearchParams({ from, to: until });
  for (const name of ["step", "playbook", "attempts", "status", "worker"]) if (address[name]) query.append(`var-${name}`, address[name]);
  return `${grafana}/d/workflows?${query}`;
}

export function footer() {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const grafana = inGrafana();
  return [h("p", {}, `Times are ${zone}. Press / to search, ? for all keys. `, h("a", { href: "/api" }, "API"),
    grafana ? [", ", h("a", { href: grafana }, "the same in Grafana")] : null, ".")];
}
