// The timeline of an execution: a row for each call, a mark for each event; a range of it can be shown.

import { link } from "./router.js";
import { h, status } from "./dom.js";
import { at } from "./duration_panel.js";
import { attempt, clock, earliest, millis, offset, span } from "./format.js";
import { knownUntil } from "./panel_parts.js";

const CALL_EVENT = /^(command|call|action)[._]/;
/** Calls beyond those that are listed, and events that name no call. */
const OTHER = Symbol("other calls");
const FAILURES = ["FAILED", "ERROR"];
const DRAG_PX = 8;
/** Round times between two ticks. */
const STEPS_MS = [1, 10, 100, 1000, 60000, 3600000, 86400000].flatMap((unit, n, all) => [1, 2, 5, 10, 15, 30].map((some) => some * unit)
  .filter((one) => one < (all[n + 1] ?? Infinity)));

export const ofCall = (event) => CALL_EVENT.test(event.event_type);

/** The time of a call that an event of this type may have set. */
const timeOf = (type) => ["issued", "claimed", "started"].find((end) => type.endsWith(end)) ?? "finished";

/**
 * The call in whose row an event is drawn. If its producer named no attempt, that's the call of its command that has the time of the event, for
 * example as issued_at if it's an issue, or else the last one that had begun by then. That is a guess: the page doesn't know how the server
 * assigned the event.
 */
export function callOf(event, callRows) {
  if (!ofCall(event)) return null;
  const own = callRows.filter((call) => event.command_id ? call.command_id === event.command_id
    : call.step === event.step && call.iteration === event.iteration);
  if (event.numbered || !event.command_id) return own.find((call) => call.attempts === event.attempts) ?? null;
  const time = `${timeOf(event.event_type)}_at`;
  return own.find((call) => call[time] === event.created_at) ??
    own.findLast((call) => millis(call.begun_at) <= millis(event.created_at)) ?? own[0] ?? null;
}

export function drawTimeline({ execution, calls, events, own }, { address, go }) {
  const ended = Boolean(execution.rows[0].ended_at);
  const callRows = calls.rows;
  if (!events.rows.length) return [h("p", { class: "empty" }, "No event of this execution is stored. None was read yet, or they were deleted.")];
  const opened = address.event ?? eventToOpen(own ?? events, calls, execution.rows[0], address)?.event_id;
  if (opened && !address.event) queueMicrotask(() => go(link(address, { event: opened, cursor: address.cursor ?? null }), { replace: true }));
  const happened = wholeRange(events.rows, callRows);
  const whole = [happened[0], ended ? happened[1] : Math.max(happened[1], knownUntil(execution))];
  const [from, to] = shownRange(address, whole);
  const position = (iso) => (millis(iso) - from) / (to - from);
  const scale = { from, to, position, begin: whole[0] };
  const marks = new Map();
  for (const event of events.rows) {
    const call = callOf(event, callRows) ?? (ofCall(event) ? OTHER : null);
    if (!marks.has(call)) marks.set(call, []);
    marks.get(call).push(mark(event, address, scale));
  }
  const row = (key, label, bars, own) => h("li", { "data-key": key },
    h("div", { class: "label" }, label), h("div", { class: "track" }, bars, own));
  return [
    own && !opened ? h("p", {}, "No event of this call is stored.") : null,
    !own && !opened && events.next ? h("p", {}, "No error among these events. There are later ones.") : null,
    h("div", { class: "scale", "data-key": "scale" }, zooms(address, whole, [from, to], happened), ticks(from, to, whole[0])),
    h("ol", { class: "timeline", "data-from": from, "data-to": to },
      row("row-workflow", [h("b", {}, "workflow"), h("small", {}, "steps and lifecycle")], [], marks.get(null) ?? []),
      callRows.map((call) => row(
        `row-${call.command_id ?? call.step}-${call.iteration}-${call.attempts}-${call.begun_at}`,
        [h("b", {}, call.step || "(no step)"),
          h("small", { title: call.iteration === null ? null : `iteration ${call.iteration}` },
            [call.iteration !== null && `#${call.iteration}`, call.attempts > 0 && attempt(call.attempts)].filter(Boolean).join(" ")),
          h("small", { class: "out" }, status(call.status), call.finished_at ? ` ${span(call.duration_s)}` : ended ? " no end read" : null)],
        bars(call, scale, ended), marks.get(call) ?? [])),
      marks.has(OTHER) ? row("row-other", [h("b", {}, "other calls"), h("small", {}, "without a row here")], [], marks.get(OTHER)) : null),
    calls.next ? h("p", { class: "under" }, `showing the first ${callRows.length} calls`) : null,
  ];
}

/** About how wide the track and a sign of its scale are. */
const trackPx = () => innerWidth * 0.55;
const SIGN_PX = 7;

/** The times of both ends, and between them how long after the begin of the execution, unless their words would touch. */
function ticks(from, to, begin) {
  const ends = [from, to].map((one) => clock(one, { millis: true }));
  const step = STEPS_MS.find((one) => one * 4 >= to - from) ?? to - from;
  const inside = [];
  for (let at = begin + Math.ceil((from - begin) / step) * step; at < to; at += step) {
    const share = (at - from) / (to - from);
    const word = step < 1000 ? offset(at - begin) : offset(at - begin).slice(0, -4);
    const needed = Math.max(0.15, ((ends[1].length + word.length / 2 + 1) * SIGN_PX) / trackPx());
    if (share > needed && share < 1 - needed) inside.push([share, word]);
  }
  return h("span", { class: "ticks", "aria-hidden": "true" },
    [[0, ends[0]], ...inside, [1, ends[1]]].map(([share, word]) =>
      h("i", { vars: at(share) }, word)));
}

/**
 * The call that decided that an execution failed: of the steps and iterations whose last call failed, the one that ended last before the
 * execution did. Null if it didn't fail, or if the answer lacks calls, which may have decided.
 */
export function decidingCall(execution, { rows, next }) {
  if (execution.status !== "FAILED" || next) return null;
  const latest = new Map(rows.map((call) => [`${call.step}~${call.iteration}`, call]));
  const failed = [...latest.values()].filter((call) => FAILURES.includes(call.status) && call.finished_at)
    .sort((a, b) => millis(a.finished_at) - millis(b.finished_at));
  return failed.findLast((call) => millis(call.finished_at) <= millis(execution.ended_at)) ?? failed.at(-1) ?? null;
}

/**
 * The event to open: an error, preferably the end of the call that was clicked, or one of the step and the attempt of the filters, or of the
 * call that decided; else the last one that is known to be it. Only the time of its end leads to a call that nobody numbered.
 */
function eventToOpen({ rows, next }, calls, execution, { command, step, attempts, try: tried = attempts }) {
  const here = rows.filter((row) => {
    const call = callOf(row, calls.rows) ?? row;
    // A command is of one step, whatever the filter.
    return (command || step === undefined || call.step === step) && (tried === undefined || call.attempts === Number(tried));
  });
  const isChosen = [command, step, tried].some((one) => one !== undefined);
  const clicked = isChosen ? calls.rows.find((call) => command && call.command_id === command && call.attempts === Number(tried))
    : decidingCall(execution, calls);
  const ends = rows.filter((row) => clicked && row.command_id === clicked.command_id && row.created_at === clicked.finished_at);
  // The last one decided. What isn't of a call often only repeats the error.
  const lastWrong = (some) => some.findLast((row) => row.error) ?? some.findLast((row) => FAILURES.includes(row.status));
  const wrong = (some) => lastWrong(some.filter(ofCall)) ?? lastWrong(some);
  return wrong(ends) ?? wrong(here) ?? (command ? here.at(-1) : null) ?? wrong(rows) ?? (next ? null : rows.at(-1));
}

function wholeRange(events, callRows) {
  const times = [
    ...events.map((row) => row.created_at),
    ...callRows.flatMap((row) => [row.begun_at, row.finished_at]),
  ].filter(Boolean).map(millis);
  const from = Math.min(...times);
  return [from, Math.max(...times, from + 1)];
}

/** The range of the address, in ms since the epoch: 1783674000041~1783674000123. */
function shownRange(address, whole) {
  return address.zoom?.split("~").map(Number) ?? whole;
}

/** Marks may lie closer than a finger is wide, so the list of events has the links, and a mark only follows a click. */
function mark(event, address, { from, to, position, begin }) {
  const at = millis(event.created_at);
  if (at < from || at > to) return null;
  return h("span", {
    class: "mark", "data-href": link(address, { event: event.event_id, cursor: address.cursor ?? null }),
    "data-key": `mark-${event.event_id}`, "data-status": event.status, vars: { "--at": position(event.created_at) },
    "aria-current": event.event_id === address.event ? "true" : null,
    title: `${event.event_type} ${event.status}, ${span((at - begin) / 1000)} after the start, ${clock(event.created_at, { millis: true })}`,
  });
}

function bars({ status: word, ...call }, { to, position }, ended) {
  const bar = (kind, a, b) => {
    const until = b ?? new Date(to).toISOString();
    return a && millis(until) >= millis(a) ? h("i", { class: kind, "data-status": word, "data-open": ended && !b ? "" : null,
      vars: { "--at": position(a), "--for": position(until) - position(a) } }) : null;
  };
  const { issued_at: issued, claimed_at: claimed, started_at: started, finished_at: finished } = call;
  return [
    // If the claim is reported late, the wait still ends with the call.
    bar("wait", issued ?? call.begun_at, earliest([claimed, started, finished])),
    bar("claim", claimed, started ?? finished),
    bar("run", started ?? (finished && claimed), finished),
  ];
}

// ---- Zoom -------------------------------------------------------------------------------------

const toward = (address, from, to) => link(address, { zoom: `${Math.floor(from)}~${Math.max(Math.ceil(to), Math.floor(from) + 1)}`,
  cursor: address.cursor ?? null });

function zooms(address, whole, [from, to], happened) {
  const [length, middle] = [to - from, (from + to) / 2];
  const within = (a, b) => toward(address, Math.max(whole[0], a), Math.min(whole[1], b));
  const one = (word, label, href) => h("a", { class: "button", href, "aria-label": label, title: label }, word);
  const zoomedIn = from > whole[0] || to < whole[1];
  const isSilent = whole[1] - happened[1] > happened[1] - happened[0];
  return h("nav", { class: "zooms", "aria-label": "Zoom" },
    one("+", "Zoom in", within(middle - length / 4, middle + length / 4)),
    isSilent && !zoomedIn ? one("Events", "Show the time up to the last event", toward(address, ...happened)) : null,
    zoomedIn ? [one("−", "Zoom out", within(middle - length, middle + length)),
      one("‹", "Earlier", toward(address, from - length / 2, to - length / 2)), one("›", "Later", toward(address, from + length / 2, to + length / 2)),
      one("Whole", "Show the whole execution", link(address, { zoom: null, cursor: address.cursor ?? null }))] : null);
}

/** Dragging over the tracks shows that range; go(href) follows it. */
export function listenToTimeline(address, go) {
  let start = null;
  const shade = () => document.getElementById("zoom-range");
  document.addEventListener("pointerdown", (event) => {
    const track = event.button === 0 && event.target.closest?.(".track");
    if (track) start = { x: event.clientX, box: track.getBoundingClientRect(), list: track.closest(".timeline") };
  });
  document.addEventListener("pointermove", (event) => {
    if (!start || Math.abs(event.clientX - start.x) < DRAG_PX) return;
    getSelection()?.removeAllRanges();
    const range = shade() ?? start.list.appendChild(h("div", { id: "zoom-range" }));
    const left = start.list.getBoundingClientRect().left;
    range.style.left = `${Math.min(start.x, event.clientX) - left}px`;
    range.style.width = `${Math.abs(event.clientX - start.x)}px`;
  });
  document.addEventListener("pointerup", (event) => {
    if (!start) return;
    const { x, box, list } = start;
    start = null;
    shade()?.remove();
    if (Math.abs(event.clientX - x) < DRAG_PX) return;
    const [from, to] = [Number(list.dataset.from), Number(list.dataset.to)];
    const at = (px) => from + Math.min(1, Math.max(0, (px - box.left) / box.width)) * (to - from);
    const [a, b] = [at(x), at(event.clientX)].sort((one, other) => one - other);
    // The click that ends a drag over a mark does not open it.
    addEventListener("click", (click) => click.stopPropagation(), { capture: true, once: true });
    setTimeout(() => go(toward(address(), a, b)));
  });
}
