// Retries by minute, and steps that retry more than in the hour before.

import { flag, h } from "./dom.js";
import { clock, count, percent, rate } from "./format.js";
import { guide } from "./guides.js";
import { expandButton, figures, limit, nothing, stacked, sum } from "./panel_parts.js";
import { stormsUnread } from "./headline.js";
import { table, tools } from "./tables.js";

export function drawStorms({ storms: now, retries }, { address, expanded }) {
  const rows = [...now.rows].sort((a, b) => b.storm - a.storm || b.retries_now - a.retries_now);
  if (!rows.length && !retries.rows.length) return nothing(retries, "No call was retried in the last two hours.");
  const drawn = stacked(retries, "step", "retries", "bar");
  const known = !stormsUnread(now);
  const total = sum(retries.rows, "retries");
  return {
    nodes: [
      ...figures("storms", drawn.spec, "Retries per minute", `retries per minute, ${count(total)} in the last two hours`, drawn.entries, [
        { name: "Minute", cell: (row) => clock(row.at), value: (row) => row.at },
        { name: "Step", free: true, cell: (row) => row.step || "(no step)", value: (row) => row.step },
        { name: "Retries", number: true, cell: (row) => count(row.retries), value: (row) => row.retries },
      ], retries.rows),
      rows.length ? table("Retries by step, now and before", [
        { name: "Step", value: (row) => row.step, cell: (row) => [row.step || "(no step)", row.storm ? [" ", flag("bad", "storm")] : null] },
        { name: "Retries/min", number: true, value: (row) => known ? row.per_minute_now : null, cell: (row) => rate(known ? row.per_minute_now : null) },
        { name: "Per first attempt", number: true, value: (row) => known ? row.ratio_now : null, cell: (row) => percent(known ? row.ratio_now : null) },
        { name: "Baseline", number: true, value: (row) => row.ratio_baseline,
          cell: (row) => row.ratio_baseline === null ? "none" : percent(row.ratio_baseline) },
      ], rows, (row) => `storm-${row.step}`, { id: "storms", ...limit(rows, expanded, 5) }) : null,
      h("div", { class: "under" }, rows.length ? tools("storms") : null, expandButton("storms", rows, expanded, "step", 5),
        rows.some((row) => row.storm) ? guide("storm") : null),
    ],
    charts: { storms: { ...drawn.spec, height: 9 } },
  };
}
