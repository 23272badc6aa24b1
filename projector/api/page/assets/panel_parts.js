// Parts that several panels share: lists, legends, charts with a table, and bins of time.

import { current, link } from "./router.js";
import { flag, h } from "./dom.js";
import { between, clock, count, day, earliest, millis, plural } from "./format.js";
import { page } from "./state.js";
import { table, tools } from "./tables.js";
import { zoomed } from "./windows.js";

/** Half as many where each row is a card. */
const ROWS_SHOWN = innerWidth <= 700 ? 5 : 10;
/** Rows that are drawn of the table beside a chart; Copy and CSV have all. */
const FIGURES_SHOWN = 120;
/** Fewer calls say little. */
export const FEW_CALLS = 20;
/** Calls at the rate of all that are mixed into a rate, so that few calls say little and none say nothing. */
const CALLS_OF_ALL = 10;
const SERIES = ["s1", "s2", "s3", "s4", "s5"];
const ALL_OTHERS = "s6";
export const sum = (rows, name) => rows.reduce((total, row) => total + Number(row[name] ?? 0), 0);

export const rateOf = (rows) => { const calls = sum(rows, "calls"); return calls ? sum(rows, "failed") / calls : null; };

/** The failure rate to expect of further calls. */
export const expectedRate = (failed, calls, rateOfAll) => (failed + rateOfAll * CALLS_OF_ALL) / (calls + CALLS_OF_ALL);

/** Compares rows by the failure rate to expect of them: 14 of 15 is worse than 1 of 1. Those without a failure are last. */
export function worstFirst(rows) {
  const rateOfAll = rateOf(rows) ?? 0;
  const expected = (row) => expectedRate(row.failed, row.calls, rateOfAll);
  return (a, b) => (b.failed > 0) - (a.failed > 0) || expected(b) - expected(a) || b.calls - a.calls;
}

export const failedCalls = (address, changes = {}) =>
  link(address, { show: "calls", failed: "true", status: null, ...changes });

/** An error class with '…' for each quoted part, because its ? reads like a question. A search for such a text finds it too. */
export const errorClass = (text) => text.replace(/(?<![\p{L}\p{N}?!])\?(?![\p{L}\p{N}?])/gu, "'…'");

/** An error group in words: its class, or its latest text if the class is but signs, such as {?:#,?:?}. */
export const errorText = (row) => (/\p{L}{2}/u.test(row.error_class) ? errorClass(row.error_class) : row.error || row.error_class) || "(no text)";

/** If stored calls cover less than half of the window before, says since when there are any. */
export function noBefore({ since, until }) {
  const oldest = page.choices?.answer?.rows[0]?.oldest_hour;
  const [from, to] = [millis(since), millis(until)];
  return oldest && millis(oldest) > from - (to - from) / 2 ? `no data before ${stamp(oldest, "hour")}` : "";
}

/** `new`: first seen in this window. `back`: seen before it, but not in the window before. */
export const novelty = (row, first = false) => (row.new ? flag("bad", "new", first) : row.back ? flag("none", "back", first) : null);

export const empty = (...words) => [h("p", { class: "empty" }, words)];

/** Of an answer without rows: these words, unless nothing of its window was read. */
export const nothing = (answer, words) => empty(unreadIf(true, answer) ?? words);

/** The first rows, or all if the panel is expanded. */
export function some(rows, expanded, shown = ROWS_SHOWN) {
  return expanded ? rows : rows.slice(0, shown);
}

/** The rows of a panel as they are drawn while the pointer is over it, so that none moves away from under a click. */
export function steady(panel, rows, key) {
  const drawn = [...document.querySelectorAll(`#${panel}:hover [data-key]`)].map((one) => one.dataset.key);
  const place = new Map(drawn.map((one, n) => [one, n]));
  const placeOf = (row) => place.get(key(row)) ?? drawn.length;
  return [...rows].sort((a, b) => placeOf(a) - placeOf(b));
}

/** How many rows of a table are shown. */
export const limit = (rows, expanded, shown = ROWS_SHOWN) => ({ limit: expanded ? rows.length : shown });

/** more: there are others than these rows, which the answer does not hold. */
export function expandButton(panel, rows, expanded, name, shown = ROWS_SHOWN, more = false) {
  if (rows.length <= shown) return null;
  return h("button", { class: "more", type: "button", "data-expand": panel, "aria-expanded": String(expanded) },
    expanded ? `First ${shown} only` : `${more ? "First" : "All"} ${plural(rows.length, name)}`);
}

// ---- Charts -----------------------------------------------------------------------------------

const hiddenSeries = () => (current.hide ?? "").split("~").filter(Boolean);

/** Whether the reader has switched a series of a chart off. */
export const isHidden = (id, name) => hiddenSeries().includes(`${id}.${name}`);

/** What the chart counts, and switches: a click hides a series or shows it again. */
function legend(id, unit, entries) {
  return h("ul", { class: "legend", "aria-label": "Series" }, h("li", { class: "unit", "data-key": "unit" }, unit), entries.map(([word, colour]) => {
    const hidden = hiddenSeries();
    const one = `${id}.${word}`;
    const off = hidden.includes(one);
    const next = off ? hidden.filter((other) => other !== one) : [...hidden, one];
    return h("li", { "data-key": one }, h("a", { href: link(current, { hide: next.join("~") || null }), "data-colour": colour,
      "data-off": off ? "" : null, "aria-label": off ? `Show ${word}` : `Hide ${word}` }, word));
  }));
}

/** A chart, its legend with the unit of its axis, and a table with its numbers for those who cannot see it. */
export function figures(id, spec, unit, words, legendEntries, columns, rows) {
  const list = table(`Figures of ${words}`, columns, rows, null, { id: `figures-${id}`, limit: FIGURES_SHOWN });
  return [
    legend(id, unit, legendEntries),
    h("div", { class: "chart", id: `chart-${id}`, "data-key": `chart-${id}`, "data-own": "",
      role: "img", "aria-label": words }),
    h("details", { class: "figures", "data-key": `figures-${id}` }, h("summary", {}, "Figures"), list,
      h("div", { class: "under" }, showing({ rows, total: rows.length }, FIGURES_SHOWN), tools(`figures-${id}`))),
    mayBeUnfinished(spec) ? h("p", { class: "under", ...reserved(hasUnfinished(spec)) },
      `The last, faded ${spec.traces.every(({ as }) => as === "line") ? "part of the line" : "bar"} isn't complete yet.`) : null,
  ];
}

/** Attributes of a line that comes and goes: while it says nothing, it keeps its height, so that it moves no list from under the pointer. */
export const reserved = (says) => ({ "data-reserved": says ? null : "" });

/** The interval with the most failed calls, and a link to its own, finer charts. */
export function most(intervals, step, address) {
  const [top] = [...intervals].sort((a, b) => b.calls - a.calls);
  if (!top || step === STEP_MS.minute) return null;
  const at = new Date(top.at).getTime();
  return h("p", { class: "under most", "data-key": "most", ...reserved(top.calls) }, h("span", {}, `Most failed calls: ${count(top.calls)}, `,
    h("a", { href: link(address, zoomed(at, at + step - 1)) }, between(at, at + step))));
}

/** Whether something is drawn in an interval that is not complete. */
export const hasUnfinished = (spec) =>
  spec.x.some((at, n) => at < spec.now && at + spec.step > spec.now && spec.traces.some((trace) => trace.y[n]));

/** Whether the running interval is drawn, unless the axis ends with a full one. */
const mayBeUnfinished = ({ x, step, now }) => x.at(-1) + step >= now && now % step !== 0;

export const STEP_MS = { minute: 60000, hour: 3600000, day: 86400000 };

/** Every bin of the window, or its last 6,000: charts of one window have one axis, and a time without data is drawn as 0. */
export function bins(answer) {
  const step = STEP_MS[answer.every];
  const until = new Date(answer.until).getTime();
  const from = Math.floor(new Date(answer.since) / step) * step;
  const last = Math.ceil(until / step - 1) * step;
  const all = [];
  for (let at = Math.max(from, last - 5999 * step); at < until; at += step) all.push(at);
  return all;
}

/** A day begins by UTC: where that is not midnight, its time says so. */
export const stamp = (iso, every) => {
  const time = clock(iso, { always: true }).slice(0, 5);
  return every === "day" && time === "00:00" ? day(new Date(iso)) : `${day(new Date(iso))} ${time}`;
};

/** While a partition was never read, the time up to which all others were. */
export function othersReadUntil() {
  const { as_of: all, rows = [] } = page.freshness?.answer ?? {};
  return all ? null : earliest(rows.map((row) => row.as_of));
}

/** How far the log was read when an answer was made, in ms: what is later is not known yet, and no 0. */
export const knownUntil = (answer) => new Date(answer.as_of ?? othersReadUntil() ?? answer.read_at).getTime();

/** Of a figure of nothing: says that nothing since then was read, if so. Others may have been read further than the slowest. */
export const unreadIf = (isNothing, answer, since = answer.since) =>
  isNothing && knownUntil(answer) <= new Date(since).getTime() ? `Unknown, because the log was read only up to ${clock(knownUntil(answer))}.` : null;

/** Until when minutes are full: the begin of the running one. */
export const fullMinute = (at) => Math.floor(at / STEP_MS.minute) * STEP_MS.minute;

/** The colour of each series, by what it is one of: it keeps its colour whatever its rank. */
const coloursOf = new Map();

/** The colours of these series. A new one gets that of a series which isn't drawn, if none is free. */
function keptColours(name, series) {
  if (!coloursOf.has(name)) coloursOf.set(name, new Map());
  const kept = coloursOf.get(name);
  for (const one of series.filter((other) => !kept.has(other))) {
    const gone = kept.size < SERIES.length ? null : [...kept.keys()].find((other) => !series.includes(other));
    const colour = kept.get(gone) ?? SERIES.find((free) => ![...kept.values()].includes(free));
    kept.delete(gone);
    kept.set(one, colour);
  }
  return series.map((one) => kept.get(one));
}

/** Rows of (at, name, value) as stacked series until `now`: the greatest ones, and all others as one. */
export function stacked(answer, name, value, as, now = knownUntil(answer)) {
  const step = STEP_MS[answer.every];
  const x = bins(answer);
  const totals = new Map();
  for (const row of answer.rows) totals.set(row[name], (totals.get(row[name]) ?? 0) + Number(row[value]));
  const order = [...totals].sort((a, b) => b[1] - a[1]).map(([one]) => one);
  const own = order.slice(0, SERIES.length);
  const position = new Map(own.map((one, n) => [one, n]));
  const index = new Map(x.map((at, n) => [at, n]));
  const names = order.length > own.length ? [...own, "all others"] : own;
  const y = names.map(() => x.map(() => 0));
  for (const row of answer.rows) {
    const n = index.get(new Date(row.at).getTime());
    if (n !== undefined) y[position.get(row[name]) ?? own.length][n] += Number(row[value]);
  }
  const colours = [...keptColours(name, own), ALL_OTHERS];
  const word = (one) => one || "(none)";
  return {
    entries: names.map((one, n) => [word(one), colours[n]]),
    spec: { x, step, now, traces: names.map((one, n) => ({ name: word(one), colour: colours[n], as, y: y[n] })) },
  };
}

/** The times of an answer's trend, the interval between them, and until when it is known. */
export function trendTimes(answer) {
  const from = new Date(answer.trend_from).getTime();
  const step = answer.trend_every_s * 1000;
  return { x: Array.from({ length: answer.trend_intervals }, (_, n) => from + n * step), step, now: knownUntil(answer) };
}

// ---- Lists ------------------------------------------------------------------------------------

/** A list of numbers, each with a bar relative to the greatest; href(entry) links an entry. */
export function tally(entries, expanded) {
  const most = Math.max(...entries.map((one) => one.n));
  return h("ol", { class: "bars plain" }, some(entries, expanded).map((one) =>
    h("li", { "data-key": one.key },
      h(one.href ? "a" : "div", { href: one.href }, h("span", { class: "what" }, one.what), h("b", {}, count(one.n)),
        h("span", { class: "bar", "aria-hidden": "true", vars: { "--share": one.n / most } }),
        h("small", {}, one.detail)))));
}

export function grouped(rows, name, detail, value) {
  const groups = new Map();
  for (const row of rows) {
    const group = groups.get(row[name]) ?? { key: `${name}-${row[name]}`, what: row[name], n: 0, parts: [] };
    group.n += row[value];
    group.parts.push({ n: row[value], word: row[detail] || "(no\u00a0shape)" });
    groups.set(row[name], group);
  }
  return [...groups.values()].sort((a, b) => b.n - a.n)
    .map((group) => {
      const parts = group.parts.sort((a, b) => b.n - a.n);
      const said = parts.slice(0, 3).map((part) => `${part.word} ${count(part.n)}`);
      return { ...group, detail: said.join(" · ") + (parts.length > 3 ? ` · and ${parts.length - 3} more` : "") };
    });
}

/** A link to an execution; `command` and `attempts` are those of the call from which the reader comes. */
export const execution = (address, id, command = null, attempts = null) =>
  h("a", { class: "id", href: link(address, { show: "execution", execution: id, command, try: command && attempts }) }, id);

export function turn(address, next) {
  if (!next && !address.cursor) return null;
  return h("nav", { class: "turn", "aria-label": "Pages" },
    address.cursor ? h("a", { href: link(address, { cursor: null }) }, "Newest") : null,
    next ? h("a", { href: link(address, { cursor: next }) }, "Older") : null);
}

/** showing 50 of 1,204; most: how many rows are drawn at most */
export function showing(answer, most = answer.rows.length) {
  const shown = Math.min(most, answer.rows.length);
  if (answer.total === undefined || answer.total === null || answer.total <= shown) return null;
  return h("span", {}, `showing ${count(shown)} of ${answer.at_least ? "more than " : ""}${count(answer.total)}`);
}
