// Backfills and other jobs.

import { flag, h } from "./dom.js";
import { clock, count, percent, rate, span } from "./format.js";
import { expandButton, limit } from "./panel_parts.js";
import { table } from "./tables.js";

export function drawJobs({ jobs }, { expanded }) {
  return [
    table("Jobs, newest first", [
      { name: "Job", cell: (row) => [row.job_id, h("small", {}, ` run ${row.run}`)] },
      { name: "Kind", cell: (row) => row.kind },
      { name: "State", cell: (row) => [row.state === "interrupted" || row.state === "failed"
        ? flag("bad", row.state, true) : row.state, row.reason ? h("small", {}, ` ${row.reason}`) : null] },
      { name: "Done", wide: true, cell: (row) => row.progress_ratio === null ? "–" :
        [h("span", { class: "bar", "aria-hidden": "true", vars: { "--share": row.progress_ratio } }), percent(row.progress_ratio)] },
      { name: "Records", number: true, cell: (row) => count(row.records) },
      { name: "Per second", number: true, cell: (row) => rate(row.records_per_s) },
      { name: "Left", number: true, cell: (row) => span(row.remaining_s) },
      { name: "Begun", number: true, cell: (row) => clock(row.started_at) },
    ], jobs.rows, (row) => `job-${row.job_id}-${row.run}`, { id: "jobs", ...limit(jobs.rows, expanded) }),
    h("div", { class: "under" }, expandButton("jobs", jobs.rows, expanded, "job")),
  ];
}
