// One execution: its timeline with a row for each call, and each event as sent and as stored.

import { link } from "./router.js";
import { coercion } from "./coercions.js";
import { h, status } from "./dom.js";
import { attempt, clock, count, span } from "./format.js";

const CALL_EVENTS = ["command.", "call.", "action_"];

export function execution(address) {
  const path = `executions/${encodeURIComponent(address.execution)}`;
  const page = (query) => new URLSearchParams(query);
  const panels = [
    {
      id: "execution", title: "Summary", width: "full", filters: null,
      queries: () => ({ execution: [path, page({})] }),
      render: ({ execution: { rows: [row] } }) => [h("dl", { class: "facts" }, Object.entries({
        Status: [status(row.status), row.contradicting ? flag("bad", "contradicted") : null,
          row.active_after_end ? flag("warn", "active after end") : null],
        Playbook: [row.playbook || "(unknown)", row.version ? ` v${row.version}` : ""],
        Began: clock(row.first_at, { millis: true }),
        Ended: row.ended_at ? clock(row.ended_at, { millis: true }) : `not yet; last event ${clock(row.last_at)}`,
        Took: span(row.duration_s),
        Events: count(row.events),
        "Failed calls": count(row.failed_calls),
        Parent: row.parent_execution_id && row.parent_execution_id !== "0"
          ? h("a", { class: "id", href: link(address, { execution: row.parent_execution_id, command: null, event: null }) },
            row.parent_execution_id) : null,
      }).filter(([, value]) => value !== null).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))))],
    },
    {
      id: "timeline", title: "Timeline", width: "full", filters: null,
      subtitle: "One row for each call: thin until it is claimed, full while it runs; each mark is an event",
      queries: () => ({
        calls: [`${path}/calls`, page({ limit: 500 })],
        events: [`${path}/events`, page({ limit: 500, ...(address.cursor ? { cursor: address.cursor } : {}) })],
      }),
      render: (answers, context) => drawTimeline(answers, context.address, context),
    },
    {
      id: "events", title: "Events", width: "wide", filters: null, subtitle: "In the order of their time",
      queries: () => ({
        calls: [`${path}/calls`, page({ limit: 500 })],
        events: [`${path}/events`, page({ limit: 500, ...(address.cursor ? { cursor: address.cursor } : {}) })],
      }),
      render: (answers, context) => drawEvents(answers, context.address),
    },
  ];
  if (address.event) {
    panels.push({
      id: "event", title: "Event", width: "narrow", filters: null,
      queries: () => ({ event: [`${path}/events/${encodeURIComponent(address.event)}`, page({})] }),
      render: ({ event: { rows: [row] } }) => drawEvent(row, address),
    });
  }
  return { title: `Execution ${address.execution}`, panels };
}

const flag = (state, word) => h("span", { class: "flag", "data-state": state }, word);
// If the claim is reported late, the wait still ends with the call.
const earliest = (...times) => times.filter(Boolean).sort()[0];
const millis = (iso) => new Date(iso).getTime();

const ofCall = (event) => CALL_EVENTS.some((start) => event.event_type.startsWith(start));

function callOf(event, callRows) {
  if (!ofCall(event)) return null;
  const here = (call) => call.step === event.step && call.iteration === event.iteration;
  const sameCommand = callRows.filter((call) => event.command_id && call.command_id === event.command_id);
  // A worker that sends no attempt number reports the attempt of its command.
  return sameCommand.find((call) => call.attempts === event.attempts) ??
    sameCommand.at(-1) ?? callRows.find((call) => call.attempts === event.attempts && here(call)) ?? null;
}

const cameFrom = (call, { command, step, attempts }) => call !== null &&
  (!command || call.command_id === command) && (!step || call.step === step) && (attempts === undefined || call.attempts === Number(attempts));

function drawTimeline({ calls, events }, address, { go }) {
  const callRows = calls.rows;
  if (!events.rows.length) return [h("p", { class: "empty" }, "The events of this execution are deleted.")];
  if (!address.event) {
    // Open the first error, preferably of the call that the reader came from.
    const wrong = events.rows.filter((row) => row.error);
    const first = wrong.find((row) => cameFrom(callOf(row, callRows), address)) ?? wrong[0] ?? events.rows.at(-1);
    queueMicrotask(() => go(link(address, { event: first.event_id, cursor: address.cursor ?? null }), { replace: true }));
  }
  const times = [
    ...events.rows.map((row) => row.created_at),
    ...callRows.flatMap((row) => [row.begun_at, row.finished_at]),
  ].filter(Boolean).map(millis);
  const from = Math.min(...times);
  const to = Math.max(...times, from + 1);
  const position = (iso) => (millis(iso) - from) / (to - from);
  const mark = (event) => h("a", {
    class: "mark", href: link(address, { event: event.event_id, cursor: address.cursor ?? null }),
    "data-key": `mark-${event.event_id}`, "data-status": event.status, vars: { "--at": position(event.created_at) },
    "aria-current": event.event_id === address.event ? "true" : null,
    "aria-label": `${event.event_type} ${event.status}, ${span((millis(event.created_at) - from) / 1000)} after the start`,
    title: `${event.event_type} · ${event.status} · ${clock(event.created_at, { millis: true })}`,
  });
  const bar = (kind, a, b, word) => a && b && millis(b) >= millis(a)
    ? h("i", { class: kind, "data-status": word, vars: { "--at": position(a), "--for": position(b) - position(a) } }) : null;
  const marks = new Map();
  for (const event of events.rows) {
    const call = callOf(event, callRows);
    if (!marks.has(call)) marks.set(call, []);
    marks.get(call).push(mark(event));
  }
  const row = (key, label, bars, own) => h("li", { "data-key": key },
    h("div", { class: "label" }, label), h("div", { class: "track" }, bars, own));
  return [
    h("ol", { class: "timeline" },
      row("row-workflow", [h("b", {}, "workflow"), h("small", {}, "steps and lifecycle")], [], marks.get(null) ?? []),
      callRows.map((call) => row(
        `row-${call.command_id ?? call.step}-${call.iteration}-${call.attempts}-${call.begun_at}`,
        [h("b", {}, call.step || "(no step)"),
          h("small", {}, [attempt(call.attempts), call.iteration !== null ? `, iteration ${call.iteration}` : ""]),
          h("small", { class: "out" }, status(call.status), ` ${span(call.duration_s)}`)],
        [bar("wait", call.issued_at ?? call.begun_at, earliest(call.claimed_at, call.started_at, call.finished_at)),
          bar("claim", call.claimed_at, call.started_at ?? call.finished_at),
          bar("run", call.started_at ?? call.claimed_at, call.finished_at ?? new Date(to).toISOString(), call.status)],
        marks.get(call) ?? []))),
    h("p", { class: "scale", "aria-hidden": "true" }, h("span", {}, clock(new Date(from).toISOString(), { millis: true })),
      h("span", {}, span((to - from) / 1000)), h("span", {}, clock(new Date(to).toISOString(), { millis: true }))),
    calls.next ? h("p", { class: "under" }, `The first ${callRows.length} calls.`) : null,
  ];
}

function drawEvents({ calls, events: { rows, next } }, address) {
  const from = rows.length ? millis(rows[0].created_at) : 0;
  return [
    h("ol", { class: "events" }, rows.map((row) =>
      h("li", { "data-key": `event-${row.event_id}` },
        h("a", { href: link(address, { event: row.event_id, cursor: address.cursor ?? null }),
          "aria-current": row.event_id === address.event ? "true" : null },
        h("span", { class: "when" }, `+${span((millis(row.created_at) - from) / 1000)}`),
        h("span", { class: "what" }, h("b", {}, row.event_type), h("small", {}, ` ${row.step}`)),
        h("span", { class: "try" }, ofCall(row) ? attempt((callOf(row, calls.rows) ?? row).attempts) : ""),
        status(row.status),
        row.error ? h("span", { class: "error" }, row.error) : null)))),
    next || address.cursor ? h("nav", { class: "turn", "aria-label": "Pages" },
      address.cursor ? h("a", { href: link(address, { event: null }) }, "From the start") : null,
      next ? h("a", { href: link(address, { cursor: next, event: null }) }, "Later events") : null) : null,
  ];
}

function drawEvent(row, address) {
  const declared = ["not declared: the default", "counted from one by the producer", "declared by the producer"];
  const facts = {
    Event: h("span", { class: "id" }, row.event_id),
    Happened: clock(row.created_at, { millis: true }),
    Logged: clock(row.recorded_at, { millis: true }),
    "Source shape": row.shape,
    Record: row.source_topic ? `${row.source_topic}:${row.source_partition}:${row.source_offset}` : null,
    Attempt: `${row.attempts} (${declared[Math.floor((row.evidence ?? 0) / 100)] ?? declared[2]})`,
    Worker: row.worker_id,
    Command: row.command_id ? h("span", { class: "id" }, row.command_id) : null,
    Took: row.duration === null ? null : span(row.duration),
    Trace: row.trace_id ? h("span", { class: "id" }, row.trace_id) : null,
  };
  const text = (id, title, value) => h("section", { class: "text", id, "data-key": id },
    h("h3", { id: `${id}-title` }, title),
    h("pre", { tabindex: "0", role: "region", "aria-labelledby": `${id}-title` }, value ?? "–"));
  return [
    h("p", { class: "event" }, h("b", {}, row.event_type), h("small", {}, ` ${row.step} `), status(row.status)),
    row.error ? h("p", { class: "error" }, row.error) : null,
    h("dl", { class: "facts" }, Object.entries(facts).filter(([, value]) => value !== null && value !== undefined && value !== "")
      .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    row.coercions?.length ? h("ul", { class: "coercions", "aria-label": "What was changed" },
      row.coercions.map((one) => coercion(one, row, address))) : null,
    text("as-sent", "As sent (rebuilt)", row.as_sent),
    text("canonical", "Canonical", row.canonical),
    row.headers?.length ? text("headers", "Headers", row.headers.map(([name, value]) => `${name}: ${value}`).join("\n")) : null,
  ];
}
