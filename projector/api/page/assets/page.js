// Opens the screen of the address, polls its queries and draws the answers.

import { Query } from "./api.js";
import { banner, isLive, ofFigures, outageSince, SLOW_MS } from "./banner.js";
import { listen } from "./actions.js";
import { alertRule, takesStep } from "./alert_rules.js";
import { chart, redraw } from "./charts.js";
import { REASONS, SCREENS, link, parameters, read } from "./router.js";
import { PANELS, ignoredFilters } from "./dashboard.js";
import { flag, h, kept, patch, shown } from "./dom.js";
import { firstRun } from "./first_run.js";
import { LABELS, back, footer, header } from "./header.js";
import { headline } from "./headline.js";
import { isHidden, othersReadUntil } from "./panel_parts.js";
import { onSearch, searchState } from "./search.js";
import { liveFigures, page, sampled } from "./state.js";
import { clock, plural, since } from "./format.js";
import { pace, zoomed } from "./windows.js";

/** The module of each other screen, and its function. Loaded when a screen is opened: a dashboard needs none. */
const MODULES = {
  calls: ["./errors.js", "calls"], executions: ["./lists.js", "executions"], execution: ["./execution.js", "execution"],
  errors: ["./errors.js", "errors"], error: ["./errors.js", "errorGroup"],
  quarantine: ["./quarantine.js", "quarantine"], record: ["./quarantine.js", "record"],
  playbooks: ["./playbooks.js", "playbooks"], retries: ["./retries.js", "retries"], workers: ["./retries.js", "workers"], producers: ["./retries.js", "producers"],
  wall: ["./wall.js", "wall"],
};
const RELOAD_MS = 2000;
/** A reload takes at most this long. What happened in a longer absence is unknown. */
const RELOADED_MS = 30000;
/** Parts of the address that change how answers are drawn, not which. */
const OF_DRAWING = ["sort", "hide", "zoom"];
/** What has not changed is drawn again after this, for its "12 s ago". */
const REDRAWN_MS = 30000;
const FRAME_MS = 16;
const MINUTE_MS = 60000;
/** More panels than this have an index. */
const MANY = 8;
/** The answers of a poll come within this time. */
const POLL_MS = 500;

const $ = (id) => document.getElementById(id);
let opened, stop;

/** Since when an outage lasts that was seen just before a reload, or null. */
function outageBefore() {
  const [begun, seen] = JSON.parse(sessionStorage.getItem("outage") ?? "[]");
  sessionStorage.removeItem("outage");
  return Date.now() - seen < RELOADED_MS ? begun : null;
}

/** The functions of the screens that are loaded. */
const made = {};

const nameOf = (address) => address.view === "wall" ? "wall" : address.show;
const dashboard = () => ({ title: "Projector", panels: PANELS, figures: true });
const screenOf = (address) => (made[nameOf(address)] ?? dashboard)(address);

/** Loads the module of a screen; tried again until the server has answered. */
async function load(name) {
  if (!MODULES[name] || made[name]) return;
  const [module, one] = MODULES[name];
  try {
    made[name] = (await import(module))[one];
  } catch (error) {
    console.warn(`${module} is tried again: ${error}`);
    await new Promise((resolve) => { setTimeout(resolve, RELOAD_MS); });
    await load(name);
  }
}

/** What the search finds of the page itself: screens, panels, reasons of the quarantine, commands. */
function places() {
  const at = (show) => link(page.address, { show: show === "dashboard" ? null : show });
  const press = (id) => () => $(id)?.click();
  return [
    ...SCREENS.map(([show, word]) => ({ kind: "screen", label: word, detail: "", words: word, href: at(show) })),
    { kind: "screen", label: "Wall", detail: "six figures for a screen on the wall", words: "Wall", href: link(page.address, { show: null, view: "wall" }) },
    { kind: "do", label: "Pause or go live", detail: "", words: "pause go live", run: press("pause") },
    { kind: "do", label: "Switch the theme", detail: "light, dark, or the system's", words: "theme light dark", run: press("theme") },
    ...SCREENS.filter(([show]) => show === "dashboard" || made[show]).flatMap(([show, word]) =>
      (made[show] ?? dashboard)({ ...page.address, show, view: undefined }).panels.map((panel) =>
        ({ kind: "panel", label: panel.title, detail: word, words: `${panel.title} ${panel.subtitle ?? ""}`, href: `${at(show)}#${panel.id}` }))),
    ...REASONS.map((reason) => ({ kind: "reason", label: reason, detail: "records of this reason", words: reason,
      href: link(page.address, { show: "quarantine", reason }) })),
  ];
}

async function open() {
  $("main").setAttribute("aria-busy", "true");
  await load(nameOf(read()));
  stop?.abort();
  stop = new AbortController();
  page.address = read();
  opened = location.search;
  page.screen = screenOf(page.address);
  document.title = page.screen.figures ? "Projector" : `${shown(words(page.screen).join(" "))} · Projector`;
  document.body.dataset.view = page.address.view ?? "";
  // The wall has no button that would end a pause.
  page.paused &&= page.address.view !== "wall";
  // An outage goes on from one screen to the next, and after a reload.
  const failingSince = outageSince() ?? outageBefore();
  page.queries = new Map();
  const queryOf = ([path, search, options]) => {
    const key = `${path}?${search}`;
    if (!page.queries.has(key)) page.queries.set(key, new Query(path, search, { ...options, failingSince }));
    return page.queries.get(key);
  };
  const statesOf = (queries) => Object.fromEntries(Object.entries(queries).map(([name, spec]) => [name, queryOf(spec)]));
  for (const panel of page.screen.panels) panel.queryStates = statesOf(panel.queries(page.address));
  page.headline = page.screen.figures ? statesOf({ tiles: ["tiles", parameters(page.address, ["playbook", "step"]), pace(page.address)] }) : {};
  page.freshness = queryOf(["freshness", new URLSearchParams()]);
  page.settings = queryOf(["settings", new URLSearchParams(), { every: 3600000 }]);
  page.choices = page.screen.timeless ? null : queryOf(["choices", parameters(page.address, []), { every: 60000 }]);
  for (const one of page.queries.values()) one.follow(stop.signal, onAnswer, () => page.paused);
  draw();
  $("main").removeAttribute("aria-busy");
}

/** The link that was followed from each address: it has the focus again after Back. */
const followed = new Map();
let returning = null;

/** Gives the focus back once the link is drawn again. */
function focusAgain() {
  if (!returning) return;
  const link_ = [...document.querySelectorAll("#main a[href]")].find((one) => one.getAttribute("href") === returning);
  if (!link_ && !complete) return;
  returning = null;
  link_?.focus();
}

/** The address from which the reader came to the object that `search` shows, and how many steps ago. */
function origin(search) {
  const [before, after] = [location.search, search].map((one) => new URLSearchParams(one));
  const stays = ["show", "execution", "error_class", "record"].every((name) => before.get(name) === after.get(name));
  if (!stays) return { from: `/${location.search}`, steps: 1 };
  return history.state && { ...history.state, steps: history.state.steps + 1 };
}

/** The event whose row was scrolled into its list. */
let listed = null;

function scrollToEvent() {
  const row = document.querySelector(".events [aria-current]");
  if (!row || listed === row) return;
  const list = row.closest(".events");
  // What comes later above the list moves it.
  if (complete) listed = row;
  const [own, all] = [row, list].map((one) => one.getBoundingClientRect());
  // The list may end, or even begin, below the screen.
  const bottom = all.top + 2 * own.height < innerHeight ? Math.min(all.bottom, innerHeight) : all.bottom;
  if (own.top < all.top || own.bottom > bottom) list.scrollTop += (own.top + own.bottom - all.top - bottom) / 2;
}

/** Follows a link inside the page without a reload. */
async function go(href, { replace = false } = {}) {
  const { search, hash } = new URL(href, location.href);
  const from = page.address;
  if (search !== location.search) {
    const quiet = onlyOfDrawing(search);
    if (!replace && !quiet) followed.set(location.search, document.activeElement?.getAttribute?.("href"));
    if (replace || quiet) history.replaceState(history.state, "", href);
    else history.pushState(origin(search), "", href);
    if (quiet) {
      page.address = read();
      opened = location.search;
      return draw();
    }
    await open();
    if (replace) return;
    if (page.address.show === from.show && page.address.execution === from.execution && !hash) {
      // On a phone the event is far below the row that was touched. It grows while it's drawn, so scroll again then.
      if (page.address.event !== from.event) {
        if ($("event")?.getBoundingClientRect().top > innerHeight / 2) land("#event");
        else $("event")?.scrollIntoView({ block: "nearest" });
      }
      return;
    }
  }
  if (hash) {
    // As with the link of a tile, the panel gets the focus.
    location.assign(hash);
    return land(hash);
  }
  if (search === location.search && page.address === from) return;
  scrollTo(0, 0);
  $("main").focus({ preventScroll: true });
}

/** The panel to scroll to, again with each drawing, until the panels above it have their figures or the reader moves. */
let landing = null;

function land(hash) {
  landing = hash;
  requestAnimationFrame(scrollToLanding);
}

function scrollToLanding() {
  if (!landing) return;
  document.querySelector(landing)?.scrollIntoView();
  if (complete) landing = null;
}

function onlyOfDrawing(search) {
  const [a, b] = [new URLSearchParams(location.search), new URLSearchParams(search)];
  for (const name of OF_DRAWING) for (const one of [a, b]) one.delete(name);
  return a.toString() === b.toString();
}

function onAnswer(query) {
  if (query === page.freshness && query.answer && !query.error) sampled(query.answer);
  if (query.error?.status === 401 && !$("token").open) $("token").showModal();
  schedule();
}

let scheduled = 0;
/** Whether the last drawing had something of every query. */
let complete = false;

/** Answers that come together are drawn together; the first ones of a screen as they come. */
function schedule() {
  if (document.hidden) return draw();
  scheduled ||= setTimeout(draw, complete ? POLL_MS : FRAME_MS);
}

// ---- Drawing ----------------------------------------------------------------------------------

function draw() {
  clearTimeout(scheduled);
  scheduled = 0;
  complete = [...page.queries.values()].every((one) => one.answer || one.error);
  const { screen, address } = page;
  drawHeader();
  document.body.dataset.log = page.freshness.answer || page.freshness.error ? (isLive() ? "live" : "old") : "";
  patch($("banner"), banner());
  const charts = {};
  const empty = screen.figures || address.view === "wall" ? firstRun(page.freshness.answer, page.settings.answer) : null;
  patch($("main"), [
    screen.figures ? headlineRow() : titleRow(),
    empty,
    h("div", { class: screen.layout ?? (screen.figures ? "grid packed" : "grid"), "data-key": screen.figures ? "figures" : "inside" },
      (missing(screen) ? screen.panels.slice(0, 1) : screen.panels).map((panel) => frame(panel, charts)).filter(Boolean)),
  ]);
  patch($("foot"), footer());
  for (const [id, spec] of Object.entries(charts)) drawChart(id, spec);
  pack();
  scrollToEvent();
  scrollToLanding();
  focusAgain();
}

const PACKED_ROW_PX = 4;
/** How many rows of the grid each panel of the dashboard takes, by id. */
const rowsOf = new Map();
const resized = new ResizeObserver(pack);

/** Two columns of the dashboard, in which each panel begins where the one above it ends, however high it is. */
function pack() {
  const grid = document.querySelector(".packed");
  if (!grid) return;
  const gap = parseFloat(getComputedStyle(grid).columnGap);
  // All heights are read before any is written, else each panel makes the browser lay out the page again.
  const rows = [...grid.children].map((panel) => [panel, Math.ceil((panel.offsetHeight + gap) / PACKED_ROW_PX)]);
  for (const [panel, needed] of rows) {
    resized.observe(panel);
    if (rowsOf.get(panel.id) === needed) continue;
    rowsOf.set(panel.id, needed);
    panel.style.setProperty("--rows", needed);
  }
}

/** Whether the screen is of an object that is not stored: its first panel says so, and the others are left out. */
const missing = ({ panels: [first] }) => Object.values(first.queryStates).some((one) => one.error?.isNothingThere);

let headerSeen = [];

/** The header has hundreds of choices, and seldom changes: its links to the windows before and after, each minute. */
function drawHeader() {
  const seen = [location.search, page.screen, page.choices?.answer, page.paused, isLive(), document.body.dataset.filters,
    document.documentElement.dataset.theme, searchState(), Math.floor(Date.now() / MINUTE_MS)];
  if (seen.every((one, n) => one === headerSeen[n])) return;
  headerSeen = seen;
  patch($("head"), header());
}

function drawChart(id, spec) {
  const element = $(`chart-${id}`);
  if (!element) return;
  chart(element, { ...spec, traces: spec.traces.filter((trace) => !isHidden(id, trace.name)),
    zoomed: (from, until) => go(link(page.address, zoomed(from, until))) });
}

/** The parts of a title; each stands for itself, so that a name turns none beside it. */
const words = ({ title }) => [title].flat();

function titleRow() {
  const { screen, address } = page;
  const at = Math.max(...ofFigures().map((one) => one.answeredAt ?? 0));
  return h("div", { class: "title", "data-key": "title" },
    back(address), h("h1", {}, words(screen).map((one, n) => [n ? " " : "", h("span", {}, one)])),
    address.view === "wall" && at ? h("time", {}, `refreshed ${clock(at, { always: true })}`) : null,
    screen.panels.length > MANY ? h("nav", { class: "index", "aria-label": "Panels" }, screen.panels.map((one) =>
      h("a", { href: `#${one.id}` }, one.title))) : null);
}

function headlineRow() {
  const answers = {};
  for (const states of [page.headline, ...page.screen.panels.map((panel) => panel.queryStates)]) {
    for (const [name, query] of Object.entries(states)) answers[name] = query.answer;
  }
  return h("div", { "data-key": "headline" }, h("h1", { class: "hidden" }, "Projector"),
    h("ul", { class: "headline", "aria-label": "At a glance" }, headline(answers, page.address, liveFigures()).map((one) =>
      h("li", { "data-state": one.state }, h("a", { href: one.href ?? `#${one.to}`, title: one.title }, h("span", {}, one.name), h("b", {}, one.value),
        one.trend, h("small", {}, one.detail), h("small", {}, tileLine(one)))))));
}

/** The filters that are set and that the queries of a panel do not have, in words. */
function notBy(panel) {
  const over = ignoredFilters(panel, page.address);
  return over.length ? `not filtered by ${over.map((name) => LABELS[name].toLowerCase()).join(", ")}` : null;
}

/** The last line of a tile. It has the filters of its panel, and no room to say both that it lacks one and what its line is. */
function tileLine({ to, versus }) {
  const words = notBy(PANELS.find((panel) => panel.id === to));
  const compared = words && versus.startsWith("line:") ? "" : versus;
  return [compared, words ? h("em", {}, compared ? ` · ${words}` : words) : null];
}

/** The frame of a panel: title, subtitle, state and content. */
function frame(panel, charts) {
  const states = Object.values(panel.queryStates);
  const answers = Object.fromEntries(
    Object.entries(panel.queryStates).map(([name, query]) => [name, query.answer]));
  if (panel.shownIf && !panel.shownIf(answers)) return null;
  const failing = states.find((one) => one.error);
  const waiting = states.find((one) => one.waitingSince && Date.now() - one.waitingSince > SLOW_MS);
  const ready = states.every((one) => one.answer);
  const seen = [...Object.values(answers), failing?.error, waiting && since(waiting.waitingSince), location.search, innerWidth, page.settings.answer,
    page.expanded.has(panel.id), page.choices?.answer?.rows[0]?.oldest_hour, othersReadUntil(), Math.floor(Date.now() / REDRAWN_MS)];
  if ($(panel.id) && panel.seen?.every((one, n) => one === seen[n])) return kept("section", `panel-${panel.id}`);
  panel.seen = seen;
  const body = ready ? content(panel, answers, charts) : notYet(failing, waiting);
  const over = notBy(panel);
  const gone = failing?.error.isNothingThere;
  const cut = ready && states.find((one) => one.answer.truncated);
  const state = ready && (failing || waiting) ? `figures from ${clock(states[0].answer.read_at)}` : null;
  const rule = gone ? null : alertRule(panel, page.address);
  const after = page.screen.panels.slice(page.screen.panels.indexOf(panel) + 1).find((one) => !one.shownIf);
  const copies = copiesWhat(panel, page.address);
  return h("section", { id: panel.id, class: `panel ${page.expanded.has(panel.id) && panel.expandedWidth || panel.width}`, "data-key": `panel-${panel.id}`, tabindex: "-1",
    vars: rowsOf.has(panel.id) ? { "--rows": rowsOf.get(panel.id) } : {}, "aria-labelledby": `${panel.id}-title`, "aria-busy": String(!ready),
    "data-state": failing && !gone ? "bad" : waiting ? "warn" : null },
  page.screen.layout === "wall" ? null : h("a", { class: "past", href: `#${after?.id ?? "foot"}` }, `Skip ${panel.title}`),
  h("header", {}, h("h2", { id: `${panel.id}-title` }, gone ? "Not found" : panel.title),
    h("p", {}, panel.subtitle,
      over ? h("em", {}, panel.subtitle ? ` · ${over}` : over) : null,
      cut ? h("em", {}, ` · ${panel.truncated?.(cut.answer) ?? `first ${plural(cut.answer.rows.length, "group")} only`}`) : null),
    state ? flag(failing ? "bad" : "warn", state) : null,
    rule && page.screen.layout !== "wall" ? h("button", { type: "button", class: "more rule", "data-copy": rule,
      title: `A Prometheus alert rule for a file that rule_files in prometheus.yml names. It ${rule.slice(2, rule.indexOf("\n")).replace("Watches", "watches")}`,
      "aria-label": `${copies}: ${panel.title} as a Prometheus alert` }, copies) : null),
  h("div", { class: "body" }, body.flat().filter(Boolean)));
}

/** What the button copies, and how to get the rule of a single step. */
function copiesWhat(panel, { step }) {
  if (!panel.filters?.includes("step")) return "Copy rule";
  if (step !== undefined) return `Copy rule for ${step || "(no step)"}`;
  return takesStep(panel) ? "Copy rule (all steps; filter by step for one)" : "Copy rule (all steps)";
}

function content(panel, answers, charts) {
  let drawn;
  try {
    drawn = panel.render(answers, { address: page.address, go, expanded: page.expanded.has(panel.id) });
  } catch (error) {
    // A panel that fails takes no other with it.
    console.error(error);
    return [h("p", { class: "empty", "data-state": "bad" }, "The page can't draw this panel. The browser's console says why.")];
  }
  if (Array.isArray(drawn)) return drawn;
  Object.assign(charts, drawn.charts);
  return drawn.nodes;
}

function notYet(failing, waiting) {
  if (!failing) {
    return [h("p", { class: "empty loading" }, waiting ? `Still waiting for the server (${since(waiting.waitingSince)})…` : "Loading…")];
  }
  return [h("p", { class: "empty", "data-state": failing.error.isNothingThere ? null : "bad" }, `${failing.error.message}.`,
    failing.error.reason === "invalid_parameter" ? h("small", {}, ` ${failing.error.detail}`) : null,
    failing.error.reason === "no_such_page" ? [" ", h("a", { href: link(page.address, {}) }, "From the start")] : null)];
}

await load(nameOf(read()));
listen({ go, draw, open });
onSearch(draw, places);
document.addEventListener("focusin", async ({ target }) => {
  if (target.id !== "search") return;
  await Promise.all(SCREENS.map(([show]) => load(show)));
  draw();
});
document.addEventListener("keydown", (event) => {
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.closest?.("input, textarea, select, dialog");
  if (!plain) return;
  if (event.key === "?") $("keys").showModal();
  if (event.key === "j" || event.key === "k") toPanel(event.key === "j" ? 1 : -1);
});

/** Focuses the next panel, or the one before; from the first one back to the last. */
function toPanel(step) {
  const panels = [...document.querySelectorAll("#main .panel")];
  const at = panels.findIndex((one) => one.contains(document.activeElement));
  const next = panels[at < 0 ? (step > 0 ? 0 : panels.length - 1) : (at + step + panels.length) % panels.length];
  next?.focus({ preventScroll: true });
  next?.scrollIntoView({ block: "start" });
}

// Before what the same key or click does: it may choose a panel in the search.
for (const moved of ["wheel", "touchmove", "keydown", "pointerdown"]) addEventListener(moved, () => { landing = null; }, { passive: true, capture: true });
// Going back from a panel link changes only the hash, so nothing is queried again.
addEventListener("popstate", async () => {
  if (location.search === opened) return;
  const href = followed.get(location.search) ?? null;
  await open();
  // After this event, the browser takes the focus away if the address ends with the name of a panel.
  setTimeout(() => {
    returning = href;
    focusAgain();
  });
});
addEventListener("pagehide", () => {
  const begun = outageSince();
  if (begun) sessionStorage.setItem("outage", JSON.stringify([begun, Date.now()]));
});
// A reader who comes back in an outage does not wait for the next try.
addEventListener("focus", () => { if (outageSince()) dispatchEvent(new Event("live")); });
addEventListener("resize", schedule);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
// A title that is scrolled to stands below the bar, however many rows that has.
new ResizeObserver(([{ target }]) => document.documentElement.style.setProperty("--head", `${target.offsetHeight}px`)).observe($("head"));
setInterval(() => {
  if (document.hidden) return;
  // Only the seconds in the banner, the clock of the wall and the bar's links change without a new answer.
  const sentences = banner();
  const ticks = sentences.some((one) => one.querySelector("[aria-hidden]")) || sentences.length !== $("banner").childElementCount;
  if (page.address.view === "wall" || ticks) draw();
  else drawHeader();
}, 1000);

await open();
if (location.hash) land(location.hash);
