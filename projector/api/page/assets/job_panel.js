// Backfills and other jobs.

import { h, table } from "./dom.js";
import { clock, count, percent, rate, span } from "./format.js";
import { expandButton, some } from "./panel_parts.js";

export function drawJobs({ jobs }, { expanded }) {
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
