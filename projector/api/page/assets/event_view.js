// One event: its facts, what was changed, and the record as sent beside its canonical form.

import { coercion } from "./coercions.js";
import { breaking, facts, h, status } from "./dom.js";
import { attempt, clock, plural, span } from "./format.js";
import { MOST_DRAWN, difference, tree } from "./json_tree.js";
import { showing } from "./panel_parts.js";
import { table } from "./tables.js";
import { ofCall } from "./timeline.js";

const KINDS = { object: "an object", list: "a list" };
const DECLARED = ["the default, because none was declared", "counted from one by the producer", "declared by the producer"];

export function drawEvent(row, address) {
  return [
    h("p", { class: "event" }, h("b", {}, row.event_type), h("small", {}, ` ${row.step} `), status(row.status)),
    row.error ? h("p", { class: "error" }, row.error) : null,
    facts({
      Event: h("span", { class: "id" }, row.event_id),
      Happened: clock(row.created_at, { millis: true }),
      Logged: clock(row.recorded_at, { millis: true }),
      "Source shape": row.shape,
      Record: row.source_topic ? h("span", { class: "id" }, `${row.source_topic}:${row.source_partition}:${row.source_offset}`) : null,
      Attempt: ofCall(row) ? `${attempt(row.attempts)} (${DECLARED[Math.floor((row.evidence ?? 0) / 100)] ?? DECLARED[2]})`
        : `none, because this event isn't part of a call. Its meta.attempts is ${row.attempts}`,
      Worker: row.worker_id,
      Command: row.command_id ? h("span", { class: "id" }, breaking(row.command_id, ":")) : null,
      Took: row.duration === null ? null : span(row.duration),
      Trace: row.trace_id ? h("span", { class: "id" }, row.trace_id) : null,
    }),
    row.coercions?.length ? h("ul", { class: "coercions", "aria-label": "What was changed" },
      row.coercions.map((one) => coercion(one, row, address))) : null,
    changes(row),
    text("as-sent", "As sent, rebuilt from the stored event", row.as_sent),
    text("canonical", "Canonical", row.canonical),
    row.headers?.length ? h("section", { class: "text", id: "headers", "data-key": "headers" }, h("h3", {}, "Headers"),
      h("pre", { tabindex: "0", role: "region", "aria-label": "Headers" }, row.headers.map(([name, value]) => `${name}: ${value}`).join("\n"))) : null,
  ];
}

function text(id, title, value) {
  return h("section", { class: "text", id, "data-key": id },
    h("h3", { id: `${id}-title` }, title,
      h("button", { type: "button", class: "more", "data-copy": value ?? "", "aria-label": `Copy as JSON: ${title}` }, "Copy as JSON")),
    h("div", { class: "json", tabindex: "0", role: "region", "aria-labelledby": `${id}-title` }, tree(value)));
}

/** What differs between the two texts, field by field. */
function changes(row) {
  const found = difference(row.as_sent, row.canonical);
  if (!found) return null;
  const column = (name, field, missing) => ({ name, cell: (row) => row[field] === null ? h("small", {}, missing(row)) : h("code", {}, row[field]),
    marks: (row) => ({ "data-change": row.before === null ? "added" : row.after === null ? "removed" : "changed" }) });
  return h("details", { class: "text", id: "difference", "data-key": "difference" },
    h("summary", {}, `${plural(found.rows.length, "difference")} between sent and canonical; ${plural(found.equal, "value")} equal`),
    found.rows.length ? table("Differences", [{ name: "Field", cell: (row) => row.path }, column("As sent", "before", (row) => row.kindBefore ? `sent as ${KINDS[row.kindBefore]}` : "not sent"),
      column("Canonical", "after", (row) => row.kindAfter ? `kept as ${KINDS[row.kindAfter]}` : "not kept here")], found.rows, (row) => `diff-${row.path}`, { kind: "diff", limit: MOST_DRAWN }) : null,
    h("p", { class: "under" }, showing({ rows: found.rows, total: found.rows.length }, MOST_DRAWN)));
}
