// Backfills and other jobs.

import { flag, h } from "./dom.js";
import { guide } from "./guides.js";
import { clock, count, percent, rate, span } from "./format.js";
import { expandButton, limit } from "./panel_parts.js";
import { table, tools } from "./tables.js";

export function drawJobs({ jobs }, { expanded }) {
  return [
    table("Jobs, newest first", [
      { name: "Job", value: (row) => `${row.job_id} run ${row.run}`, cell: (row) => [row.job_id, h("small", {}, ` run ${row.run}`)] },
      { name: "Kind", value: (row) => row.kind, cell: (row) => row.kind },
      { name: "State", value: (row) => row.state, cell: (row) => [row.state === "interrupted" || row.state === "failed"
        ? flag("bad", row.state, true) : row.state, row.reason ? h("small", {}, ` ${row.reason}`) : null] },
      { name: "Done", wide: true, value: (row) => row.progress_ratio, cell: (row) => row.progress_ratio === null ? "–" :
        [h("span", { class: "bar", "aria-hidden": "true", vars: { "--share": row.progress_ratio } }), percent(row.progress_ratio)] },
      { name: "Records", number: true, value: (row) => row.records, cell: (row) => count(row.records) },
      { name: "Per second", number: true, value: (row) => row.records_per_s, cell: (row) => rate(row.records_per_s) },
      { name: "Left", number: true, value: (row) => row.remaining_s, cell: (row) => span(row.remaining_s) },
      { name: "Begun", number: true, time: true, value: (row) => row.started_at, cell: (row) => clock(row.started_at) },
    ], jobs.rows, (row) => `job-${row.job_id}-${row.run}`, { id: "jobs", ...limit(jobs.rows, expanded) }),
    h("div", { class: "under" }, tools("jobs"), jobs.rows.some((row) => row.state === "interrupted") ? guide("interrupted") : null,
      expandButton("jobs", jobs.rows, expanded, "job")),
  ];
}
