// Opens the screen of the address, polls its queries and draws the answers.

import { FILTERS, WINDOWS, home, link, parameters, read } from "./router.js";
import { Query } from "./api.js";
import { redraw } from "./charts.js";
import { PANELS, drawCharts, ignoredFilters } from "./dashboard.js";
import { h, patch } from "./dom.js";
import { execution } from "./execution.js";
import { headline } from "./headline.js";
import { calls, executions } from "./lists.js";
import { attempt, between, clock, span } from "./format.js";

const SLOW_MS = 3000;
const LABELS = { playbook: "Playbook", step: "Step", attempts: "Attempt", status: "Status",
  worker: "Worker", event_type: "Event type" };
const CHOICES = { playbook: "playbooks", step: "steps", attempts: "attempts", status: "statuses",
  worker: "workers", event_type: "event_types" };

const $ = (id) => document.getElementById(id);
const expanded = new Set();
let paused = false;
let address, opened, screen, queries, freshness, choices, stop;
let samples = [];

function screenOf(at) {
  switch (at.show) {
    case "calls": return calls(at);
    case "executions": return executions(at);
    case "execution": return execution(at);
    default: return { title: "Projector", panels: PANELS, figures: true };
  }
}

function open() {
  stop?.abort();
  stop = new AbortController();
  address = read();
  opened = location.search;
  screen = screenOf(address);
  document.title = screen.figures ? "Projector" : `${screen.title} · Projector`;
  queries = new Map();
  const queryOf = ([path, search, options]) => {
    const key = `${path}?${search}`;
    if (!queries.has(key)) queries.set(key, new Query(path, search, options));
    return queries.get(key);
  };
  for (const panel of screen.panels) {
    panel.queryStates = Object.fromEntries(
      Object.entries(panel.queries(address)).map(([name, spec]) => [name, queryOf(spec)]),
    );
  }
  freshness = queryOf(["freshness", new URLSearchParams()]);
  choices = queryOf(["choices", parameters(address, []), { every: 60000 }]);
  for (const one of queries.values()) one.follow(stop.signal, onAnswer, () => paused);
  draw();
}

/** Follows a link inside the page without a reload. */
function go(href, { replace = false } = {}) {
  if (new URL(href, location.href).search === location.search) return;
  const from = address;
  history[replace ? "replaceState" : "pushState"](null, "", href);
  open();
  if (replace) return;
  if (address.show === from.show && address.execution === from.execution) {
    // On a phone the event is far below the row that was touched.
    if (address.event !== from.event) $("event")?.scrollIntoView({ block: "nearest" });
    return;
  }
  const { hash } = new URL(href, location.href);
  if (hash) return requestAnimationFrame(() => document.querySelector(hash)?.scrollIntoView());
  scrollTo(0, 0);
  $("main").focus({ preventScroll: true });
}

function onAnswer(query) {
  if (query === freshness && query.answer && !query.error) {
    const total = query.answer.rows.reduce((sum, row) => sum + Number(row.records), 0);
    const at = new Date(query.answer.read_at).getTime();
    samples = [...samples.filter((one) => at - one.at < 60000 && one.total <= total && one.at < at), { at, total }];
  }
  if (query.error?.status === 401 && !$("token").open) $("token").showModal();
  draw();
}

// ---- State of the page -------------------------------------------------------------

const since = (ms) => span(Math.max(0, (Date.now() - ms) / 1000));

/** One sentence about errors, slow queries or a pause; screen readers skip the seconds. */
function banner() {
  const all = [...queries.values()].filter((one) => one !== choices);
  const failing = all.filter((one) => one.error);
  const waiting = all.filter((one) => one.waitingSince && Date.now() - one.waitingSince > SLOW_MS);
  const newest = (some) => some.map((one) => one.answer?.read_at).filter(Boolean).sort().at(-1);
  if (failing.length) {
    const oldest = Math.min(...failing.map((one) => one.failingSince));
    const figures = newest(failing);
    const words = [...new Set(failing.map((one) => one.error.message))];
    const some = failing.length < all.length ? ` (${failing.length} of ${all.length} queries)` : "";
    return h("p", { "data-state": "bad" }, `${words.join(". ")}${some}`,
      h("span", { "aria-hidden": "true" }, ` for ${since(oldest)}`),
      figures ? `; figures are of ${clock(figures)}.` : "; there are no figures yet.");
  }
  if (waiting.length) {
    const figures = newest(waiting);
    return h("p", { "data-state": "warn" }, "Still waiting for the server",
      h("span", { "aria-hidden": "true" }, ` (${since(Math.min(...waiting.map((one) => one.waitingSince)))})`),
      figures ? `; figures are of ${clock(figures)}.` : "; there are no figures yet.");
  }
  if (paused) {
    return h("p", { "data-state": "warn" }, `Paused: the figures of ${clock(newest(all))} do not change.`);
  }
  return null;
}

function liveFigures() {
  const answer = freshness.answer;
  // The database's clock, plus our own clock since its last answer: data age during an outage.
  const unheard = freshness.answeredAt && (freshness.error || freshness.waitingSince) ? Date.now() - freshness.answeredAt : 0;
  const age = answer?.as_of
    ? Math.max(0, (new Date(answer.read_at) - new Date(answer.as_of) + unheard) / 1000) : null;
  const [a, b] = [samples[0], samples.at(-1)];
  return { age, perSecond: a && b && b.at - a.at > 3000 ? (b.total - a.total) / ((b.at - a.at) / 1000) : null };
}

// ---- Drawing ----------------------------------------------------------------------------------

function draw() {
  patch($("head"), header());
  const words = banner();
  patch($("banner"), words ? [words] : []);
  const charts = {};
  patch($("main"), [
    screen.figures ? headlineRow() : titleRow(),
    h("div", { class: "grid", "data-key": screen.figures ? "figures" : "inside" },
      screen.panels.map((panel) => frame(panel, charts)).filter(Boolean)),
  ]);
  patch($("foot"), footer());
  drawCharts(charts);
}

function titleRow() {
  return h("div", { class: "title", "data-key": "title" },
    h("a", { href: home(address), class: "back" }, "← Dashboard"), h("h1", {}, screen.title));
}

function headlineRow() {
  const answers = {};
  for (const panel of screen.panels) {
    for (const [name, query] of Object.entries(panel.queryStates)) answers[name] = query.answer;
  }
  return h("div", { "data-key": "headline" }, h("h1", { class: "hidden" }, "Projector"),
    h("ul", { class: "headline", "aria-label": "At a glance" }, headline(answers, address, liveFigures()).map((one) =>
      h("li", { "data-state": one.state }, h("a", { href: `#${one.to}` }, h("span", {}, one.name), h("b", {}, one.value),
        h("small", {}, one.detail))))));
}

/** The frame of a panel: title, subtitle, state and content. */
function frame(panel, charts) {
  const states = Object.values(panel.queryStates);
  const answers = Object.fromEntries(
    Object.entries(panel.queryStates).map(([name, query]) => [name, query.answer]));
  if (panel.onlyIfAny && !answers[panel.onlyIfAny]?.rows.length) return null;
  const ready = states.every((one) => one.answer);
  const failing = states.find((one) => one.error);
  const waiting = states.find((one) => one.waitingSince && Date.now() - one.waitingSince > SLOW_MS);
  const over = ignoredFilters(panel, address);
  let body;
  if (ready) {
    const drawn = panel.render(answers, { address, go, expanded: expanded.has(panel.id) });
    body = Array.isArray(drawn) ? drawn : drawn.nodes;
    if (!Array.isArray(drawn)) Object.assign(charts, drawn.charts);
  } else if (failing) {
    body = [h("p", { class: "empty", "data-state": "bad" }, `${failing.error.message}.`,
      failing.error.status === 400 ? h("small", {}, ` ${failing.error.detail}`) : null)];
  } else {
    body = [h("p", { class: "empty loading" }, waiting ? `Still waiting for the server (${since(waiting.waitingSince)})…` : "Loading…")];
  }
  const truncated = ready && states.some((one) => one.answer.truncated);
  const state = ready && (failing || waiting) ? `figures of ${clock(states[0].answer.read_at)}` : null;
  return h("section", { id: panel.id, class: `panel ${panel.width}`, "data-key": `panel-${panel.id}`,
    "aria-labelledby": `${panel.id}-title`, "aria-busy": String(!ready),
    "data-state": failing ? "bad" : waiting ? "warn" : null },
  h("header", {}, h("h2", { id: `${panel.id}-title` }, panel.title),
    h("p", {}, panel.subtitle,
      over.length ? h("em", {}, ` · not by ${over.map((name) => LABELS[name].toLowerCase()).join(", ")}`) : null,
      truncated ? h("em", {}, " · first 5,000 groups only") : null),
    state ? h("span", { class: "flag", "data-state": failing ? "bad" : "warn" }, state) : null),
  h("div", { class: "body" }, body.flat().filter(Boolean)));
}

function header() {
  const theme = document.documentElement.dataset.theme ?? "auto";
  const set = FILTERS.filter((name) => address[name]);
  const options = (name) => {
    const known = (choices.answer?.rows[0]?.[CHOICES[name]] ?? []).map(String);
    if (address[name] && !known.includes(address[name])) known.unshift(address[name]);
    return known;
  };
  return [
    h("a", { class: "name", href: home(address) }, "Projector"),
    h("nav", { class: "windows", "aria-label": "Window" }, WINDOWS.map((last) =>
      h("a", { href: link(address, { last }), "aria-current": !address.since && address.last === last ? "true" : null }, last)),
    address.since ? h("span", { class: "fixed" }, address.until ? between(address.since, address.until) : `since ${clock(address.since)}`) : null),
    h("div", { class: "filters", role: "group", "aria-label": "Filters" }, FILTERS.map((name) =>
      select(name, options(name)))),
    set.length ? h("a", { class: "clear", href: link(address, Object.fromEntries(FILTERS.map((name) => [name, null]))) }, "Clear") : null,
    h("div", { class: "self" },
      h("button", { type: "button", class: "button", id: "filters", "aria-expanded": String(document.body.dataset.filters === "open") },
        set.length ? `Filters (${set.length})` : "Filters"),
      h("button", { type: "button", class: "button live", id: "pause", "aria-pressed": String(paused) }, paused ? "Paused" : "Live"),
      h("button", { type: "button", class: "button theme", id: "theme", "data-theme": theme, "aria-label": `Theme: ${theme}`,
        title: `Theme: ${theme}` })),
  ];
}

function select(name, known) {
  const node = h("select", { name, "aria-label": LABELS[name], "data-set": address[name] ? "" : null },
    h("option", { value: "" }, `All ${CHOICES[name].replace("_", " ")}`),
    known.map((one) => h("option", { value: one, selected: one === address[name] }, name === "attempts" ? attempt(one) : one || "(none)")));
  node.value = address[name] ?? "";
  return node;
}

function footer() {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return [h("p", {}, `Times are ${zone}. `, h("a", { href: "/api" }, "API"), ".")];
}

// ---- Events of the reader -----------------------------------------------------------------------

document.addEventListener("click", (event) => {
  const anchor = event.target.closest?.("a[href]");
  if (anchor && !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0) {
    const href = anchor.getAttribute("href");
    if (href === "/" || href.startsWith("/?")) {
      event.preventDefault();
      go(href);
    }
    return;
  }
  const button = event.target.closest?.("button");
  if (!button) return;
  if (button.dataset.expand) {
    const panel = button.dataset.expand;
    if (!expanded.delete(panel)) expanded.add(panel);
    draw();
  } else if (button.id === "pause") {
    paused = !paused;
    draw();
    if (!paused) dispatchEvent(new Event("live"));
  } else if (button.id === "filters") {
    document.body.dataset.filters = document.body.dataset.filters === "open" ? "" : "open";
    draw();
  } else if (button.id === "theme") {
    const order = ["auto", "light", "dark"];
    const next = order[(order.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % order.length];
    if (next === "auto") {
      delete document.documentElement.dataset.theme;
      localStorage.removeItem("theme");
    } else localStorage.setItem("theme", (document.documentElement.dataset.theme = next));
    draw();
    redraw();
  }
});

document.addEventListener("change", (event) => {
  const { name, value } = event.target;
  if (FILTERS.includes(name)) go(link(address, { [name]: value || null }));
});

$("token").addEventListener("close", () => {
  if ($("token-value").value) sessionStorage.setItem("token", $("token-value").value);
  $("token-value").value = "";
  open();
});

// Going back from a panel link changes only the hash, so nothing is queried again.
addEventListener("popstate", () => location.search === opened || open());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
setInterval(() => {
  // Only the seconds in the banner change without a new answer.
  if (banner() || $("banner").hasChildNodes()) draw();
}, 1000);

open();
