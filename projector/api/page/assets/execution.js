// One execution in, its timeline out: a lane for each try, and each event as sent and as kept.

import { link } from "./router.js";
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
      id: "lanes", title: "Timeline", width: "full", filters: null,
      subtitle: "A lane for each try: waiting, then running; a mark is an event",
      queries: () => ({
        calls: [`${path}/calls`, page({ limit: 500 })],
        events: [`${path}/events`, page({ limit: 500, ...(address.cursor ? { cursor: address.cursor } : {}) })],
      }),
      render: (answers, context) => drawLanes(answers, context.address, context),
    },
    {
      id: "events", title: "Events", width: "wide", filters: null, subtitle: "in the order they happened",
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
      render: ({ event: { rows: [row] } }) => drawEvent(row),
    });
  }
  return { title: `Execution ${address.execution}`, panels };
}

const flag = (state, word) => h("span", { class: "flag", "data-state": state }, word);
// A late telling of the claim must not draw a wait beyond the end.
const earliest = (...times) => times.filter(Boolean).sort()[0];
const millis = (iso) => new Date(iso).getTime();

const ofCall = (event) => CALL_EVENTS.some((start) => event.event_type.startsWith(start));

function laneOf(event, lanes) {
  if (!ofCall(event)) return null;
  const here = (lane) => lane.step === event.step && lane.iteration === event.iteration;
  const sameCommand = lanes.filter((lane) => event.command_id && lane.command_id === event.command_id);
  // A worker that sends no number speaks of the try that its command is.
  return sameCommand.find((lane) => lane.attempts === event.attempts) ??
    sameCommand.at(-1) ?? lanes.find((lane) => lane.attempts === event.attempts && here(lane)) ?? null;
}

const cameFrom = (lane, { command, step, attempts }) => lane !== null &&
  (!command || lane.command_id === command) && (!step || lane.step === step) && (attempts === undefined || lane.attempts === Number(attempts));

function drawLanes({ calls, events }, address, { go }) {
  const lanes = calls.rows;
  if (!events.rows.length) return [h("p", { class: "empty" }, "This execution has no event in the log any more.")];
  if (!address.event) {
    // What somebody who came this far looks for: what went wrong in the try they came from, or at all.
    const wrong = events.rows.filter((row) => row.error);
    const first = wrong.find((row) => cameFrom(laneOf(row, lanes), address)) ?? wrong[0] ?? events.rows.at(-1);
    queueMicrotask(() => go(link(address, { event: first.event_id, cursor: address.cursor ?? null }), { replace: true }));
  }
  const times = [
    ...events.rows.map((row) => row.created_at),
    ...lanes.flatMap((row) => [row.begun_at, row.finished_at]),
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
    const lane = laneOf(event, lanes);
    if (!marks.has(lane)) marks.set(lane, []);
    marks.get(lane).push(mark(event));
  }
  const row = (key, label, bars, own) => h("li", { "data-key": key },
    h("div", { class: "label" }, label), h("div", { class: "track" }, bars, own));
  return [
    h("ol", { class: "lanes" },
      row("lane-workflow", [h("b", {}, "workflow"), h("small", {}, "steps and lifecycle")], [], marks.get(null) ?? []),
      lanes.map((lane) => row(
        `lane-${lane.command_id ?? lane.step}-${lane.iteration}-${lane.attempts}-${lane.begun_at}`,
        [h("b", {}, lane.step || "(no step)"),
          h("small", {}, [attempt(lane.attempts), lane.iteration !== null ? `, iteration ${lane.iteration}` : ""]),
          h("small", { class: "out" }, status(lane.status), ` ${span(lane.duration_s)}`)],
        [bar("wait", lane.issued_at ?? lane.begun_at, earliest(lane.claimed_at, lane.started_at, lane.finished_at)),
          bar("claim", lane.claimed_at, lane.started_at ?? lane.finished_at),
          bar("run", lane.started_at ?? lane.claimed_at, lane.finished_at ?? new Date(to).toISOString(), lane.status)],
        marks.get(lane) ?? []))),
    h("p", { class: "scale", "aria-hidden": "true" }, h("span", {}, clock(new Date(from).toISOString(), { millis: true })),
      h("span", {}, span((to - from) / 1000)), h("span", {}, clock(new Date(to).toISOString(), { millis: true }))),
    calls.next ? h("p", { class: "under" }, `The first ${lanes.length} tries.`) : null,
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
        h("span", { class: "try" }, ofCall(row) ? attempt((laneOf(row, calls.rows) ?? row).attempts) : ""),
        status(row.status),
        row.error ? h("span", { class: "error" }, row.error) : null)))),
    next || address.cursor ? h("nav", { class: "turn", "aria-label": "Pages" },
      address.cursor ? h("a", { href: link(address, { event: null }) }, "From the start") : null,
      next ? h("a", { href: link(address, { cursor: next, event: null }) }, "Later events") : null) : null,
  ];
}

function drawEvent(row) {
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
    row.coercions?.length ? h("ul", { class: "coercions", "aria-label": "What was changed" }, row.coercions.map((one) =>
      h("li", {}, h("b", {}, one.field ?? ""), ": ",
        one.original !== null && one.original !== undefined ? h("code", {}, String(one.original)) : "not sent",
        row[one.field] !== undefined ? [" → ", h("code", {}, String(row[one.field] ?? "none"))] : null,
        ` (rule ${one.rule})`))) : null,
    text("as-sent", "As it was sent, rebuilt", row.as_sent),
    text("canonical", "Canonical", row.canonical),
    row.headers?.length ? text("headers", "Headers", row.headers.map(([name, value]) => `${name}: ${value}`).join("\n")) : null,
  ];
}
