// Executions that are not ended and silent.

import { h, table } from "./dom.js";
import { count, plural, span } from "./format.js";
import { empty, execution, expandButton, some, sum } from "./panel_parts.js";

const strays = (ages) => sum(ages.rows.filter((row) => !row.begun), "executions");
export const stuckInAll = (ages) => sum(ages.rows.filter((row) => row.begun), "executions");

export function drawStuck({ stuck, ages }, { address, expanded }) {
  const { rows } = stuck;
  const apart = strays(ages);
  const straysNote = apart ? h("p", {}, `${plural(apart, "execution")} not counted here: no start event was read.`) : null;
  if (!rows.length) return [...empty("No execution is stuck."), straysNote];
  return [
    h("p", {}, `${plural(stuckInAll(ages), "execution")}: `, ages.rows.filter((row) => row.begun)
      .map((row) => `${count(row.executions)} silent for ${row.silent_for}`).join(", ")),
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
