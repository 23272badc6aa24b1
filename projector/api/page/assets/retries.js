// Three screens of tables: retries, workers and queues, producers.

import { link, only, parameters } from "./router.js";
import { h } from "./dom.js";
import { attempt, clock, count, percent, plural, span, windowText } from "./format.js";
import { drawCoercions } from "./event_panels.js";
import { percentiles } from "./duration_panel.js";
import { guide } from "./guides.js";
import { ended, iterations } from "./lists.js";
import { execution, expandButton, limit, nothing, showing, sum, worstFirst } from "./panel_parts.js";
import { table, tools } from "./tables.js";
import { pace } from "./windows.js";

// ---- Columns that several tables have ---------------------------------------------------------

/** Chooses the step for the whole screen of retries. Leads to its calls if it's chosen already, and from other screens. */
const ofStep = (row) => page().show === "retries" && page().step === undefined ? link(page(), { step: row.step })
  : link(page(), { show: "calls", step: row.step, attempts: row.attempts ?? null });
const step = { name: "Step", free: true, value: (row) => row.step, cell: (row) => h("a", { href: ofStep(row) }, row.step || "(no step)") };
const tries = { name: "Attempt", value: (row) => row.attempts, cell: (row) => attempt(row.attempts) };
const id = { name: "Execution", value: (row) => row.execution_id, cell: (row) => execution(page(), row.execution_id) };
const playbook = { name: "Playbook", value: (row) => row.playbook,
  cell: (row) => h("span", { class: "cut", title: row.playbook }, row.playbook || "(unknown)") };
export const number = (name, field, words = count) =>
  ({ name, number: true, value: (row) => row[field], cell: (row) => words(row[field]) });
export const time = (name, field) => ({ ...number(name, field, clock), time: true });
export const text = (name, field, missing = "–") => ({ name, free: true, value: (row) => row[field], cell: (row) => row[field] ?? missing });

let address_ = {};
const page = () => address_;

/** columns may be a function of the rows, note(rows) gives what stands below them, and order(rows) gives what compares two; timeless: the query has no window; when: words for its time; state: what the documentation has a page about. */
export function panel({ id: name, title, subtitle, path, filters = [], query = {}, columns, none, width = "half", order, timeless = false, when = windowText, key, note, state = null, truncated }) {
  return {
    id: name, title, subtitle, width, filters, truncated,
    queries: (address) => ({ [name]: [path, (timeless ? only : parameters)(address, filters, query), timeless ? {} : pace(address)] }),
    render: (answers, { address, expanded }) => {
      const answer = answers[name];
      const rows = order ? [...answer.rows].sort(order(answer.rows)) : answer.rows;
      const drawn = limit(rows, expanded);
      if (!rows.length) return nothing(answer, timeless ? `${none}.` : `${none} ${when(address)}.`);
      return [
        table(`${title} as a table`, typeof columns === "function" ? columns(rows) : columns, rows, (row) => `${name}-${key(row)}`, { id: name, ...drawn }),
        note?.(rows) ?? null,
        h("div", { class: "under" }, showing(answer, drawn.limit), tools(name), state ? guide(state) : null, expandButton(name, rows, expanded, "row", undefined, answer.total > rows.length)),
      ];
    },
  };
}

const byStepAndTry = (row) => `${row.step}-${row.attempts}`;
const OF_CALLS = ["playbook", "step", "attempts", "status"];
const waits = (rows) => [step, tries, percentiles(rows), number("p50", "p50_s", span), number("p95", "p95_s", span),
  number("p99", "p99_s", span), number("Calls", "calls")];

const COERCIONS = {
  id: "coercions", title: "Coercions", width: "narrow", filters: [],
  subtitle: "Values that a rule changed or guessed, by rule and the shape that its producer sends",
  queries: (address) => ({ coercions: ["coercions-by-rule", parameters(address, [])] }),
  render: drawCoercions,
};

/** One sentence: whether retrying is worth it. */
const WORTH = {
  id: "worth", title: "Is retrying worth it?", width: "full", filters: ["playbook", "step"],
  subtitle: "Calls whose first attempt failed, retries that completed, and the median wait before these",
  queries: (address) => ({
    tries: ["error-rate-by-attempt", parameters(address, ["playbook", "step"], { by: ["attempts"] }), pace(address)],
    waits: ["retry-backoffs", parameters(address, ["playbook", "step"], { by: ["status"], status: "COMPLETED" }), pace(address)],
  }),
  render: ({ tries, waits }, { address }) => {
    const failed = sum(tries.rows.filter((row) => row.attempts === 0), "failed");
    const saved = tries.rows.filter((row) => row.attempts > 0).reduce((all, row) => all + row.calls - row.failed, 0);
    if (!failed && !saved) return nothing(tries, `No call failed ${windowText(address)}.`);
    const wait = waits.rows[0]?.p50_s;
    // Some retries complete in this window whose first attempts failed before it.
    const earlier = saved > failed;
    return [h("p", { class: "sentence" }, earlier ? `Retries saved ${plural(saved, "failed call")}` : `Retries saved ${count(saved)} of ${plural(failed, "failed call")}`,
      saved && wait !== undefined ? ` after a median wait of ${span(wait)}.` : ".",
      earlier ? ` In this window, ${failed ? `only ${count(failed)}` : "none"} failed at the first attempt.` : null)];
  },
};

export function retries(address) {
  address_ = address;
  return { title: address.step === undefined ? "Retries" : `Retries of ${address.step || "(no step)"}`, layout: "grid packed", panels: [
    WORTH,
    panel({ id: "recovery", title: "Recovery", subtitle: "How likely a retry succeeds",
      path: "retry-recovery", filters: ["playbook", "step", "attempts"], none: "No call was retried", key: byStepAndTry,
      order: () => (a, b) => b.retries - a.retries,
      columns: [step, tries, number("Retries", "retries"), number("Recovered", "recovered"), number("Rate", "recovery_rate", percent)] }),
    panel({ id: "exhaustion", title: "Exhaustion", subtitle: "Failed calls that were the last attempt allowed, where their events say how many are (max_attempts)",
      path: "retry-exhaustion", filters: ["playbook", "step"], none: "No call failed", key: (row) => row.step,
      order: () => (a, b) => b.exhausted - a.exhausted,
      columns: [step, number("Failed", "failed"), number("Last attempt", "exhausted", (n) => (n ? count(n) : "none known")), number("Share", "exhausted_rate", (share) => (share ? percent(share) : "–"))] }),
    panel({ id: "per-success", title: "Attempts per success", subtitle: "All attempts for each call that succeeded",
      path: "attempts-per-success", filters: ["playbook", "step"], none: "No call succeeded", key: (row) => row.step,
      // Without any success it is null, which is the worst.
      order: () => (a, b) => (b.attempts_per_success ?? Infinity) - (a.attempts_per_success ?? Infinity),
      columns: [step, number("Attempts", "tries"), number("Successes", "succeeded"),
        number("Per success", "attempts_per_success", (value) => (value === null ? "–" : value.toFixed(2)))] }),
    panel({ id: "backoffs", title: "Backoff", subtitle: "Between a failure and its retry: median, 95th and 99th percentile",
      path: "retry-backoffs", filters: OF_CALLS, query: { by: ["step", "attempts"] }, none: "No call was retried", key: byStepAndTry,
      columns: waits }),
    panel({ id: "with-failures", title: "Completed with failures", subtitle: "Executions that completed although a call failed",
      path: "completed-with-failures", filters: ["playbook"], query: { limit: 100 }, none: "No execution completed with a failed call",
      key: (row) => row.execution_id,
      columns: [id, playbook, number("Failed calls", "failed_calls"), time("Last failure", "last_failed_at"), time("Ended", "ended_at")] }),
  ] };
}

/** The error rate of all other workers. */
function ofOthers(rows) {
  const [calls, failed] = [sum(rows, "calls"), sum(rows, "failed")];
  const rate = (row) => (calls > row.calls ? (failed - row.failed) / (calls - row.calls) : null);
  return { name: "All others", number: true, value: rate, cell: (row) => percent(rate(row)) };
}

export function workers(address) {
  address_ = address;
  return { title: "Workers and queues", layout: "grid packed", panels: [
    panel({ id: "workers", title: "Worker failures", width: "narrow", subtitle: "Share of each worker's calls that failed. The worst is first, and few calls say less than many. Click one for its calls",
      path: "worker-failures", filters: ["playbook", "step", "worker"], none: "No call finished", key: (row) => row.worker_id,
      order: worstFirst,
      columns: (rows) => [{ name: "Worker", value: (row) => row.worker_id, cell: (row) =>
        h("a", { href: link(page(), { show: "calls", worker: row.worker_id, failed: "true" }) }, row.worker_id || "(unknown)") },
      number("Calls", "calls"), number("Failed", "failed"), number("Error rate", "error_rate", percent), ofOthers(rows)] }),
    panel({ id: "queue", title: "Queue waits", width: "wide", subtitle: "From issued to claimed: median, 95th and 99th percentile",
      path: "call-queue-waits", filters: OF_CALLS, query: { by: ["step", "attempts"] }, none: "No command was claimed", key: byStepAndTry,
      columns: waits }),
    panel({ id: "open-by-step", title: "Open calls by step", width: "narrow", subtitle: `What calls wait for that began ${windowText(address)}, and the longest wait`,
      path: "open-calls-by-step", filters: ["playbook", "step"], none: "No call that is still open began", key: (row) => `${row.waits_for}-${row.step}`,
      columns: [{ ...text("Step", "step"), cell: (row) => row.step || "(no step)" }, text("Waits for", "waits_for"), number("Calls", "calls"),
        number("Retries", "retries"), number("Longest", "longest_s", span)] }),
    panel({ id: "open", title: "Open calls", width: "wide", subtitle: `Waiting to be claimed, to start, or to finish, of those that began ${windowText(address)}`,
      path: "open-calls", filters: ["playbook", "step", "attempts", "worker"], query: { limit: 100 }, none: "No call that is still open began",
      key: (row) => `${row.execution_id}-${row.command_id}-${row.step}-${row.iteration}-${row.attempts}`,
      columns: [{ ...id, cell: (row) => execution(page(), row.execution_id, row.command_id, row.attempts) }, text("Step", "step"), tries,
        text("Waits for", "waits_for"), number("Waiting", "waiting_s", span), text("Worker", "worker_id")] }),
    panel({ id: "open-loops", title: "Open loops", width: "wide", subtitle: "Running executions whose loops have iterations left. The oldest is first",
      path: "open-loops", filters: ["playbook", "step"], query: { limit: 100 }, none: "No execution with an open loop began",
      key: (row) => `${row.execution_id}-${row.step}`,
      columns: [id, step, ...iterations, time("Begun", "first_at"), time("Last event", "last_at")] }),
    panel({ id: "without-end", title: "Executions without an end", width: "narrow", subtitle: "All calls finished, but no end event came. The longest silent is first",
      path: "executions-without-end", filters: ["playbook"], query: { limit: 100 }, timeless: true, none: "No execution lacks its end",
      order: () => (a, b) => b.silent_s - a.silent_s,
      key: (row) => row.execution_id,
      columns: [{ ...id, cell: (row) => [execution(page(), row.execution_id), row.waits_child ? h("small", { class: "why" }, "waits for ", execution(page(), row.waits_child)) : null] },
        playbook, number("Calls", "calls"), time("Last call", "last_finished_at"), number("Silent", "silent_s", span)] }),
  ] };
}

export function producers(address) {
  address_ = address;
  return { title: "Producers", layout: "grid packed", panels: [
    panel({ id: "drift", title: "Drift", width: "wide", subtitle: "Fields that aren't documented, or whose type isn't the documented one",
      path: "drift", none: "No producer sent anything undocumented", state: "drift", key: (row) => `${row.shape}-${row.field}-${row.type}`,
      columns: [text("Field", "field"), text("Shape", "shape"), text("Type", "type"), text("Kind", "kind"), text("First record", "coordinates"),
        time("Found", "found_at")] }),
    panel({ id: "without-command", title: "Calls without a command", width: "narrow", subtitle: "Events that name no command, so they belong to no call",
      path: "calls-without-command", filters: ["step", "event_type"], none: "Every event names its command", key: (row) => `${row.step}-${row.event_type}`,
      order: () => (a, b) => b.events - a.events,
      columns: [{ ...text("Step", "step"), cell: (row) => row.step || "(no step)" }, text("Event type", "event_type"), number("Events", "events")] }),
    COERCIONS,
    panel({ id: "defaults", title: "Defaults", width: "narrow", subtitle: "Events whose producer sent no attempt, status, or time",
      path: "defaults-by-shape", none: "No event was stored", key: (row) => row.shape,
      columns: [text("Shape", "shape"), number("Events", "events"), number("No attempt", "attempts_defaulted"),
        number("No status", "status_from_name"), number("No time", "time_from_log")] }),
    panel({ id: "clocks", title: "Clocks of workers", width: "wide", subtitle: "Mean time from an event to its arrival. Below 0, the worker's clock is ahead",
      path: "late-arrivals", filters: ["worker"], query: { by: ["worker"] }, none: "No event arrived", key: (row) => row.worker_id,
      order: () => (a, b) => Math.abs(b.mean_skew_s) - Math.abs(a.mean_skew_s),
      columns: [{ ...text("Worker", "worker_id"), cell: (row) => row.worker_id || "(no worker)" },
        number("Mean", "mean_skew_s", span), number("Ahead", "ahead"), number("Events", "events")] }),
    panel({ id: "late", title: "Late arrivals", width: "wide", subtitle: "Time between an event and its arrival in the log",
      path: "late-arrivals", none: "No event arrived", key: (row) => `${row.shape}-${row.lateness}`,
      columns: [text("Shape", "shape"), text("Lateness", "lateness"), number("Events", "events")] }),
    panel({ id: "events", title: "Events by attempt and status", width: "wide", subtitle: "Events of every type, not only calls",
      path: "attempts-by-status", filters: ["event_type", "status", "attempts"], none: "No event was stored",
      key: (row) => `${row.event_type}-${row.attempts}-${row.status}`, order: () => (a, b) => b.events - a.events,
      columns: [text("Event type", "event_type"), tries, text("Status", "status"), number("Events", "events")] }),
    panel({ id: "gaps", title: "Gaps", width: "wide", subtitle: "Offsets without a record, and why",
      path: "gaps", state: "gaps", query: { limit: 100 }, none: "No offset was skipped", key: (row) => `${row.topic}-${row.partition}-${row.incarnation}-${row.first_offset}`,
      columns: [{ name: "From", value: (row) => `${row.topic}:${row.partition}:${row.first_offset}`, cell: (row) => `${row.topic}:${row.partition}:${row.first_offset}` },
        number("Offsets", "offsets"), text("Reason", "reason"), time("Found", "found_at")] }),
    panel({ id: "contradicting", title: "Contradicting executions", width: "wide", subtitle: "Two different ends, or active after the end",
      path: "contradicting-executions", filters: ["playbook"], query: { limit: 100 }, none: "No execution contradicts itself",
      key: (row) => row.execution_id,
      columns: [id, { name: "Status", value: (row) => row.status, cell: ended }, playbook, time("Ended", "ended_at"), time("Last activity", "last_activity_at")] }),
  ] };
}
