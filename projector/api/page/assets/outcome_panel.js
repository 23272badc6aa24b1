// How executions ended over time: a stacked bar chart.

import { link } from "./router.js";
import { h } from "./dom.js";
import { between, count, per, windowText } from "./format.js";
import { STEP_MS, bins, nothing, figures, knownUntil, stamp, sum } from "./panel_parts.js";

export function drawOutcomes({ outcomes }, { address, go }) {
  const { rows } = outcomes;
  if (!rows.length) return nothing(outcomes, `No execution began or ended ${windowText(address)}.`);
  const at = new Map(rows.map((row) => [new Date(row.at).getTime(), row]));
  const x = bins(outcomes);
  const step = STEP_MS[outcomes.every];
  const series = (name) => x.map((one) => at.get(one)?.[name] ?? 0);
  const those = (at) => link(address, { show: "executions", time: "ended_at", since: new Date(at).toISOString(), until: new Date(at + step).toISOString() });
  const entries = [["failed", "failed"], ["cancelled", "cancelled"], ["completed", "completed"]];
  const spec = {
    x, step, height: 20, now: knownUntil(outcomes),
    hover: (one) => (outcomes.every === "minute" ? stamp(one, "minute") : between(one, one + step)),
    // Failures are at the bottom, because only bars with a common base can be compared.
    // Those that began are in the figures: a burst of them would make the bars too small to see.
    traces: entries.map(([name, colour]) => ({ name, colour, as: "bar", y: series(name) })),
    clicked: (n) => go(those(x[n])),
  };
  const words = `executions ${windowText(address)}: ${count(sum(rows, "completed"))} completed, ` +
    `${count(sum(rows, "failed"))} failed, ${count(sum(rows, "cancelled"))} cancelled, ` +
    `${count(sum(rows, "begun"))} begun`;
  return {
    nodes: figures("outcomes", spec, `Executions ${per(step)}`, words, entries, [
      { name: { day: "Day from", hour: "Hour from", minute: "Minute" }[outcomes.every], value: (row) => row.at, cell: (row) =>
        h("a", { href: those(new Date(row.at).getTime()) }, stamp(row.at, outcomes.every)) },
      ...["completed", "failed", "cancelled", "begun"].map((name) =>
        ({ name, number: true, value: (row) => row[name], cell: (row) => count(row[name]) })),
    ], rows),
    charts: { outcomes: spec },
  };
}
