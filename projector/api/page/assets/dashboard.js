// An address in, the panels of the dashboard out: which questions each asks, and how it shows them.

import { home, link, parameters } from "./router.js";
import { chart } from "./charts.js";
import { h, status, table } from "./dom.js";
import { attempt, clock, count, day, local, percent, plural, rate, span, windowText } from "./format.js";

const ROWS_SHOWN = 10;
const FEW_CALLS = 5;
const SERIES = ["s1", "s2", "s3", "s4", "s5", "s6"];
const sum = (rows, name) => rows.reduce((total, row) => total + Number(row[name] ?? 0), 0);

/** A panel: id, title, says (what it tells), asks(address) -> [path, query, how often] each, draws. */
export const PANELS = [
  {
    id: "outcomes", title: "Outcome over time", width: "wide", filters: ["playbook"],
    subtitle: "How executions ended, by when; a bar opens them",
    queries: (address) => ({
      outcomes: ["execution-outcomes", parameters(address, ["playbook"], { every: grain(address) }), pace(address)],
    }),
    render: drawOutcomes,
  },
  {
    id: "freshness", title: "Freshness", width: "narrow", filters: null,
    subtitle: "How far each partition of the log is read",
    queries: () => ({
      freshness: ["freshness", new URLSearchParams()],
      agreement: ["agreement", new URLSearchParams()],
    }),
    render: drawFreshness,
  },
  {
    id: "errors", title: "Error rate by attempt", width: "wide",
    filters: ["playbook", "step", "attempts"],
    subtitle: "Share of calls that failed at each try; a cell opens them",
    queries: (address) => ({
      errors: ["error-rate-by-attempt", parameters(address, ["playbook", "step", "attempts"], { limit: 5000 }), pace(address)],
    }),
    render: drawErrors,
  },
  {
    id: "first", title: "First-attempt success", width: "narrow", filters: ["playbook", "step"],
    subtitle: "Calls that needed no retry; worst step first, few calls last",
    queries: (address) => ({
      first: ["first-attempt-success", parameters(address, ["playbook", "step"]), pace(address)],
    }),
    render: drawFirst,
  },
  {
    id: "storms", title: "Retry storms", width: "half", filters: ["step"],
    subtitle: "Retries for each first try that ended: the last 5 minutes against the hour before",
    queries: (address) => ({
      storms: ["retry-storms", only(address, ["step"])],
      retries: ["retries-by-minute", only(address, ["step"],
        { last: "2h", every: "minute", by: ["at", "step"], limit: 5000 })],
    }),
    render: drawStorms,
  },
  {
    id: "stuck", title: "Stuck executions", width: "half", filters: ["playbook"],
    subtitle: "Not ended, and silent for at least 5 minutes; the latest first",
    queries: (address) => ({
      stuck: ["stuck-executions", only(address, ["playbook"], { limit: 100, begun: "true" })],
      ages: ["stuck-by-age", only(address, ["playbook"])],
    }),
    render: drawStuck,
  },
  {
    id: "durations", title: "Duration by attempt", width: "half",
    filters: ["playbook", "step", "attempts", "status"],
    subtitle: "Median, 95th and 99th percentile, log scale",
    queries: (address) => ({
      durations: ["call-durations-by-attempt",
        parameters(address, ["playbook", "step", "attempts", "status"]), pace(address)],
    }),
    render: drawDurations,
  },
  {
    id: "rates", title: "Events/s", width: "half", filters: ["event_type"],
    subtitle: "By type, each full minute of the last two hours",
    queries: (address) => ({
      // Many rows, and only full minutes are shown: asked less often.
      rates: ["events-per-second", only(address, ["event_type"], { last: "2h", every: "minute", limit: 5000 }),
        { every: 15000 }],
    }),
    render: drawRates,
  },
  {
    id: "why", title: "Why calls fail", width: "third", filters: ["step", "attempts", "status"],
    subtitle: "Failures by the class of their error text",
    queries: (address) => ({
      why: ["failures-by-error", parameters(address, ["step", "attempts", "status"], { by: "error_class" })],
    }),
    render: drawWhy,
  },
  {
    id: "quarantine", title: "Quarantine by reason", width: "third", filters: [],
    subtitle: "Records that were refused, and kept",
    queries: (address) => ({ refused: ["quarantine-by-reason", parameters(address, [])] }),
    render: drawQuarantine,
  },
  {
    id: "coercions", title: "Coercions", width: "third", filters: [],
    subtitle: "Values whose meaning was changed or guessed, by rule and shape",
    queries: (address) => ({ coercions: ["coercions-by-rule", parameters(address, [])] }),
    render: drawCoercions,
  },
  {
    id: "jobs", title: "Backfill and other jobs", width: "full", filters: null, onlyIfAny: "jobs",
    subtitle: "Jobs that replay or rewrite history",
    queries: () => ({ jobs: ["jobs", new URLSearchParams()] }),
    render: drawJobs,
  },
];

function only(address, filters, more = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(more)) for (const one of [value].flat()) query.append(name, one);
  for (const name of filters) if (address[name]) query.append(name, address[name]);
  return query;
}

function hours(address) {
  return address.since
    ? (new Date(address.until ?? Date.now()) - new Date(address.since)) / 3600000
    : { "15m": 0.25, "1h": 1, "6h": 6, "24h": 24, "7d": 168, "30d": 720 }[address.last] ?? 24;
}

const grain = (address) => (hours(address) > 200 ? "day" : hours(address) > 2 ? "hour" : "minute");

/** What adds up many days costs more and moves slowly: it is asked less often. */
const pace = (address) => (hours(address) > 25 ? { every: 30000 } : {});

/** The filters that are set and that a panel's question does not know. */
export function ignoredFilters(panel, address) {
  if (panel.filters === null) return [];
  const set = ["playbook", "step", "attempts", "status", "worker", "event_type"];
  return set.filter((name) => address[name] && !panel.filters.includes(name));
}

const failedCalls = (address, changes) =>
  link(address, { show: "calls", failed: "true", status: null, ...changes });

const empty = (...words) => [h("p", { class: "empty" }, words)];

/** The first rows, and the rest when asked for. */
function some(rows, expanded, shown = ROWS_SHOWN) {
  return expanded ? rows : rows.slice(0, shown);
}

function expandButton(panel, rows, expanded, name, shown = ROWS_SHOWN) {
  if (rows.length <= shown) return null;
  return h("button", { class: "more", type: "button", "data-expand": panel, "aria-expanded": String(expanded) },
    expanded ? `First ${shown} only` : `All ${plural(rows.length, name)}`);
}

function legend(entries) {
  return h("ul", { class: "legend", "aria-hidden": "true" }, entries.map(([word, colour]) =>
    h("li", { "data-colour": colour }, word)));
}

/** A chart is a picture: its figures stand under it as a table. */
function figures(id, words, legendEntries, columns, rows, after) {
  return [
    legend(legendEntries),
    h("div", { class: "chart", id: `chart-${id}`, "data-key": `chart-${id}`, "data-own": "",
      role: "img", "aria-label": words }),
    h("details", { class: "figures", "data-key": `figures-${id}` }, h("summary", {}, "Figures"),
      table(`Figures of ${words}`, columns, rows)),
    after,
  ];
}

const STEP_MS = { minute: 60000, hour: 3600000, day: 86400000 };

/**
 * Every bin of a window, so that silence is drawn as nothing and not as a line across it; but of the
 * time before the first figure only so much that `least` bins are there.
 */
function bins(answer, least) {
  const step = STEP_MS[answer.every];
  const until = new Date(answer.until).getTime();
  const first = Math.min(...answer.rows.map((row) => new Date(row.at).getTime()));
  const from = Math.max(Math.floor(new Date(answer.since) / step) * step,
    Math.min(first, Math.floor(until / step) * step - (least - 1) * step));
  const all = [];
  for (let at = from; at < until && all.length < 6000; at += step) all.push(at);
  return all;
}

function drawOutcomes({ outcomes }, { address, go }) {
  const { rows } = outcomes;
  if (!rows.length) return empty(`No execution began or ended ${windowText(address)}.`);
  const at = new Map(rows.map((row) => [new Date(row.at).getTime(), row]));
  const x = bins(outcomes, 12);
  const step = STEP_MS[outcomes.every];
  const half = step / 2;
  const series = (name) => x.map((one) => at.get(one)?.[name] ?? 0);
  const middle = x.map((one) => local(one + half));
  const entries = [["failed", "failed"], ["cancelled", "cancelled"], ["completed", "completed"]];
  const spec = {
    unit: "", height: 14,
    hover: { day: "%d %b", hour: "%d %b %H:00–%H:59", minute: "%d %b %H:%M" }[outcomes.every],
    range: [local(x[0]), local(x.at(-1) + step)],
    // Failures stand on the ground line: only there can the eye compare them.
    traces: [
      ...entries.map(([name, colour]) => ({ name, colour, as: "bar", x: middle, y: series(name) })),
      { name: "begun", colour: "ink-2", as: "line", x: middle, y: series("begun") },
    ],
    clicked: (n) => go(link(address, { show: "executions", since: new Date(x[n]).toISOString(),
      until: new Date(x[n] + step).toISOString() })),
  };
  const words = `executions ${windowText(address)}: ${count(sum(rows, "completed"))} completed, ` +
    `${count(sum(rows, "failed"))} failed, ${count(sum(rows, "cancelled"))} cancelled, ` +
    `${count(sum(rows, "begun"))} begun`;
  return {
    nodes: figures("outcomes", words, [...entries, ["begun", "begun"]], [
      { name: { day: "Day", hour: "Hour from", minute: "Minute" }[outcomes.every], cell: (row) =>
        h("a", { href: link(address, { show: "executions", since: row.at,
          until: new Date(new Date(row.at).getTime() + step).toISOString() }) }, stamp(row.at, outcomes.every)) },
      ...["completed", "failed", "cancelled", "begun"].map((name) =>
        ({ name, number: true, cell: (row) => count(row[name]) })),
    ], rows),
    charts: { outcomes: spec },
  };
}

const stamp = (iso, every) =>
  every === "day" ? day(new Date(iso)) : `${day(new Date(iso))} ${clock(local(iso)).slice(-8, -3)}`;

/** How long ago all projections were last compared whole, by range and by sample. */
function scopesText(verdicts) {
  const said = [["all", "whole"], ["range", "by range"], ["sample", "by sample"]]
    .map(([scope, words]) => [verdicts.map((row) => row[`${scope}_verified_at`]), words])
    .filter(([times]) => times.every(Boolean))
    .map(([times, words]) => `${words} ${span((Date.now() - Math.min(...times.map((at) => new Date(at)))) / 1000)} ago`);
  return said.length ? `compared ${said.join(", ")}` : "not all compared yet";
}

function drawFreshness({ freshness, agreement }) {
  if (!freshness.rows.length) return empty("No record was read yet. ", h("code", {}, "normalizer run"), " reads the log.");
  const verdicts = agreement.rows;
  const apart = verdicts.filter((row) => row.verdict === "divergent");
  return [
    table("Partitions", [
      { name: "Partition", cell: (row) => [row.topic, h("b", {}, ` ${row.partition}`)] },
      { name: "Read up to offset", number: true, cell: (row) => row.next_offset === null ? "–" : count(Number(row.next_offset)) },
      { name: "State", cell: (row) => h("span", { class: "flag first", "data-state": logState([row]).state }, logState([row]).word) },
      { name: "Waiting", number: true, cell: (row) => row.unread === null ? "–" : count(row.unread) },
      { name: "Delay", number: true, cell: (row) => span(row.delay_s) },
    ], freshness.rows, (row) => `${row.topic}-${row.partition}`),
    h("p", { class: "verdict", "data-state": apart.length ? "bad" : verdicts.length ? "good" : "none" },
      verdicts.length === 0
        ? ["Not compared with the log yet: ", h("code", {}, "projector verify"), "."]
        : apart.length
          ? `${plural(apart.length, "projection disagrees", "projections disagree")} with the log, ` +
            `the oldest since ${stamp(apart.map((row) => row.divergent_since).sort()[0])}: ` +
            `${apart.map((row) => row.projection).join(", ")}.`
          : `${plural(verdicts.length, "projection agrees", "projections agree")} with the log, ` +
            `${scopesText(verdicts)}.`),
  ];
}

/** How the log stands, in a word: that of its worst partition. */
export function logState(rows) {
  const has = (...states) => rows.some((row) => states.includes(row.state));
  if (has("dead")) return { word: "No reader", state: "bad" };
  if (has("stopped")) return { word: "Stopped", state: "bad" };
  if (has("unclaimed")) return { word: "Not claimed", state: "bad" };
  if (has("broker_away")) return { word: "Broker away", state: "bad" };
  if (has("behind")) {
    return { word: `Behind ${span(Math.max(...rows.map((row) => row.behind_s ?? 0)))}`, state: "warn" };
  }
  if (!rows.length) return { word: "–", state: null };
  return has("reading") ? { word: "Reading", state: null } : has("caught_up") ? { word: "Caught up", state: null } : { word: "From a file", state: null };
}

function heat(row) {
  if (!row || !row.calls) return null;
  if (row.error_rate === 0) return "0";
  return row.error_rate < 0.02 ? "1" : row.error_rate < 0.1 ? "2" : row.error_rate < 0.25 ? "3" : "4";
}

function drawErrors({ errors }, { address, expanded }) {
  const { rows } = errors;
  if (!rows.length) return empty(`No call finished ${windowText(address)}.`);
  const attempts = [...new Set(rows.map((row) => row.attempts))].sort((a, b) => a - b);
  const steps = new Map();
  const total = new Map();
  for (const row of rows) {
    if (!steps.has(row.step)) steps.set(row.step, new Map());
    steps.get(row.step).set(row.attempts, row);
    const all = total.get(row.attempts) ?? { calls: 0, failed: 0 };
    all.calls += row.calls;
    all.failed += row.failed;
    all.error_rate = all.failed / all.calls;
    total.set(row.attempts, all);
  }
  const failed = (cells) => sum([...cells.values()], "failed");
  const order = [...steps].sort((a, b) => failed(b[1]) - failed(a[1]) || (a[0] < b[0] ? -1 : 1));
  const cell = (row, step, n) => h("td", { class: "heat", "data-heat": heat(row),
    "data-few": row && row.calls < FEW_CALLS ? "" : null },
  row && h(row.failed ? "a" : "span", row.failed
    ? { href: failedCalls(address, { step, attempts: n }),
        "aria-label": `${step ?? "all steps"}, ${attempt(n)}: ${percent(row.error_rate)}, ` +
          `${count(row.failed)} of ${plural(row.calls, "call")} failed` }
    : {}, h("b", {}, percent(row.error_rate)), h("small", {}, `${count(row.failed)} of ${count(row.calls)}`)));
  return [
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Error rate by step and attempt" },
      h("table", { class: "matrix" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Step"),
          attempts.map((n) => h("th", { scope: "col" }, attempt(n))))),
        h("tbody", {},
          h("tr", { class: "total", "data-key": "all" }, h("th", { scope: "row" }, "all steps"),
            attempts.map((n) => cell(total.get(n), address.step, n))),
          some(order, expanded).map(([step, cells]) => h("tr", { "data-key": `step-${step}` },
            h("th", { scope: "row" }, step || "(no step)"),
            attempts.map((n) => cell(cells.get(n), step, n))))))),
    h("div", { class: "under" },
      h("ul", { class: "key", "aria-hidden": "true" },
        [["1", "under 2%"], ["2", "2–10%"], ["3", "10–25%"], ["4", "25% and more"]].map(([level, word]) =>
          h("li", { "data-heat": level }, word)),
        h("li", { "data-heat": "4", "data-few": "" }, `under ${FEW_CALLS} calls`)),
      expandButton("errors", order, expanded, "step")),
  ];
}

function drawFirst({ first }, { address, expanded }) {
  const unsure = (row) => row.calls < FEW_CALLS;
  const rows = [...first.rows].sort((a, b) => unsure(a) - unsure(b) || a.success_rate - b.success_rate || b.calls - a.calls);
  if (!rows.length) return empty(`No first try finished ${windowText(address)}.`);
  return [
    h("ol", { class: "bars" }, some(rows, expanded).map((row) =>
      h("li", { "data-key": `first-${row.step}` },
        h("a", { href: failedCalls(address, { step: row.step, attempts: 0 }) },
          h("span", { class: "what" }, row.step || "(no step)"),
          h("span", { class: "bar", "aria-hidden": "true", vars: { "--share": row.success_rate } }),
          h("b", {}, percent(row.success_rate)),
          h("small", {}, `${count(row.succeeded)} of ${count(row.calls)}`))))),
    h("div", { class: "under" }, expandButton("first", rows, expanded, "step")),
  ];
}

function drawStorms({ storms: now, retries }, { address, expanded }) {
  const rows = [...now.rows].sort((a, b) => b.storm - a.storm || b.retries_now - a.retries_now);
  if (!rows.length && !retries.rows.length) return empty("Nothing was retried in the last two hours.");
  const drawn = stacked(retries, "step", "retries", "bar");
  const total = sum(retries.rows, "retries");
  return {
    nodes: [
      ...figures("storms", `retries a minute, ${count(total)} in the last two hours`, drawn.entries, [
        { name: "Minute", cell: (row) => clock(row.at) },
        { name: "Step", cell: (row) => row.step || "(no step)" },
        { name: "Retries", number: true, cell: (row) => count(row.retries) },
      ], retries.rows.slice(0, 120)),
      rows.length ? table("Retries by step, now and before", [
        { name: "Step", cell: (row) => [row.step || "(no step)",
          row.storm ? h("span", { class: "flag", "data-state": "bad" }, "storm") : null] },
        { name: "Retries, last 5 min", number: true, cell: (row) => count(row.retries_now) },
        { name: "Per first attempt", number: true, cell: (row) => percent(row.ratio_now) },
        { name: "Baseline (hour before)", number: true, cell: (row) => row.ratio_baseline === null ? "no baseline" : percent(row.ratio_baseline) },
      ], some(rows, expanded, 5), (row) => `storm-${row.step}`) : null,
      h("div", { class: "under" }, expandButton("storms", rows, expanded, "step", 5)),
    ],
    charts: { storms: { ...drawn.spec, unit: "", height: 9 } },
  };
}

/** Rows of (at, name, value) as stacked series: the greatest few, and the others as one. */
function stacked(answer, name, value, as, { full = false } = {}) {
  const step = STEP_MS[answer.every];
  const now = new Date(answer.read_at).getTime();
  const x = bins(answer, 30).filter((at) => !full || at + step <= now);
  const totals = new Map();
  for (const row of answer.rows) totals.set(row[name], (totals.get(row[name]) ?? 0) + Number(row[value]));
  const order = [...totals].sort((a, b) => b[1] - a[1]).map(([one]) => one);
  const own = order.slice(0, order.length > SERIES.length ? SERIES.length - 1 : SERIES.length);
  const position = new Map(own.map((one, n) => [one, n]));
  const index = new Map(x.map((at, n) => [at, n]));
  const names = order.length > own.length ? [...own, "all others"] : own;
  const y = names.map(() => x.map(() => 0));
  for (const row of answer.rows) {
    const n = index.get(new Date(row.at).getTime());
    if (n !== undefined) y[position.get(row[name]) ?? own.length][n] += Number(row[value]);
  }
  const offset = as === "bar" ? step / 2 : 0;
  const middle = x.map((at) => local(at + offset));
  const word = (one) => one || "(none)";
  return {
    entries: names.map((one, n) => [word(one), SERIES[n]]),
    spec: {
      hover: "%H:%M",
      range: x.length ? [local(x[0]), local(x.at(-1) + (as === "bar" ? step : 0))] : undefined,
      traces: names.map((one, n) => ({ name: word(one), colour: SERIES[n], as, x: middle, y: y[n] })),
    },
  };
}

const strays = (ages) => sum(ages.rows.filter((row) => !row.begun), "executions");
const stuckInAll = (ages) => sum(ages.rows.filter((row) => row.begun), "executions");

function drawStuck({ stuck, ages }, { address, expanded }) {
  const { rows } = stuck;
  const apart = strays(ages);
  const straysNote = apart ? h("p", {}, `${plural(apart, "execution")} not counted here: no start event was read.`) : null;
  if (!rows.length) return [...empty("No execution is stuck."), straysNote];
  return [
    h("p", {}, `${plural(stuckInAll(ages), "execution")}, silent for `, ages.rows.filter((row) => row.begun)
      .map((row) => `${row.silent_for}: ${count(row.executions)}`).join(", ")),
    table("Stuck executions, latest silent first", [
      { name: "Execution", cell: (row) => execution(address, row.execution_id) },
      { name: "Silent", number: true, cell: (row) => span(row.silent_s) },
      { name: "Last event", cell: (row) => [row.last_event_type, h("small", {}, ` ${row.last_step ?? ""}`)] },
      { name: "Playbook", cell: (row) => h("span", { class: "cut", title: row.playbook }, row.playbook || "(unknown)") },
      { name: "Age", number: true, cell: (row) => span(row.age_s) },
    ], some(rows, expanded), (row) => `stuck-${row.execution_id}`),
    h("div", { class: "under" }, expandButton("stuck", rows, expanded, "execution"),
      stuck.next ? h("span", {}, `showing ${rows.length} of ${count(stuckInAll(ages))}`) : null),
    straysNote,
  ];
}

/** The way to an execution; `command` says which of its calls was looked at. */
export const execution = (address, id, command = null) =>
  h("a", { class: "id", href: link(address, { show: "execution", execution: id, command, failed: null }) }, id);

const TICKS = [[0.001, "1 ms"], [0.01, "10 ms"], [0.1, "100 ms"], [1, "1 s"], [10, "10 s"], [60, "1 min"],
  [600, "10 min"], [3600, "1 h"], [36000, "10 h"], [86400, "1 d"]];

/** Where well-known durations lie on the axis; every second one where there are many. */
function ticks(low, high, position) {
  const inside = TICKS.filter(([s]) => Math.log10(s) >= low && Math.log10(s) <= high);
  const few = inside.length > 4 ? inside.filter((_, n) => n % 2 === 0) : inside;
  return h("span", { class: "ticks" }, few.map(([s, word]) => h("i", { vars: { "--at": position(s) } }, word)));
}

function drawDurations({ durations }, { address, expanded }) {
  const rows = [...durations.rows].filter((row) => row.p50_s !== null)
    .sort((a, b) => (a.step < b.step ? -1 : a.step > b.step ? 1 : a.attempts - b.attempts));
  if (!rows.length) return empty(`No call with a duration ended ${windowText(address)}.`);
  const log = (s) => Math.log10(Math.max(s, 1e-4));
  const low = Math.floor(Math.min(...rows.map((row) => log(row.p50_s))));
  const high = Math.max(low + 1, Math.ceil(Math.max(...rows.map((row) => log(row.p99_s)))));
  const position = (s) => (log(s) - low) / (high - low);
  return [
    table("Duration of calls by step and attempt", [
      { name: "Step", cell: (row) => h("a", { href: link(address, { show: "calls", failed: null,
        step: row.step, attempts: row.attempts }) }, row.step || "(no step)") },
      { name: "Attempt", cell: (row) => attempt(row.attempts) },
      { name: ticks(low, high, position), wide: true, cell: (row) =>
        h("span", { class: "range", "aria-hidden": "true", vars: { "--from": position(row.p50_s),
          "--mid": position(row.p95_s), "--to": position(row.p99_s) } },
        h("i", {}), h("i", {}), h("i", {})) },
      { name: "p50", number: true, cell: (row) => span(row.p50_s) },
      { name: "p95", number: true, cell: (row) => span(row.p95_s) },
      { name: "p99", number: true, cell: (row) => span(row.p99_s) },
      { name: "Calls", number: true, cell: (row) => count(row.calls) },
    ], some(rows, expanded), (row) => `duration-${row.step}-${row.attempts}`),
    h("div", { class: "under" }, expandButton("durations", rows, expanded, "row")),
  ];
}

function drawRates({ rates }) {
  const minute = Math.floor(new Date(rates.read_at) / 60000) * 60000;
  const rows = rates.rows.filter((row) => new Date(row.at).getTime() < minute);
  if (!rows.length) {
    return empty(rates.rows.length ? "The first minute is not full yet." : "No event in the last two hours.");
  }
  const drawn = stacked({ ...rates, rows }, "event_type", "events_per_s", "area", { full: true });
  const last = rows.filter((row) => row.at === rows[0].at);
  return {
    nodes: figures("rates",
      `events a second, ${rate(sum(last, "events_per_s"))} in the minute of ${clock(rows[0].at)}`, drawn.entries, [
        { name: "Minute", cell: (row) => clock(row.at) },
        { name: "Type", cell: (row) => row.event_type },
        { name: "Events", number: true, cell: (row) => count(row.events) },
        { name: "Per second", number: true, cell: (row) => rate(row.events_per_s) },
      ], rows.slice(0, 120)),
    charts: { rates: { ...drawn.spec, unit: "/s", height: 14 } },
  };
}

/** What there is most of, with its share of the greatest as a bar. */
function tally(entries, expanded) {
  const most = Math.max(...entries.map((one) => one.n));
  return h("ol", { class: "bars plain" }, some(entries, expanded).map((one) =>
    h("li", { "data-key": one.key },
      h("div", {}, h("span", { class: "what" }, one.what), h("b", {}, count(one.n)),
        h("span", { class: "bar", "aria-hidden": "true", vars: { "--share": one.n / most } }),
        h("small", {}, one.detail)))));
}

function drawWhy({ why }, { address, expanded }) {
  const entries = why.rows.map((row) => ({ key: `why-${row.error_class}`, what: row.error_class || "(no text)",
    n: row.calls, detail: "" }));
  if (!entries.length) return empty(`No call failed ${windowText(address)}.`);
  return [tally(entries, expanded), h("div", { class: "under" },
    h("a", { href: failedCalls(address, {}) }, "The failed calls"), expandButton("why", entries, expanded, "kind"))];
}

function grouped(rows, name, detail, value) {
  const groups = new Map();
  for (const row of rows) {
    const group = groups.get(row[name]) ?? { key: `${name}-${row[name]}`, what: row[name], n: 0, parts: [] };
    group.n += row[value];
    group.parts.push({ n: row[value], word: row[detail] || "shape unknown" });
    groups.set(row[name], group);
  }
  return [...groups.values()].sort((a, b) => b.n - a.n)
    .map((group) => {
      const parts = group.parts.sort((a, b) => b.n - a.n);
      const said = parts.slice(0, 3).map((part) => `${part.word} ${count(part.n)}`);
      return { ...group, detail: said.join(" · ") + (parts.length > 3 ? ` · and ${parts.length - 3} more` : "") };
    });
}

function drawQuarantine({ refused }, { address, expanded }) {
  const entries = grouped(refused.rows, "reason", "shape", "refused");
  if (!entries.length) return empty(`No record was refused ${windowText(address)}.`);
  return [tally(entries, expanded), h("div", { class: "under" },
    h("span", {}, h("code", {}, "normalizer quarantine list"), " shows each"),
    expandButton("quarantine", entries, expanded, "reason"))];
}

function drawCoercions({ coercions }, { address, expanded }) {
  const entries = grouped(coercions.rows, "rule", "shape", "coercions");
  if (!entries.length) return empty(`No value was changed or guessed ${windowText(address)}.`);
  return [tally(entries, expanded), h("div", { class: "under" }, expandButton("coercions", entries, expanded, "rule"))];
}

function drawJobs({ jobs }, { expanded }) {
  return [
    table("Jobs, newest first", [
      { name: "Job", cell: (row) => [row.job_id, h("small", {}, ` run ${row.run}`)] },
      { name: "Kind", cell: (row) => row.kind },
      { name: "State", cell: (row) => [row.state === "interrupted" || row.state === "failed"
        ? h("span", { class: "flag first", "data-state": "bad" }, row.state) : row.state, row.reason ? h("small", {}, ` ${row.reason}`) : null] },
      { name: "Done", wide: true, cell: (row) => row.progress_ratio === null ? "–" :
        [h("span", { class: "bar", "aria-hidden": "true", vars: { "--share": row.progress_ratio } }), percent(row.progress_ratio)] },
      { name: "Records", number: true, cell: (row) => count(row.records) },
      { name: "Per second", number: true, cell: (row) => rate(row.records_per_s) },
      { name: "Left", number: true, cell: (row) => span(row.remaining_s) },
      { name: "Begun", number: true, cell: (row) => clock(row.started_at) },
    ], some(jobs.rows, expanded), (row) => `job-${row.job_id}-${row.run}`),
    h("div", { class: "under" }, expandButton("jobs", jobs.rows, expanded, "job")),
  ];
}

/** The line over the panels: what an operator reads from across the room. */
export function headline(answers, address, live) {
  const { outcomes, first, storms: now, refused } = answers;
  const ages = answers.stuck && answers.ages;
  const ended = outcomes && sum(outcomes.rows, "completed") + sum(outcomes.rows, "failed") +
    sum(outcomes.rows, "cancelled");
  const failed = outcomes && sum(outcomes.rows, "failed");
  const calls = first && sum(first.rows, "calls");
  const succeeded = first && sum(first.rows, "succeeded");
  const inStorm = now && now.rows.filter((row) => row.storm);
  const log = logState(answers.freshness?.rows ?? []);
  const state = (bad, warn) => (bad ? "bad" : warn ? "warn" : null);
  return [
    { to: "freshness", name: "The log", value: log.word,
      detail: live.age === null ? "no record was read yet" : log.state ? `figures are of ${span(live.age)} ago`
        : live.perSecond === null ? "all of it is in every figure" : `${rate(live.perSecond)} records a second`,
      state: log.state },
    { to: "outcomes", name: "Executions completed",
      value: outcomes ? percent(ended ? sum(outcomes.rows, "completed") / ended : null) : "…",
      detail: outcomes ? `${count(failed)} failed of ${count(ended)} ended` : "", state: null },
    { to: "first", name: "First-attempt success",
      value: first ? percent(calls ? succeeded / calls : null) : "…",
      detail: first ? `${count(calls - succeeded)} of ${count(calls)} needed a retry or failed` : "", state: null },
    { to: "storms", name: "Retries/min, last 5 min", value: now ? rate(sum(now.rows, "per_minute_now")) : "…",
      detail: !now ? "" : inStorm.length ? `${plural(inStorm.length, "step")} in a storm` :
        `${rate(sum(now.rows, "per_minute_baseline"))} in the hour before`, state: state(inStorm?.length, false) },
    { to: "stuck", name: "Stuck executions, now", value: ages ? count(stuckInAll(ages)) : "…",
      detail: ages && stuckInAll(ages)
        ? `latest silent ${span(Math.min(...ages.rows.filter((row) => row.begun).map((row) => row.shortest_s)))}`
        : "silent for 5 minutes or more",
      state: state(false, ages && stuckInAll(ages)) },
    { to: "quarantine", name: "Records refused", value: refused ? count(sum(refused.rows, "refused")) : "…",
      detail: windowText(address), state: state(false, refused && sum(refused.rows, "refused")) },
  ];
}

export async function drawCharts(charts) {
  for (const [id, spec] of Object.entries(charts ?? {})) {
    const element = document.getElementById(`chart-${id}`);
    if (element) await chart(element, spec);
  }
}

export { home, status };
