// Retries by minute, and steps that retry more than in the hour before.

import { h, table } from "./dom.js";
import { clock, count, percent } from "./format.js";
import { empty, expandButton, figures, some, stacked, sum } from "./panel_parts.js";

export function drawStorms({ storms: now, retries }, { address, expanded }) {
  const rows = [...now.rows].sort((a, b) => b.storm - a.storm || b.retries_now - a.retries_now);
  if (!rows.length && !retries.rows.length) return empty("No call was retried in the last two hours.");
  const drawn = stacked(retries, "step", "retries", "bar");
  const total = sum(retries.rows, "retries");
  return {
    nodes: [
      ...figures("storms", `retries per minute, ${count(total)} in the last two hours`, drawn.entries, [
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
    charts: { storms: { ...drawn.spec, height: 9 } },
  };
}
