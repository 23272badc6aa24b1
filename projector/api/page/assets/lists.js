// The lists of calls and of executions.

import { EXECUTION_STATUSES, link, only, parameters } from "./router.js";
import { breaking, flag, h, status } from "./dom.js";
import { attempt, clock, count, percent, plural, span, windowText } from "./format.js";
import { guide } from "./guides.js";
import { execution, nothing, showing, sum, turn } from "./panel_parts.js";
import { table, tools } from "./tables.js";

const FILTERS = ["playbook", "version", "step", "attempts", "status", "worker"];

/** The calls of the window and filters, newest first. */
export function callList(address, more = {}) {
  const failed = address.failed === "true";
  return {
    id: "calls", title: "Newest first", width: "full", filters: FILTERS,
    subtitle: `by their end, ${failed ? "" : "open ones by their begin, "}${windowText(address)}`,
    queries: () => ({ calls: ["calls", parameters({ ...address, ...more }, [...FILTERS, "failed", "error_class", "cursor"], { limit: 50 })] }),
    render: ({ calls: answer }) => answer.rows.length ? [
      h("div", { class: "calls-head", "aria-hidden": "true" },
        ["Status", "Step and attempt", "Ended", "Took", "Worker", "Playbook and execution"].map((name) => h("span", {}, name))),
      h("ol", { class: "calls" }, answer.rows.map((row) => call(row, address))),
      h("div", { class: "under" }, showing(answer)),
      turn(address, answer.next),
    ] : nothing(answer, `No ${failed ? "call failed" : "call"} ${windowText(address)}${withFilters(address, [...FILTERS, "error_class"])}.`),
  };
}

/** Named only if a filter is set. */
const withFilters = (address, names) => names.some((name) => address[name] !== undefined) ? " with these filters" : "";

/** Said where no head of a column says it. */
const word = (text) => h("span", { class: "word" }, text);

const callAddress = (row, address) =>
  link(address, { show: "execution", execution: row.execution_id, command: row.command_id, try: row.command_id && row.attempts });

function call(row, address) {
  return h("li", { "data-key": `${row.execution_id}-${row.command_id ?? row.step}-${row.iteration}-${row.attempts}-${row.begun_at}` },
    status(row.status),
    h("span", { class: "where" }, h("a", { href: callAddress(row, address) }, h("b", {}, row.step || "(no step)")), ` ${attempt(row.attempts)}`,
      row.iteration !== null ? h("small", {}, `, iteration ${row.iteration}`) : null,
      row.attribution === "inferred" ? [" ", flag("warn", "inferred")] : null,
      row.exhausted ? [" ", flag("bad", "no attempts left", true)] : null),
    h("span", { class: "times" },
      h("span", { class: "when" }, row.finished_at ? [word("ended "), clock(row.finished_at)] : `begun ${clock(row.begun_at)}`),
      h("span", { class: "took" }, row.duration_s === null ? null : [word("took "), span(row.duration_s)])),
    h("span", { class: "by" }, row.worker_id ?? (row.status === "PENDING" ? "not claimed yet" : "unknown worker")),
    h("span", { class: "of" }, h("small", {}, `${row.playbook || "unknown playbook"} `), execution(address, row.execution_id, row.command_id, row.attempts)),
    row.status === "COMPLETED" || !row.finished_at ? null :
      h("p", { class: row.error ? "error" : "error none" },
        row.error ? h("a", { href: callAddress(row, address) }, row.error) : "No error text was sent."));
}

/** The executions of a playbook, or its versions if these are listed already. */
const ofPlaybook = (row, address) =>
  link(address, address.playbook && address.playbook === row.playbook ? { show: "playbooks", playbook: row.playbook } : { playbook: row.playbook });

export function executions(address) {
  if (address.status === "STUCK") return stuckExecutions(address);
  const byEnd = address.time === "ended_at";
  // A call has more statuses than an execution, so one filter doesn't fit both.
  const filters = EXECUTION_STATUSES.includes(address.status ?? "RUNNING") ? ["playbook", "version", "status"] : ["playbook", "version"];
  return {
    title: "Executions",
    panels: [{
      id: "executions", title: "Newest first", width: "full", filters,
      subtitle: `by their ${byEnd ? "end" : "first event"}, ${windowText(address)}`,
      queries: () => ({ executions: ["executions", parameters(address, [...filters, "time", "cursor"], { limit: 50 })] }),
      render: ({ executions: answer }) => answer.rows.length ? [
        table("Executions", [
          { name: "Execution", value: (row) => row.execution_id, cell: (row) => execution(address, row.execution_id) },
          { name: "Status", value: (row) => row.status, cell: (row) => [ended(row), row.waits_for ? h("small", { class: "why" }, stuckReason(row, address)) : null] },
          { name: "Playbook", value: (row) => row.playbook, cell: (row) => h("a", { class: "text-cell", href: ofPlaybook(row, address) }, breaking(row.playbook || "(unknown)", "/")) },
          { name: "Version", value: (row) => row.version, cell: (row) => row.version ?? "–" },
          byEnd ? { name: "Ended", number: true, time: true, value: (row) => row.ended_at, cell: (row) => clock(row.ended_at) }
            : { name: "Begun", number: true, time: true, value: (row) => row.first_at, cell: (row) => clock(row.first_at) },
          { name: "Took", number: true, value: (row) => row.duration_s, cell: (row) => took(row, answer) },
          { name: "Events", number: true, value: (row) => row.events, cell: (row) => count(row.events) },
          { name: "Most retries", number: true, value: (row) => row.highest_attempts, cell: (row) => count(row.highest_attempts) },
          { name: "Failed calls", number: true, value: (row) => row.failed_calls, cell: (row) => count(row.failed_calls) },
        ], answer.rows, (row) => `execution-${row.execution_id}`, { id: "executions" }),
        h("div", { class: "under" }, showing(answer), tools("executions")),
        turn(address, answer.next),
      ] : nothing(answer, `No execution ${byEnd ? "ended" : "began"} ${windowText(address)}${withFilters(address, filters)}.`),
    }],
  };
}

export const stuckList = (address, begun = null, waits_for = null) => link(address, { show: "executions", status: "STUCK", begun, waits_for });

/** How many executions are stuck, of those with or without a start event. */
export const stuckOf = (ages, begun) => sum(ages.rows.filter((row) => row.begun === begun), "executions");

/** What the list has, and what the dashboard counts of it: executions with a start event. */
function stuckCounts(ages, address) {
  const [begun, strays] = [true, false].map((one) => stuckOf(ages, one));
  const without = (words) => h("a", { href: stuckList(address, "false") }, words);
  if (address.begun === "true") {
    return [`${plural(begun, "execution")} with a start event, as on the dashboard`, strays ? [". ", without(`${count(strays)} without one`), strays > 1 ? " aren't listed" : " isn't listed"] : null];
  }
  if (address.begun === "false") return [`${plural(strays, "execution")} without a start event. The dashboard counts those with one: `, h("a", { href: stuckList(address, "true") }, count(begun))];
  if (!strays) return `${plural(begun, "execution")}, as on the dashboard`;
  return [`${plural(begun + strays, "execution")}: `, h("a", { href: stuckList(address, "true") }, `${count(begun)} with a start event`), ", as on the dashboard, and ",
    without(`${count(strays)} without one`), `, which the dashboard doesn't count`];
}

const REASONS = { claim: "whose call was issued and never claimed", start: "whose call was claimed and never started",
  finish: "whose call was started and never finished", next: "without an open call and without an end event" };

/** How many of the list wait for what, the most first; each leads to those. */
function stuckReasons({ rows }, address) {
  const { begun, waits_for: chosen } = address;
  const own = rows.filter((row) => begun === undefined || String(row.begun) === begun);
  const all = Object.keys(REASONS).map((name) => ({ name, n: sum(own.filter((row) => row.waits_for === name), "executions") }))
    .filter(({ n, name }) => n || name === chosen).sort((a, b) => b.n - a.n);
  return h("p", { class: "counted", "data-key": "reasons" }, all.map(({ name, n }, place) => [place ? ", " : "",
    h("a", { href: stuckList(address, begun ?? null, name), "aria-current": name === chosen ? "true" : null }, `${count(n)} ${REASONS[name]}`)]),
  chosen ? [". ", h("a", { href: stuckList(address, begun ?? null) }, "All reasons")] : null);
}

/** All stuck executions, or only those with or without a start event. */
const stuckExecutions = (address) => ({
  title: "Stuck executions",
  panels: [{
    id: "executions", title: "Longest silent first", width: "full", filters: ["playbook", "status"],
    subtitle: "Not ended, without an event for at least 5 minutes, and without a running child, whenever they began",
    queries: () => ({
      stuck: ["stuck-executions", only(address, ["playbook", "begun", "waits_for", "cursor"], { limit: 50 })],
      ages: ["stuck-by-age", only(address, ["playbook"])],
      reasons: ["stuck-by-reason", only(address, ["playbook"])],
    }),
    render: ({ stuck: answer, ages, reasons }) => answer.rows.length || address.waits_for ? [
      h("p", { class: "counted" }, stuckCounts(ages, address)),
      stuckReasons(reasons, address),
      table("Stuck executions", [...stuckColumns(address),
        { name: "Begun", number: true, time: true, value: (row) => row.first_at, cell: (row) => clock(row.first_at) }], answer.rows,
      (row) => `execution-${row.execution_id}`, { id: "executions" }),
      h("div", { class: "under" }, address.begun ? h("a", { href: stuckList(address) }, "All stuck executions") : null, tools("executions"), guide("stuck")),
      turn(address, answer.next),
    ] : nothing(answer, `No execution is stuck${withFilters(address, ["playbook"])}.`),
  }],
});

/** Which execution is stuck, for how long, and why. */
export const stuckColumns = (address) => [
  { name: "Execution", value: (row) => row.execution_id, cell: (row) => execution(address, row.execution_id) },
  { name: "Silent", number: true, value: (row) => row.silent_s, cell: (row) => span(row.silent_s) },
  { name: "Why", free: true, value: (row) => `${row.waits_step} ${row.waits_for}`,
    cell: (row) => [h("span", { class: "why" }, stuckReason(row, address)), row.begun ? null : [" ", flag("warn", "no start event")]] },
  { name: "Playbook", value: (row) => row.playbook, cell: (row) => h("span", { class: "cut", title: row.playbook }, row.playbook || "(unknown)") },
  { name: "Age", number: true, value: (row) => row.age_s, cell: (row) => span(row.age_s) },
];

const DONE = { claim: "issued", start: "claimed", finish: "started" };
const NEVER = { claim: "claimed", start: "started", finish: "finished" };

/** What a stuck execution waits for, with a link to that call: "start was claimed by worker-4 and never started". Null if it isn't stuck. */
export function stuckReason(row, address) {
  if (!row.waits_for) return null;
  if (row.waits_child) return ["No call is open, and its child ", execution(address, row.waits_child), " is stuck too"];
  if (row.waits_for === "next") {
    // An execution's tree doesn't say which event was its last.
    return ["No call is open, and no end event came",
      row.last_event_type && [". Its last event is ", h("b", {}, row.last_event_type), row.waits_step ? [" of ", h("b", {}, row.waits_step)] : null]];
  }
  return [
    h("a", { href: link(address, { show: "execution", execution: row.execution_id, command: row.waits_command, try: row.waits_attempts }) }, row.waits_step || "(no step)"),
    row.waits_attempts ? ` (${attempt(row.waits_attempts)})` : null,
    ` was ${DONE[row.waits_for]}`, row.waits_worker ? ` by ${row.waits_worker}` : null, ` and never ${NEVER[row.waits_for]}`,
    row.open_calls > 1 ? `. ${plural(row.open_calls - 1, "more call")} of it ${row.open_calls > 2 ? "are" : "is"} open` : null,
  ];
}

/** How long an execution took; of one that runs, its age when the answer was read. */
export const took = (row, answer) => row.ended_at ? span(row.duration_s)
  : `${span(Math.max(0, (new Date(answer.read_at) - new Date(row.first_at)) / 1000))} so far`;

/** The status of an execution, and what contradicts it. */
export function ended(row) {
  return [status(row.status), row.waits_for ? [" ", flag("warn", `silent for ${span(row.silent_s)}`)] : null, row.contradicting ? [" ", flag("bad", "contradicted")] : null,
    row.active_after_end ? [" ", flag("warn", "active after end")] : null];
}

const iterationsThat = (name, field) => ({ name, number: true, value: (row) => row[field], cell: (row) => count(row[field]) });

/** Columns of a loop: its iterations. */
export const iterations = [
  { name: "Progress", wide: true, value: (row) => row.done / row.issued, cell: (row) =>
    [h("span", { class: "bar", "aria-hidden": "true", vars: { "--share": row.done / row.issued } }), percent(row.done / row.issued)] },
  iterationsThat("Done", "done"), iterationsThat("Issued", "issued"), iterationsThat("Failed", "failed"),
];
