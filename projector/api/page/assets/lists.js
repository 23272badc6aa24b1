// The lists of calls and of executions behind a figure.

import { link, parameters } from "./router.js";
import { execution } from "./panel_parts.js";
import { h, status, table } from "./dom.js";
import { attempt, clock, count, span, windowText } from "./format.js";

export function calls(address) {
  const failed = address.failed === "true";
  return {
    title: [failed ? "Failed calls" : "Calls",
      address.step && `of ${address.step}`,
      address.attempts !== undefined && (Number(address.attempts) === 0 ? "on the first attempt" : `on ${attempt(address.attempts)}`)].filter(Boolean).join(" "),
    panels: [{
      id: "calls", title: "Newest first", width: "full",
      filters: ["playbook", "step", "attempts", "status", "worker"],
      subtitle: `by the end of the call, ${windowText(address)}`,
      queries: () => ({ calls: ["calls", parameters(address,
        ["playbook", "step", "attempts", "status", "worker", "failed", "cursor"], { limit: 50 })] }),
      render: ({ calls: { rows, next } }) => rows.length ? [
        h("ol", { class: "calls" }, rows.map((row) =>
          h("li", { "data-key": `${row.execution_id}-${row.command_id ?? row.step}-${row.iteration}-${row.attempts}-${row.begun_at}` },
            status(row.status),
            h("span", { class: "where" }, h("b", {}, row.step || "(no step)"), ` ${attempt(row.attempts)}`,
              row.iteration !== null ? h("small", {}, ` iteration ${row.iteration}`) : null,
              row.exhausted ? h("span", { class: "flag", "data-state": "bad" }, "last attempt") : null),
            h("span", { class: "when" }, clock(row.finished_at ?? row.begun_at)),
            h("span", { class: "took" }, span(row.duration_s)),
            h("span", { class: "by" }, row.worker_id ?? "unknown worker"),
            h("span", { class: "of" }, h("small", {}, `${row.playbook || "unknown playbook"} `), execution(address, row.execution_id, row.command_id)),
            row.status === "COMPLETED" ? null :
              h("p", { class: row.error ? "error" : "error none" }, row.error ?? "No error text was sent.")))),
        turn(address, next),
      ] : [h("p", { class: "empty" }, `No ${failed ? "call failed" : "call"} ${windowText(address)} with these filters.`)],
    }],
  };
}

export function executions(address) {
  return {
    title: "Executions",
    panels: [{
      id: "executions", title: "Newest first", width: "full", filters: ["playbook", "status"],
      subtitle: `by their first event, ${windowText(address)}`,
      queries: () => ({ executions: ["executions", parameters(address, ["playbook", "status", "cursor"], { limit: 50 })] }),
      render: ({ executions: { rows, next } }) => rows.length ? [
        table("Executions", [
          { name: "Execution", cell: (row) => execution(address, row.execution_id) },
          { name: "Status", cell: (row) => [status(row.status),
            row.contradicting ? h("span", { class: "flag", "data-state": "bad" }, "contradicted") : null,
            row.active_after_end ? h("span", { class: "flag", "data-state": "warn" }, "active after end") : null] },
          { name: "Playbook", cell: (row) => row.playbook || "(unknown)" },
          { name: "Begun", number: true, cell: (row) => clock(row.first_at) },
          { name: "Took", number: true, cell: (row) => span(row.duration_s) },
          { name: "Events", number: true, cell: (row) => count(row.events) },
          { name: "Most attempts", number: true, cell: (row) => row.highest_attempts === null ? "–" : count(row.highest_attempts + 1) },
          { name: "Failed calls", number: true, cell: (row) => count(row.failed_calls) },
        ], rows, (row) => `execution-${row.execution_id}`),
        turn(address, next),
      ] : [h("p", { class: "empty" }, `No execution began ${windowText(address)} with these filters.`)],
    }],
  };
}

function turn(address, next) {
  if (!next && !address.cursor) return null;
  return h("nav", { class: "turn", "aria-label": "Pages" },
    address.cursor ? h("a", { href: link(address, { cursor: null }) }, "Newest") : null,
    next ? h("a", { href: link(address, { cursor: next }) }, "Older") : null);
}
