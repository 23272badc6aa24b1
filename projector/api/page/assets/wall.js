// The wall: six figures and six small charts on one screen, to be read from afar.

import { failedCalls, fullMinute, hasUnfinished, isHidden, knownUntil, STEP_MS, bins, trendTimes, unreadIf } from "./panel_parts.js";
import { FILTERS, link, only, parameters } from "./router.js";
import { h } from "./dom.js";
import { attempt, between, clock, count, per, percent, windowText } from "./format.js";
import { LABELS } from "./header.js";
import { change, rejectedIn, retriesNow, stuckNow, theLog, tileOf } from "./headline.js";
import { liveFigures } from "./state.js";
import { grain, pace } from "./windows.js";

const STATES = { warn: "warn", critical: "bad" };
const TWO_HOURS = { last: "2h", every: "minute", by: "at", limit: 1000 };

export function wall(address) {
  const tiles = () => ["tiles", parameters(address, ["playbook", "step"]), pace(address)];
  const cell = (id, title, filters, to, queries, render) => ({ id, title, width: "cell", filters, queries,
    render: (answers) => figure(id, to, render(answers)) });
  return {
    title: [`Wall: ${windowText(address).replace("in the last", "last")}`, ...FILTERS.filter((name) => address[name] !== undefined)
      .map((name) => `· ${name === "attempts" ? attempt(address[name]) : `${LABELS[name].toLowerCase()} ${address[name] || "(none)"}`}`)],
    layout: "wall", timeless: true,
    panels: [
      cell("log", "The log", null, link(address, { show: null }), () => ({
        freshness: ["freshness", new URLSearchParams()],
        agreement: ["agreement", new URLSearchParams(), { every: 15000 }],
        tiles: tiles(),
        rates: ["events-per-second", only({}, [], TWO_HOURS), { every: 15000 }],
      }), (answers) => ({ ...theLog(answers, liveFigures()), chart: minutes(answers.rates, "events", "events", "s1", "area") })),
      cell("completed", "Executions completed", ["playbook"], link(address, { show: "executions", time: "ended_at", status: "FAILED" }), () => ({
        tiles: tiles(),
        outcomes: ["execution-outcomes", parameters(address, ["playbook"], { every: grain(address) }), pace(address)],
      }), ({ tiles: answer, outcomes }) => ({ ...ratio(answer, "executions_completed", (tile) => `${count(tile.numerator)} of ${count(tile.denominator)} ended`),
        chart: ends(outcomes) })),
      cell("first-attempt", "First-attempt success", ["playbook", "step"], failedCalls(address, { attempts: 0 }), () => ({ tiles: tiles() }),
        ({ tiles: answer }) => ({ ...ratio(answer, "first_attempt_success", (tile) => `${count(tile.denominator - tile.numerator)} needed a retry or failed`),
          chart: trend(answer, "first_attempt_success", "success", "completed") })),
      cell("storm", "Retries/min, last 5 min", ["step"], failedCalls(address), () => ({
        storms: ["retry-storms", only(address, ["step"])],
        retries: ["retries-by-minute", only(address, ["step"], TWO_HOURS)],
      }), ({ storms, retries }) => ({ ...retriesNow(storms), chart: minutes(retries, "retries", "retries", "s2", "bar") })),
      cell("silent", "Stuck executions, now", ["playbook"], link(address, { show: null }), () => ({
        stuck: ["stuck-executions", only(address, ["playbook"], { limit: 100, begun: "true" })],
        ages: ["stuck-by-age", only(address, ["playbook"])],
        tiles: tiles(),
      }), (answers) => ({ ...stuckNow(answers, answers.tiles), chart: trend(answers.tiles, "stuck", "fell silent", "s1", "bar") })),
      cell("rejected", "Records rejected", [], link(address, { show: "quarantine" }), () => ({ tiles: tiles() }),
        ({ tiles: answer }) => {
          const { versus, ...figure } = rejectedIn(answer, address);
          return { ...figure, detail: [figure.detail, versus].filter(Boolean).join(", "), chart: trend(answer, "rejected", "rejected", "error", "bar") };
        }),
    ],
  };
}

function ratio(answer, name, detail) {
  const tile = tileOf(answer, name);
  const moved = change(tile, answer, { ratio: true });
  return { value: percent(tile?.value ?? null), state: STATES[tile?.level] ?? null,
    detail: tile ? `${unreadIf(!tile.denominator, answer) ?? detail(tile)}${moved ? `, ${moved}` : ""}` : "" };
}

/** The height that is left for a chart, in rem: two rows of cells on one screen. */
function height() {
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const banner = document.getElementById("banner").offsetHeight;
  return Math.max(6, Math.floor(((innerHeight - banner) / rem - 5) / 2 - 12.6));
}

function figure(id, href, { value, detail, state, chart, title }) {
  const chartId = `wall-${id}`;
  return {
    nodes: [
      h("a", { class: "big", href, title, "data-state": state }, h("b", {}, value), h("small", {}, detail)),
      chart ? h("ul", { class: "legend", "data-key": "legend" }, chart.traces.map((one) => h("li", { "data-colour": one.colour }, one.name)),
        h("li", { class: "unit", "data-key": "unit" }, [per(chart.step), chart.span, hasUnfinished(chart) ? "pale: so far" : null].filter(Boolean).join(", "))) : null,
      chart ? h("div", { class: "chart", id: `chart-${chartId}`, "data-key": `chart-${chartId}`, "data-own": "", role: "img", "aria-label": `${id}: ${value}, ${detail}` }) : null,
    ],
    charts: chart ? { [chartId]: { ...chart, height: height(), traces: chart.traces.filter((one) => !isHidden(chartId, one.name)) } } : {},
  };
}

function minutes(answer, name, word, colour, as) {
  const at = new Map(answer.rows.map((row) => [new Date(row.at).getTime(), Number(row[name])]));
  const until = fullMinute(new Date(answer.read_at));
  const x = Array.from({ length: 120 }, (_, n) => until - (120 - n) * 60000);
  return { x, step: 60000, span: "last 2 h", now: fullMinute(knownUntil(answer)), traces: [{ name: word, colour, as, y: x.map((one) => at.get(one) ?? 0) }] };
}

function ends(outcomes) {
  if (!outcomes.rows.length) return null;
  const x = bins(outcomes);
  const step = STEP_MS[outcomes.every];
  const at = new Map(outcomes.rows.map((row) => [new Date(row.at).getTime(), row]));
  return { x, step, now: knownUntil(outcomes), hover: (one) => between(one, one + step),
    traces: ["failed", "cancelled", "completed"].map((name) => ({ name, colour: name, as: "bar", y: x.map((one) => at.get(one)?.[name] ?? 0) })) };
}

function trend(answer, name, word, colour, as = "line") {
  const tile = tileOf(answer, name);
  if (!tile?.trend?.length) return null;
  const { x, step, now } = trendTimes(answer);
  const factor = as === "line" ? 100 : 1;
  return { x, step, now, unit: as === "line" ? "%" : "", hover: (one) => (step < 86400000 ? between(one, one + step) : clock(one)),
    traces: [{ name: word, colour, as, y: tile.trend.map((one) => (one === null ? null : one * factor)) }] };
}
