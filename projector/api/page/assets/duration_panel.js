// Percentiles of call durations on a logarithmic scale.

import { link } from "./router.js";
import { h } from "./dom.js";
import { attempt, count, span, windowText } from "./format.js";
import { nothing, expandButton, limit } from "./panel_parts.js";
import { table, tools } from "./tables.js";

const TICKS = [[0.001, "1 ms"], [0.01, "10 ms"], [0.1, "100 ms"], [1, "1 s"], [10, "10 s"], [60, "1 min"],
  [600, "10 min"], [3600, "1 h"], [36000, "10 h"], [86400, "1 d"]];

/** Where the word of a tick stands: over its place, but within both ends. */
export const at = (share) => ({ "--at": share, "--own": share < 0.15 ? 0 : share > 0.85 ? 1 : 0.5 });

/** Ticks at round durations, as many as have room for their words. */
function ticks(low, high, position) {
  const few = [];
  // The longest first: most calls are nearer to it than to the shortest.
  for (const one of TICKS.filter(([s]) => Math.log10(s) >= low && Math.log10(s) <= high).reverse()) {
    if (!few.length || position(few.at(-1)[0]) - position(one[0]) > 0.45) few.push(one);
  }
  return h("span", { class: "ticks" }, few.reverse().map(([s, word]) => h("i", { vars: at(position(s)) }, word)));
}

export function drawDurations({ durations }, { address, expanded }) {
  const rows = [...durations.rows].filter((row) => row.p50_s !== null)
    .sort((a, b) => b.p95_s - a.p95_s || b.p50_s - a.p50_s || (a.step < b.step ? -1 : a.step > b.step ? 1 : a.attempts - b.attempts));
  if (!rows.length) return nothing(durations, `No call with a duration ended ${windowText(address)}.`);
  return [
    table("Duration of calls by step and attempt", [
      { name: "Step", value: (row) => row.step, cell: (row) => h("a", { href: link(address, { show: "calls",
        step: row.step, attempts: row.attempts }) }, row.step || "(no step)") },
      { name: "Attempt", value: (row) => row.attempts, cell: (row) => attempt(row.attempts) },
      percentiles(rows),
      ...["p50", "p95", "p99"].map((name) =>
        ({ name, number: true, value: (row) => row[`${name}_s`], cell: (row) => span(row[`${name}_s`]) })),
      { name: "Calls", number: true, value: (row) => row.calls, cell: (row) => count(row.calls) },
    ], rows, (row) => `duration-${row.step}-${row.attempts}`, { id: "durations", ...limit(rows, expanded) }),
    h("div", { class: "under" }, tools("durations"), expandButton("durations", rows, expanded, "row")),
  ];
}

/** The scale of percentiles: 10 ms to 1,000 s, and longer only for what is beyond, so that its ticks stay where they are when figures change. */
const [LEAST, MOST] = [-2, 3];

/** A column that draws p50, p95 and p99 of each row on one logarithmic scale, with its ticks as its head. */
export function percentiles(rows) {
  const log = (s) => Math.log10(Math.max(s, 1e-4));
  const low = Math.floor(Math.min(LEAST, ...rows.map((row) => log(row.p50_s))));
  const high = Math.ceil(Math.max(MOST, ...rows.map((row) => log(row.p99_s))));
  const position = (s) => (log(s) - low) / (high - low);
  return { name: ticks(low, high, position), wide: true, cell: (row) =>
    h("span", { class: "range", "aria-hidden": "true", vars: { "--from": position(row.p50_s),
      "--mid": position(row.p95_s), "--to": position(row.p99_s) } },
    h("i", {}), h("i", {}), h("i", {})) };
}
