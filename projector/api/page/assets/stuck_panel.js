// Executions that are not ended and silent.

import { h } from "./dom.js";
import { count, plural, span } from "./format.js";
import { guide } from "./guides.js";
import { stuckColumns, stuckList, stuckOf } from "./lists.js";
import { empty, expandButton, limit, reserved, steady } from "./panel_parts.js";
import { table, tools } from "./tables.js";

export const stuckInAll = (ages) => stuckOf(ages, true);

/** 58 min, or 6 min to 58 min: how long the executions of these groups have been silent. */
export const silence = (groups) => [...new Set([Math.min(...groups.map((row) => row.shortest_s)), Math.max(...groups.map((row) => row.longest_s))]
  .map((s) => span(s).replace(/(?<=min) .* s$/, "").replaceAll(" ", "\u00a0")))].join(" to ");

export function drawStuck({ stuck, ages }, { address, expanded }) {
  const key = (row) => `stuck-${row.execution_id}`;
  const rows = steady("stuck", [...stuck.rows].sort((a, b) => b.silent_s - a.silent_s), key);
  const drawn = limit(rows, expanded);
  const begun = ages.rows.filter((row) => row.begun);
  const apart = stuckOf(ages, false);
  const straysNote = h("p", { class: "strays", ...reserved(apart) }, h("a", { href: stuckList(address, "false") }, plural(apart, "execution")), " not counted here, because no start event was read");
  if (!rows.length) return [...empty("No execution is stuck."), straysNote];
  return [
    h("p", {}, `${plural(stuckInAll(ages), "execution")}${begun.length > 1 ? ":" : ","} ${begun.map((row, n) => `${begun.length > 1 ? `${count(row.executions)} ` : ""}${n ? "" : "silent "}for ${silence([row])}`).join(", ")}`, stuck.rows.length > 1 ? ". The longest silent is first" : null),
    table("Stuck executions, the longest silent first", stuckColumns(address), rows, key, { id: "stuck", ...drawn }),
    h("div", { class: "under" }, tools("stuck"), expandButton("stuck", rows, expanded, "execution", undefined, Boolean(stuck.next)),
      stuck.next ? h("a", { href: stuckList(address, "true") }, `All ${count(stuckInAll(ages))}`) : null, guide("stuck")),
    straysNote,
  ];
}
