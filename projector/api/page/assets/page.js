// Opens the screen of the address, polls its queries and draws the answers.

import { Query } from "./api.js";
import { banner, isLive, SLOW_MS } from "./banner.js";
import { listen } from "./actions.js";
import { chart, redraw } from "./charts.js";
import { link, parameters, read } from "./router.js";
import { PANELS, ignoredFilters } from "./dashboard.js";
import { flag, h, kept, patch, shown } from "./dom.js";
import { errorGroup, errors } from "./errors.js";
import { execution } from "./execution.js";
import { firstRun } from "./first_run.js";
import { LABELS, back, footer, header } from "./header.js";
import { headline } from "./headline.js";
import { calls, executions } from "./lists.js";
import { isHidden, othersReadUntil } from "./panel_parts.js";
import { quarantine, record } from "./quarantine.js";
import { retries } from "./retries.js";
import { onSearch, searchState } from "./search.js";
import { liveFigures, page, sampled } from "./state.js";
import { wall } from "./wall.js";
import { clock, plural, since } from "./format.js";
import { pace, zoomed } from "./windows.js";

const SCREENS = { calls, executions, execution, errors, error: errorGroup, quarantine, record, retries };
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

function screenOf(address) {
  if (address.view === "wall") return wall(address);
  return SCREENS[address.show]?.(address) ?? { title: "Projector", panels: PANELS, figures: true };
}

function open() {
  stop?.abort();
  stop = new AbortController();
  page.address = read();
  opened = location.search;
  page.screen = screenOf(page.address);
  document.title = page.screen.figures ? "Projector" : `${shown(words(page.screen).join(" "))} · Projector`;
  document.body.dataset.view = page.address.view ?? "";
  // The wall has no button that would end a pause.
  page.paused &&= page.address.view !== "wall";
  page.queries = new Map();
  const queryOf = ([path, search, options]) => {
    const key = `${path}?${search}`;
    if (!page.queries.has(key)) page.queries.set(key, new Query(path, search, options));
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
}

/** Follows a link inside the page without a reload. */
function go(href, { replace = false } = {}) {
  const { search, hash } = new URL(href, location.href);
  const from = page.address;
  if (search !== location.search) {
    const quiet = onlyOfDrawing(search);
    history[replace || quiet ? "replaceState" : "pushState"](null, "", href);
    if (quiet) {
      page.address = read();
      opened = location.search;
      return draw();
    }
    open();
    if (replace) return;
    if (page.address.show === from.show && page.address.execution === from.execution && !hash) {
      // On a phone the event is far below the row that was touched.
      if (page.address.event !== from.event) $("event")?.scrollIntoView({ block: "nearest" });
      return;
    }
  }
  if (hash) return requestAnimationFrame(() => document.querySelector(hash)?.scrollIntoView());
  if (search === location.search && page.address === from) return;
  scrollTo(0, 0);
  $("main").focus({ preventScroll: true });
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
    h("div", { class: screen.layout ?? "grid", "data-key": screen.figures ? "figures" : "inside" },
      (missing(screen) ? screen.panels.slice(0, 1) : screen.panels).map((panel) => frame(panel, charts)).filter(Boolean)),
  ]);
  patch($("foot"), footer());
  for (const [id, spec] of Object.entries(charts)) drawChart(id, spec);
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
  const at = Math.max(...[...page.queries.values()].map((one) => one.answeredAt ?? 0));
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
      h("li", { "data-state": one.state }, h("a", { href: `#${one.to}`, title: one.title }, h("span", {}, one.name), h("b", {}, one.value),
        one.trend, h("small", {}, one.detail), h("small", {}, one.versus, tileNote(one)))))));
}

/** The filters that are set and that the queries of a panel do not have, in words. */
function notBy(panel) {
  const over = ignoredFilters(panel, page.address);
  return over.length ? `not by ${over.map((name) => LABELS[name].toLowerCase()).join(", ")}` : null;
}

/** A tile has the filters of its panel. */
function tileNote({ to, versus }) {
  const words = notBy(PANELS.find((panel) => panel.id === to));
  return words ? h("em", {}, versus ? ` · ${words}` : words) : null;
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
  const seen = [...Object.values(answers), failing?.error, waiting && since(waiting.waitingSince), location.search, innerWidth,
    page.expanded.has(panel.id), othersReadUntil(), Math.floor(Date.now() / REDRAWN_MS)];
  if ($(panel.id) && panel.seen?.every((one, n) => one === seen[n])) return kept("section", `panel-${panel.id}`);
  panel.seen = seen;
  const body = ready ? content(panel, answers, charts) : notYet(failing, waiting);
  const over = notBy(panel);
  const gone = failing?.error.isNothingThere;
  const cut = ready && states.find((one) => one.answer.truncated);
  const state = ready && (failing || waiting) ? `figures of ${clock(states[0].answer.read_at)}` : null;
  return h("section", { id: panel.id, class: `panel ${panel.width}`, "data-key": `panel-${panel.id}`,
    "aria-labelledby": `${panel.id}-title`, "aria-busy": String(!ready),
    "data-state": failing && !gone ? "bad" : waiting ? "warn" : null },
  h("header", {}, h("h2", { id: `${panel.id}-title` }, gone ? "Not found" : panel.title),
    h("p", {}, panel.subtitle,
      over ? h("em", {}, panel.subtitle ? ` · ${over}` : over) : null,
      cut ? h("em", {}, ` · ${panel.truncated ?? `first ${plural(cut.answer.rows.length, "group")} only`}`) : null),
    state ? flag(failing ? "bad" : "warn", state) : null),
  h("div", { class: "body" }, body.flat().filter(Boolean)));
}

function content(panel, answers, charts) {
  let drawn;
  try {
    drawn = panel.render(answers, { address: page.address, go, expanded: page.expanded.has(panel.id) });
  } catch (error) {
    // A panel that fails takes no other with it.
    console.error(error);
    return [h("p", { class: "empty", "data-state": "bad" }, "This panel could not be drawn; the browser's console says why.")];
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

listen({ go, draw, open });
onSearch(draw);
// Going back from a panel link changes only the hash, so nothing is queried again.
addEventListener("popstate", () => location.search === opened || open());
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

open();
