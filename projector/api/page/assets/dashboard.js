// An address in, the panels of the dashboard out: which questions each asks, and how it shows them.

import { home, link, parameters } from "./address.js";
import { chart } from "./charts.js";
import { h, status, table } from "./draw.js";
import { attempt, clock, count, day, local, percent, plural, rate, span, windowWords } from "./words.js";

const SHOWN = 10;
const FEW_CALLS = 5;
const SERIES = ["s1", "s2", "s3", "s4", "s5", "s6"];
const sum = (rows, name) => rows.reduce((total, row) => total + Number(row[name] ?? 0), 0);

/** A panel: id, title, says (what it tells), asks(address) -> [path, query, how often] each, draws. */
export const PANELS = [
  {
    id: "outcomes", title: "Outcome over time", width: "wide", knows: ["playbook"],
    says: "How executions ended, by when; a bar opens them",
    asks: (address) => ({
      outcomes: ["execution-outcomes", parameters(address, ["playbook"], { every: grain(address) }), pace(address)],
    }),
    draws: drawOutcomes,
  },
  {
    id: "freshness", title: "Freshness", width: "narrow", knows: null,
    says: "How far each partition of the log is read",
    asks: () => ({
      freshness: ["freshness", new URLSearchParams()],
      agreement: ["agreement", new URLSearchParams()],
    }),
    draws: drawFreshness,
  },
  {
    id: "errors", title: "Error rate by attempt", width: "wide",
    knows: ["playbook", "step", "attempts"],
    says: "Share of calls that failed at each try; a cell opens them",
    asks: (address) => ({
      errors: ["error-rate-by-attempt", parameters(address, ["playbook", "step", "attempts"], { limit: 5000 }), pace(address)],
    }),
    draws: drawErrors,
  },
  {
    id: "first", title: "First-attempt success", width: "narrow", knows: ["playbook", "step"],
    says: "Calls that needed no retry; worst step first, few calls last",
    asks: (address) => ({
      first: ["first-attempt-success", parameters(address, ["playbook", "step"]), pace(address)],
    }),
    draws: drawFirst,
  },
  {
    id: "storms", title: "Retry storms", width: "half", knows: ["step"],
    says: "Retries for each first try that ended: the last 5 minutes against the hour before",
    asks: (address) => ({
      storms: ["retry-storms", only(address, ["step"])],
      retries: ["retries-by-minute", only(address, ["step"],
        { last: "2h", every: "minute", by: ["at", "step"], limit: 5000 })],
    }),
    draws: drawStorms,
  },
  {
    id: "stuck", title: "Stuck executions", width: "half", knows: ["playbook"],
    says: "Not ended, and silent for at least 5 minutes; the latest first",
    asks: (address) => ({
      stuck: ["stuck-executions", only(address, ["playbook"], { limit: 100, begun: "true" })],
      ages: ["stuck-by-age", only(address, ["playbook"])],
    }),
    draws: drawStuck,
  },
  {
    id: "durations", title: "Duration by attempt", width: "half",
    knows: ["playbook", "step", "attempts", "status"],
    says: "Median, 95th and 99th percentile, on a scale of powers of ten",
    asks: (address) => ({
      durations: ["call-durations-by-attempt",
        parameters(address, ["playbook", "step", "attempts", "status"]), pace(address)],
    }),
    draws: drawDurations,
  },
  {
    id: "rates", title: "Events a second", width: "half", knows: ["event_type"],
    says: "By type, each full minute of the last two hours",
    asks: (address) => ({
      // Many rows, and only full minutes are shown: asked less often.
      rates: ["events-per-second", only(address, ["event_type"], { last: "2h", every: "minute", limit: 5000 }),
        { every: 15000 }],
    }),
    draws: drawRates,
  },
  {
    id: "why", title: "Why calls fail", width: "third", knows: ["step", "attempts", "status"],
    says: "Failures by the class of their error text",
    asks: (address) => ({
      why: ["failures-by-error", parameters(address, ["step", "attempts", "status"], { by: "error_class" })],
    }),
    draws: drawWhy,
  },
  {
    id: "quarantine", title: "Quarantine by reason", width: "third", knows: [],
    says: "Records that were refused, and kept",
    asks: (address) => ({ refused: ["quarantine-by-reason", parameters(address, [])] }),
    draws: drawQuarantine,
  },
  {
    id: "coercions", title: "Coercions", width: "third", knows: [],
    says: "Values whose meaning was changed or guessed, by rule and shape",
    asks: (address) => ({ coercions: ["coercions-by-rule", parameters(address, [])] }),
    draws: drawCoercions,
  },
  {
    id: "jobs", title: "Backfill and other jobs", width: "full", knows: null, onlyIfAny: "jobs",
    says: "What replays or renormalises",
    asks: () => ({ jobs: ["jobs", new URLSearchParams()] }),
    draws: drawJobs,
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
export function passedOver(panel, address) {
  if (panel.knows === null) return [];
  const set = ["playbook", "step", "attempts", "status", "worker", "event_type"];
  return set.filter((name) => address[name] && !panel.knows.includes(name));
}

const failedCalls = (address, changes) =>
  link(address, { show: "calls", failed: "true", status: null, ...changes });

const empty = (...words) => [h("p", { class: "empty" }, words)];

/** The first rows, and the rest when asked for. */
function some(rows, unfolded, shown = SHOWN) {
  return unfolded ? rows : rows.slice(0, shown);
}

function unfold(panel, rows, unfolded, name, shown = SHOWN) {
  if (rows.length <= shown) return null;
  return h("button", { class: "more", type: "button", "data-unfold": panel, "aria-expanded": String(unfolded) },
    unfolded ? `First ${shown} only` : `All ${plural(rows.length, name)}`);
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
  if (!rows.length) return empty(`No execution began or ended ${windowWords(address)}.`);
  const at = new Map(rows.map((row) => [new Date(row.at).getTime(), row]));
  const x = bins(outcomes, 12);
  const step = STEP_MS[outcomes.every];
  const half = step / 2;
  const series = (name) => x.map((one) => at.get(one)?.[name] ?? 0);
  const middle = x.map((one) => local(one + half));
  const entries = [["failed", "failed"], ["cancelled", "cancelled"], ["completed", "completed"]];
  const spec = {
    unit: "", height: 14,
    hover: { day: "%d %b", hour: "%d %b %H:00 + 1 h", minute: "%d %b %H:%M" }[outcomes.every],
    range: [local(x[0]), local(x.at(-1) + step)],
    // Failures stand on the ground line: only there can the eye compare them.
    traces: [
      ...entries.map(([name, colour]) => ({ name, colour, as: "bar", x: middle, y: series(name) })),
      { name: "begun", colour: "ink-2", as: "line", x: middle, y: series("begun") },
    ],
    clicked: (n) => go(link(address, { show: "executions", since: new Date(x[n]).toISOString(),
      until: new Date(x[n] + step).toISOString() })),
  };
  const words = `executions ${windowWords(address)}: ${count(sum(rows, "completed"))} completed, ` +
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
function scopesWords(verdicts) {
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
      { name: "Offset", number: true, cell: (row) => row.next_offset === null ? "–" : count(Number(row.next_offset)) },
      { name: "State", cell: (row) => h("span", { class: "flag first", "data-state": logState([row]).state }, logState([row]).word) },
      { name: "Unread", number: true, cell: (row) => row.unread === null ? "–" : count(row.unread) },
      { name: "Log to table", number: true, cell: (row) => span(row.delay_s) },
    ], freshness.rows, (row) => `${row.topic}-${row.partition}`),
    h("p", { class: "verdict", "data-state": apart.length ? "bad" : verdicts.length ? "good" : "none" },
      verdicts.length === 0
        ? ["Not compared with the log yet: ", h("code", {}, "projector verify"), "."]
        : apart.length
          ? `${plural(apart.length, "projection disagrees", "projections disagree")} with the log, ` +
            `the oldest since ${stamp(apart.map((row) => row.divergent_since).sort()[0])}: ` +
            `${apart.map((row) => row.projection).join(", ")}.`
          : `${plural(verdicts.length, "projection agrees", "projections agree")} with the log, ` +
            `${scopesWords(verdicts)}.`),
  ];
}

/** How the log stands, in a word: that of its worst partition. */
export function logState(rows) {
  const has = (...states) => rows.some((row) => states.includes(row.state));
  if (has("dead")) return { word: "Nobody reads", state: "bad" };
  if (has("stopped")) return { word: "Stopped", state: "bad" };
  if (has("unclaimed")) return { word: "Not claimed", state: "bad" };
  if (has("broker_away")) return { word: "Broker away", state: "bad" };
  if (has("behind")) {
    return { word: `Behind ${span(Math.max(...rows.map((row) => row.behind_s ?? 0)))}`, state: "warn" };
  }
  if (!rows.length) return { word: "–", state: null };
  return has("reading") ? { word: "Reading", state: null } : has("quiet") ? { word: "Quiet", state: null } : { word: "From a file", state: null };
}

function heat(row) {
  if (!row || !row.calls) return null;
  if (row.error_rate === 0) return "0";
  return row.error_rate < 0.02 ? "1" : row.error_rate < 0.1 ? "2" : row.error_rate < 0.25 ? "3" : "4";
}

function drawErrors({ errors }, { address, unfolded }) {
  const { rows } = errors;
  if (!rows.length) return empty(`No call finished ${windowWords(address)}.`);
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
          some(order, unfolded).map(([step, cells]) => h("tr", { "data-key": `step-${step}` },
            h("th", { scope: "row" }, step || "(no step)"),
            attempts.map((n) => cell(cells.get(n), step, n))))))),
    h("div", { class: "under" },
      h("ul", { class: "key", "aria-hidden": "true" },
        [["1", "under 2 %"], ["2", "2–10 %"], ["3", "10–25 %"], ["4", "25 % and more"]].map(([level, word]) =>
          h("li", { "data-heat": level }, word)),
        h("li", { "data-heat": "4", "data-few": "" }, `under ${FEW_CALLS} calls`)),
      unfold("errors", order, unfolded, "step")),
  ];
}

function drawFirst({ first }, { address, unfolded }) {
  const unsure = (row) => row.calls < FEW_CALLS;
  const rows = [...first.rows].sort((a, b) => unsure(a) - unsure(b) || a.success_rate - b.success_rate || b.calls - a.calls);
  if (!rows.length) return empty(`No first try finished ${windowWords(address)}.`);
  return [
    h("ol", { class: "bars" }, some(rows, unfolded).map((row) =>
      h("li", { "data-key": `first-${row.step}` },
        h("a", { href: failedCalls(address, { step: row.step, attempts: 0 }) },
          h("span", { class: "what" }, row.step || "(no step)"),
          h("span", { class: "bar", "aria-hidden": "true", vars: { "--share": row.success_rate } }),
          h("b", {}, percent(row.success_rate)),
          h("small", {}, `${count(row.succeeded)} of ${count(row.calls)}`))))),
    h("div", { class: "under" }, unfold("first", rows, unfolded, "step")),
  ];
}

function drawStorms({ storms: now, retries }, { address, unfolded }) {
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
        { name: "Per first try", number: true, cell: (row) => percent(row.ratio_now) },
        { name: "The hour before", number: true, cell: (row) => percent(row.ratio_before) },
      ], some(rows, unfolded, 5), (row) => `storm-${row.step}`) : null,
      h("div", { class: "under" }, unfold("storms", rows, unfolded, "step", 5)),
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
  const place = new Map(own.map((one, n) => [one, n]));
  const index = new Map(x.map((at, n) => [at, n]));
  const names = order.length > own.length ? [...own, "all others"] : own;
  const y = names.map(() => x.map(() => 0));
  for (const row of answer.rows) {
    const n = index.get(new Date(row.at).getTime());
    if (n !== undefined) y[place.get(row[name]) ?? own.length][n] += Number(row[value]);
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

function drawStuck({ stuck, ages }, { address, unfolded }) {
  const { rows } = stuck;
  const apart = strays(ages);
  const besides = apart ? h("p", {}, `${plural(apart, "execution")} of which no event of a begin was read, apart.`) : null;
  if (!rows.length) return [...empty("No execution is stuck."), besides];
  return [
    h("p", {}, `${plural(stuckInAll(ages), "execution")}, silent for `, ages.rows.filter((row) => row.begun)
      .map((row) => `${row.silent_for}: ${count(row.executions)}`).join(", ")),
    table("Stuck executions, latest silent first", [
      { name: "Execution", cell: (row) => execution(address, row.execution_id) },
      { name: "Silent", number: true, cell: (row) => span(row.silent_s) },
      { name: "Last event", cell: (row) => [row.last_event_type, h("small", {}, ` ${row.last_step ?? ""}`)] },
      { name: "Playbook", cell: (row) => h("span", { class: "cut", title: row.playbook }, row.playbook || "(unknown)") },
      { name: "Age", number: true, cell: (row) => span(row.age_s) },
    ], some(rows, unfolded), (row) => `stuck-${row.execution_id}`),
    h("div", { class: "under" }, unfold("stuck", rows, unfolded, "execution"),
      stuck.next ? h("span", {}, `the latest ${rows.length} of ${count(stuckInAll(ages))}`) : null),
    besides,
  ];
}

/** The way to an execution; `command` says which of its calls was looked at. */
export const execution = (address, id, command = null) =>
  h("a", { class: "id", href: link(address, { show: "execution", execution: id, command, failed: null }) }, id);

function drawDurations({ durations }, { address, unfolded }) {
  const rows = [...durations.rows].filter((row) => row.p50_s !== null)
    .sort((a, b) => (a.step < b.step ? -1 : a.step > b.step ? 1 : a.attempts - b.attempts));
  if (!rows.length) return empty(`No call with a duration ended ${windowWords(address)}.`);
  const log = (s) => Math.log10(Math.max(s, 1e-4));
  const low = Math.floor(Math.min(...rows.map((row) => log(row.p50_s))));
  const high = Math.max(low + 1, Math.ceil(Math.max(...rows.map((row) => log(row.p99_s)))));
  const place = (s) => (log(s) - low) / (high - low);
  return [
    table("Duration of calls by step and attempt", [
      { name: "Step", cell: (row) => h("a", { href: link(address, { show: "calls", failed: null,
        step: row.step, attempts: row.attempts }) }, row.step || "(no step)") },
      { name: "Attempt", cell: (row) => attempt(row.attempts) },
      { name: `${span(10 ** low)} to ${span(10 ** high)}`, wide: true, cell: (row) =>
        h("span", { class: "range", "aria-hidden": "true", vars: { "--from": place(row.p50_s),
          "--mid": place(row.p95_s), "--to": place(row.p99_s) } },
        h("i", {}), h("i", {}), h("i", {})) },
      { name: "p50", number: true, cell: (row) => span(row.p50_s) },
      { name: "p95", number: true, cell: (row) => span(row.p95_s) },
      { name: "p99", number: true, cell: (row) => span(row.p99_s) },
      { name: "Calls", number: true, cell: (row) => count(row.calls) },
    ], some(rows, unfolded), (row) => `duration-${row.step}-${row.attempts}`),
    h("div", { class: "under" }, unfold("durations", rows, unfolded, "row")),
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
        { name: "a second", number: true, cell: (row) => rate(row.events_per_s) },
      ], rows.slice(0, 120)),
    charts: { rates: { ...drawn.spec, unit: "/s", height: 14 } },
  };
}

/** What there is most of, with its share of the greatest as a bar. */
function tally(entries, unfolded) {
  const most = Math.max(...entries.map((one) => one.n));
  return h("ol", { class: "bars plain" }, some(entries, unfolded).map((one) =>
    h("li", { "data-key": one.key },
      h("div", {}, h("span", { class: "what" }, one.what), h("b", {}, count(one.n)),
        h("span", { class: "bar", "aria-hidden": "true", vars: { "--share": one.n / most } }),
        h("small", {}, one.beside)))));
}

function drawWhy({ why }, { address, unfolded }) {
  const entries = why.rows.map((row) => ({ key: `why-${row.error_class}`, what: row.error_class || "(no text)",
    n: row.calls, beside: "" }));
  if (!entries.length) return empty(`No call failed ${windowWords(address)}.`);
  return [tally(entries, unfolded), h("div", { class: "under" },
    h("a", { href: failedCalls(address, {}) }, "The failed calls"), unfold("why", entries, unfolded, "kind"))];
}

function grouped(rows, name, beside, value) {
  const groups = new Map();
  for (const row of rows) {
    const group = groups.get(row[name]) ?? { key: `${name}-${row[name]}`, what: row[name], n: 0, parts: [] };
    group.n += row[value];
    group.parts.push({ n: row[value], word: row[beside] || "shape unknown" });
    groups.set(row[name], group);
  }
  return [...groups.values()].sort((a, b) => b.n - a.n)
    .map((group) => {
      const parts = group.parts.sort((a, b) => b.n - a.n);
      const said = parts.slice(0, 3).map((part) => `${part.word} ${count(part.n)}`);
      return { ...group, beside: said.join(" · ") + (parts.length > 3 ? ` · and ${parts.length - 3} more` : "") };
    });
}

function drawQuarantine({ refused }, { address, unfolded }) {
  const entries = grouped(refused.rows, "reason", "shape", "refused");
  if (!entries.length) return empty(`No record was refused ${windowWords(address)}.`);
  return [tally(entries, unfolded), h("div", { class: "under" },
    h("span", {}, h("code", {}, "normalizer quarantine list"), " shows each"),
    unfold("quarantine", entries, unfolded, "reason"))];
}

function drawCoercions({ coercions }, { address, unfolded }) {
  const entries = grouped(coercions.rows, "rule", "shape", "coercions");
  if (!entries.length) return empty(`No value was changed or guessed ${windowWords(address)}.`);
  return [tally(entries, unfolded), h("div", { class: "under" }, unfold("coercions", entries, unfolded, "rule"))];
}

function drawJobs({ jobs }, { unfolded }) {
  return [
    table("Jobs, newest first", [
      { name: "Job", cell: (row) => [row.job_id, h("small", {}, ` run ${row.run}`)] },
      { name: "Kind", cell: (row) => row.kind },
      { name: "State", cell: (row) => [row.state === "interrupted" || row.state === "failed"
        ? h("span", { class: "flag first", "data-state": "bad" }, row.state) : row.state, row.reason ? h("small", {}, ` ${row.reason}`) : null] },
      { name: "Done", wide: true, cell: (row) => row.share === null ? "–" :
        [h("span", { class: "bar", "aria-hidden": "true", vars: { "--share": row.share } }), percent(row.share)] },
      { name: "Records", number: true, cell: (row) => count(row.records) },
      { name: "a second", number: true, cell: (row) => rate(row.records_per_s) },
      { name: "Left", number: true, cell: (row) => span(row.left_s) },
      { name: "Begun", number: true, cell: (row) => clock(row.started_at) },
    ], some(jobs.rows, unfolded), (row) => `job-${row.job_id}-${row.run}`),
    h("div", { class: "under" }, unfold("jobs", jobs.rows, unfolded, "job")),
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
      beside: live.age === null ? "no record was read yet" : log.state ? `figures are of ${span(live.age)} ago`
        : live.perSecond === null ? "all of it is in every figure" : `${rate(live.perSecond)} records a second`,
      state: log.state },
    { to: "outcomes", name: "Executions completed",
      value: outcomes ? percent(ended ? sum(outcomes.rows, "completed") / ended : null) : "…",
      beside: outcomes ? `${count(failed)} failed of ${count(ended)} ended` : "", state: null },
    { to: "first", name: "First try succeeds",
      value: first ? percent(calls ? succeeded / calls : null) : "…",
      beside: first ? `${count(calls - succeeded)} of ${count(calls)} calls did not` : "", state: null },
    { to: "storms", name: "Retries a minute", value: now ? rate(sum(now.rows, "per_minute_now")) : "…",
      beside: !now ? "" : inStorm.length ? `${plural(inStorm.length, "step")} in a storm` :
        `${rate(sum(now.rows, "per_minute_before"))} in the hour before`, state: state(inStorm?.length, false) },
    { to: "stuck", name: "Stuck executions", value: ages ? count(stuckInAll(ages)) : "…",
      beside: ages && stuckInAll(ages)
        ? `latest silent ${span(Math.min(...ages.rows.filter((row) => row.begun).map((row) => row.shortest_s)))}`
        : "silent for 5 minutes or more",
      state: state(false, ages && stuckInAll(ages)) },
    { to: "quarantine", name: "Records refused", value: refused ? count(sum(refused.rows, "refused")) : "…",
      beside: windowWords(address), state: state(false, refused && sum(refused.rows, "refused")) },
  ];
}

export async function drawCharts(charts) {
  for (const [id, spec] of Object.entries(charts ?? {})) {
    const element = document.getElementById(`chart-${id}`);
    if (element) await chart(element, spec);
  }
}

export { home, status };
