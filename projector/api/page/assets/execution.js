// One execution: its summary, its parent and children, its timeline and events, and one event.

import { link } from "./router.js";
import { drawEvent } from "./event_view.js";
import { facts, h, status } from "./dom.js";
import { guide } from "./guides.js";
import { attempt, clock, count, millis, offset, onAttempt, plural, span } from "./format.js";
import { ended, iterations, stuckReason, took } from "./lists.js";
import { execution as linkTo, expandButton, limit, showing } from "./panel_parts.js";
import { rejectedRecords } from "./quarantine.js";
import { table, tools } from "./tables.js";
import { callOf, decidingCall, drawTimeline, ofCall } from "./timeline.js";

export function execution(address) {
  const path = `executions/${encodeURIComponent(address.execution)}`;
  const query = (more) => new URLSearchParams(more);
  const tree = [`${path}/tree`, query({}), { every: 30000 }];
  const both = () => ({
    calls: [`${path}/calls`, query({ limit: 500 })],
    events: [`${path}/events`, query({ limit: 500, ...(address.cursor ? { cursor: address.cursor } : {}) })],
  });
  const panels = [
    {
      id: "execution", title: "Summary", width: "full", filters: null,
      queries: () => ({ execution: [path, query({})], rejected: [`${path}/rejected-records`, query({ limit: 50 })], tree, ...both() }),
      render: (answers, context) => drawSummary(answers, path, context.address),
    },
    {
      id: "tree", title: "Parent and children", width: "full", filters: null, shownIf: ({ tree }) => tree?.rows.length > 1,
      truncated: () => "not the whole tree",
      queries: () => ({ tree }),
      render: ({ tree }, context) => drawTree(tree, context.address),
    },
    {
      id: "loops", title: "Loops", width: "full", filters: null, shownIf: ({ loops }) => loops?.rows.length > 0,
      subtitle: "Iterations of each step. A failed one has no attempt left, and none completed",
      queries: () => ({ loops: [`${path}/loops`, query({ limit: 500 })] }),
      render: ({ loops }, { expanded }) => drawLoops(loops, expanded),
    },
    {
      id: "timeline", title: "Timeline", width: "full", filters: null,
      subtitle: "Each call has a row: thin until it's claimed, medium until it starts, and full while it runs. Each mark is an event. Drag to zoom",
      queries: () => ({ execution: [path, query({})], ...both(),
        ...(address.command && !address.event && !address.cursor ? { own: [`${path}/events`, query({ limit: 500, command: address.command }), { every: 30000 }] } : {}) }),
      render: (answers, context) => drawTimeline(answers, context),
    },
    {
      id: "rejected", title: "Rejected records", width: "full", filters: null, shownIf: ({ rejected }) => rejected?.rows.length > 0,
      subtitle: "Records that name this execution and went to quarantine. Their events aren't in its timeline",
      queries: () => ({ rejected: [`${path}/rejected-records`, query({ limit: 50 })] }),
      render: ({ rejected }, context) => rejectedRecords(rejected, context.address),
    },
    {
      id: "events", title: "Events", width: "wide", filters: null, subtitle: "In the order of their time",
      queries: both, render: (answers, context) => drawEvents(answers, context.address),
    },
  ];
  if (address.event) {
    panels.push({
      id: "event", title: "Event", width: "narrow", filters: null,
      queries: () => ({ event: [`${path}/events/${encodeURIComponent(address.event)}`, query({})] }),
      render: ({ event: { rows: [row] } }, context) => drawEvent(row, context.address),
    });
  }
  return { title: `Execution ${address.execution}`, panels, timeless: true };
}

/** The child that an execution without an open call waits for. */
const runningChild = (row, tree, calls) => row.ended_at || row.waits_for || calls.next || calls.rows.some((call) => !call.finished_at) ? null
  : tree.rows.findLast((child) => child.depth === 1 && child.status === "RUNNING");

/** Why an execution failed: its call that decided, a child that failed, or else what an event says. */
function whyFailed(row, { tree, calls, events }, address) {
  if (row.status !== "FAILED") return null;
  const call = decidingCall(row, calls);
  if (call) {
    const href = link(address, { show: "execution", execution: row.execution_id, command: call.command_id, try: call.command_id && call.attempts });
    return ["Failed: ", h("a", { href }, call.step || "(no step)"), ` failed ${onAttempt(call.attempts)}`, call.error ? `: ${call.error}` : ", and sent no error text."];
  }
  const child = tree.rows.findLast((one) => one.depth === 1 && one.status === "FAILED");
  if (child) return ["Failed: its child ", linkTo(address, child.execution_id), " failed."];
  const said = events.rows.findLast((one) => one.status === "FAILED" && one.error && !ofCall(one));
  if (said) return `Failed: ${said.event_type} says: ${said.error}`;
  return calls.next || events.next ? "Failed. It has more calls and events than this page reads, and the first ones don't say why." : "Failed, and no call or event says why.";
}

function drawSummary(answers, path, address) {
  const { execution: { rows: [row], read_at }, rejected, tree, calls } = answers;
  const child = runningChild(row, tree, calls);
  const reason = stuckReason(row, address);
  const why = whyFailed(row, answers, address);
  const apart = rejected.rows.filter((one) => !one.redriven_at).length;
  return [
    why ? h("p", { class: "stuck decided", "data-key": "decided" }, why) : null,
    reason ? h("p", { class: "stuck", "data-key": "stuck" }, `Silent for ${span(row.silent_s)}. `, reason, ". ", guide("stuck")) : null,
    apart ? h("p", { class: "stuck", "data-key": "rejected" }, h("a", { href: "#rejected" }, `${rejected.next ? "More than " : ""}${plural(apart, "record")}`),
      ` of this execution ${apart === 1 ? "was" : "were"} rejected, so ${apart === 1 ? "its event is" : "their events are"} missing here.`) : null,
    facts({
      Status: ended(row),
      Playbook: row.playbook ? h("a", { href: link(address, { show: "playbooks", playbook: row.playbook }) }, row.playbook, row.version ? ` v${row.version}` : "")
        : "(unknown)",
      Begun: clock(row.first_at, { millis: true }),
      Ended: row.ended_at ? clock(row.ended_at, { millis: true }) : [`not yet; last event ${clock(row.last_at)}`, child ? ["; waits for ", linkTo(address, child.execution_id)] : null],
      [row.ended_at ? "Took" : "Running for"]: took(row, { read_at }).replace(" so far", ""),
      Events: count(row.events),
      "Failed calls": count(row.failed_calls),
      Parent: row.parent_execution_id && row.parent_execution_id !== "0" ? linkTo(address, row.parent_execution_id) : null,
    }),
    h("div", { class: "under" }, h("span", { class: "tools" },
      h("button", { type: "button", class: "more", "data-copy": row.execution_id }, "Copy the id"),
      h("button", { type: "button", class: "more", "data-copy": JSON.stringify(row, null, 2) }, "Copy as JSON"),
      h("button", { type: "button", class: "more", "data-download": `${path}/events.ndjson`, "data-name": `${row.execution_id}.ndjson` },
        "Download its events (NDJSON)"))),
  ];
}

function drawTree(tree, address) {
  const least = Math.min(...tree.rows.map((row) => row.depth));
  return [h("ol", { class: "tree" }, tree.rows.map((row) =>
    h("li", { "data-key": `tree-${row.execution_id}`, vars: { "--depth": row.depth - least },
      "aria-current": row.execution_id === address.execution ? "true" : null },
    h("span", {}, ended(row)), row.execution_id === address.execution ? h("b", { class: "id" }, row.execution_id) : linkTo(address, row.execution_id),
    h("span", {}, row.playbook || "(unknown)"), row.duration_s === null ? null : h("small", {}, span(row.duration_s)),
    row.failed_calls ? h("small", { class: "bad" }, plural(row.failed_calls, "failed call")) : null,
    row.waits_for && row.execution_id !== address.execution ? h("small", {}, stuckReason(row, address)) : null)))];
}

function drawLoops(loops, expanded) {
  return [
    table("Loops by step", [{ name: "Step", value: (row) => row.step, cell: (row) => row.step || "(no step)" }, ...iterations],
      loops.rows, (row) => `loop-${row.step}`, { id: "loops", ...limit(loops.rows, expanded) }),
    h("div", { class: "under" }, showing(loops), tools("loops"), expandButton("loops", loops.rows, expanded, "loop")),
  ];
}

function drawEvents({ calls, events: { rows, next } }, address) {
  if (!rows.length) return [h("p", { class: "empty" }, "No event is stored.")];
  const from = millis(rows[0].created_at);
  const at = (event) => link(address, { event, cursor: address.cursor ?? null });
  return [
    h("ol", { class: "events" }, rows.map((row) =>
      h("li", { "data-key": `event-${row.event_id}` },
        h("a", { href: at(row.event_id), "aria-current": row.event_id === address.event ? "true" : null },
          h("span", { class: "when" }, offset(millis(row.created_at) - from)),
          h("span", { class: "what" }, h("b", {}, row.event_type), h("small", {}, ` ${row.step}`)),
          h("span", { class: "try" }, ofCall(row) ? attempt((callOf(row, calls.rows) ?? row).attempts) : ""),
          status(row.status),
          row.error ? h("span", { class: "error" }, row.error) : null)))),
    next || address.cursor ? h("nav", { class: "turn", "aria-label": "Pages" },
      address.cursor ? h("a", { href: link(address, { event: null }) }, "From the start") : null,
      next ? h("a", { href: link(address, { cursor: next, event: null }) }, "Later events") : null) : null,
  ];
}
