// Rejected records: the list by reason, shape and time, and the page of one.

import { link, parameters } from "./router.js";
import { breaking, command, facts, h } from "./dom.js";
import { guide } from "./guides.js";
import { between, clock, count, per, plural, windowText } from "./format.js";
import { execution, empty, figures, grouped, nothing, showing, stacked, sum, tally, turn } from "./panel_parts.js";
import { table, tools } from "./tables.js";
import { grain } from "./windows.js";

export function quarantine(address) {
  const set = ["reason", "shape"].filter((name) => address[name] !== undefined);
  return {
    title: "Quarantine",
    panels: [
      {
        id: "reasons", title: "By reason", width: "half", filters: [], subtitle: windowText(address),
        queries: () => ({ counts: ["quarantine-by-reason", parameters(address, [])] }),
        render: ({ counts }) => sums(counts, "reason", "shape", address),
      },
      {
        id: "shapes", title: "By shape", width: "half", filters: [], subtitle: "the form in which a producer writes. unknown means that no known form fits, and (no shape) means that the record was rejected before that was known",
        queries: () => ({ counts: ["quarantine-by-reason", parameters(address, [])] }),
        render: ({ counts }) => sums(counts, "shape", "reason", address),
      },
      {
        id: "over-time", title: "By time", width: "full", filters: [], subtitle: "when they were rejected. Drag to zoom",
        queries: () => ({ counts: ["quarantine-by-reason", parameters(address, ["reason", "shape"],
          { by: ["at", "reason"], every: grain(address), limit: 5000 })] }),
        render: ({ counts }) => drawOverTime(counts, address),
      },
      {
        id: "records", title: set.length ? `Records with ${set.map((name) => `${name} ${address[name] || "(no shape)"}`).join(" and ")}` : "Records",
        width: "full", filters: [], subtitle: `newest first, ${windowText(address)}`,
        queries: () => ({ records: ["quarantine-records", parameters(address, ["reason", "shape", "cursor"], { limit: 50 })] }),
        render: ({ records }) => drawRecords(records, address, set),
      },
    ],
  };
}

function sums(counts, name, detail, address) {
  const entries = grouped(counts.rows, name, detail, "rejected").map((one) => ({
    ...one, key: `${name}-${one.what}`, what: one.what || "(no\u00a0shape)",
    href: link(address, { [name]: address[name] === one.what ? null : one.what }),
  }));
  return entries.length ? [tally(entries, true)] : nothing(counts, `No record was rejected ${windowText(address)}.`);
}

function drawOverTime(counts, address) {
  if (!counts.rows.length) return nothing(counts, `No record was rejected ${windowText(address)}.`);
  const { entries, spec } = stacked(counts, "reason", "rejected", "bar");
  const until = (row) => new Date(row.at).getTime() + spec.step;
  return {
    nodes: figures("over-time", spec, `Records ${per(spec.step)}`, `rejected records ${windowText(address)}: ${count(sum(counts.rows, "rejected"))}`, entries, [
      { name: "From", value: (row) => row.at, cell: (row) => between(row.at, until(row)) },
      { name: "Reason", free: true, value: (row) => row.reason, cell: (row) => row.reason },
      { name: "Rejected", number: true, value: (row) => row.rejected, cell: (row) => count(row.rejected) },
    ], counts.rows),
    charts: { "over-time": { ...spec, height: 9, hover: (at) => between(at, at + spec.step) } },
  };
}

const place = (row) => `${row.topic}:${row.partition}:${row.source_offset}`;

/** Why a record was rejected, without its coordinates: they stand beside it. */
function cause(row) {
  const item = row.source_index > 0 ? ` events[${row.source_index}]` : "";
  const start = `${row.topic}[${row.partition}]@${row.source_offset}${item}: `;
  return row.detail.startsWith(start) ? row.detail.slice(start.length) : row.detail;
}

function drawRecords(records, address, set) {
  const clear = set.length ? h("a", { href: link(address, { reason: null, shape: null }) }, "All records") : null;
  if (!records.rows.length) return [...nothing(records, `No record was rejected ${windowText(address)}${set.length ? " with these filters" : ""}.`), clear];
  const options = set.filter((name) => address[name]).map((name) => ` --${name} ${address[name]}`).join("");
  return [...rejectedRecords(records, address, clear), turn(address, records.next),
    h("p", {}, h("code", {}, `normalizer quarantine redrive${options} --dry-run`), " tells you what today's rules make of them, whatever the window. ",
      "Without --dry-run it redrives them. Open a record for its own commands. ", guide("rejected"))];
}

/** A table of rejected records, each with a link to its page. */
export function rejectedRecords(records, address, clear = null) {
  return [
    table("Rejected records", [
      { name: "Record", value: place, cell: (row) => h("a", { class: "id", href: link(address, { show: "record", record: row.quarantine_id, reason: address.reason, shape: address.shape }) },
        place(row), row.source_index > 0 ? ` [${row.source_index}]` : "") },
      { name: "Reason", free: true, value: (row) => row.reason, cell: (row) => row.reason },
      { name: "Detail", value: cause, cell: (row) => h("span", { class: "text-cell" }, cause(row)) },
      { name: "Shape", value: (row) => row.shape, cell: (row) => row.shape || "(no\u00a0shape)" },
      { name: "Rejected", number: true, time: true, value: (row) => row.quarantined_at, cell: (row) => clock(row.quarantined_at) },
      { name: "Redriven", number: true, time: true, value: (row) => row.redriven_at, cell: (row) => row.redriven_at ? clock(row.redriven_at) : "no" },
      { name: "Bytes", number: true, value: (row) => row.value_bytes, cell: (row) => count(row.value_bytes) },
    ], records.rows, (row) => `record-${row.quarantine_id}`, { id: "records" }),
    h("div", { class: "under" }, showing(records), clear, tools("records")),
  ];
}

export function record(address) {
  const queries = () => ({ record: [`quarantine-records/${encodeURIComponent(address.record)}`, new URLSearchParams()] });
  const panel = (id, title, width, subtitle, render) =>
    ({ id, title, width, subtitle, filters: null, queries, render: ({ record: { rows: [row] } }) => render(row, address) });
  return {
    title: `Rejected record ${address.record}`, timeless: true,
    panels: [
      panel("reason", "Why it was rejected", "full", null, drawReason),
      panel("commands", "Commands", "half", "this page changes nothing, so run these", drawCommands),
      panel("tries", "Redrives", "half", "what today's rules say, and each try, newest first", drawTries),
      panel("sent", "As received", "full", "the first bytes, with secrets redacted", (row) => [
        row.sample === null
          ? h("p", { class: "empty" }, "The bytes aren't text, or may have a secret in them. You see them with ", h("code", {}, `normalizer quarantine show ${row.quarantine_id}`), ".")
          : h("pre", { class: "sample", tabindex: "0", role: "region", "aria-label": "First bytes" }, breaking(row.sample, ",:"))]),
    ],
  };
}

function drawReason(row, address) {
  return [
    h("p", { class: "error" }, cause(row)),
    row.rule ? h("p", {}, `Rejected because ${row.rule}.`) : null,
    facts({
      Record: h("span", { class: "id" }, row.coordinates),
      Execution: row.execution_id ? [execution(address, row.execution_id), row.execution_id_source === "key" ? " from the record's key" : " from its value"] : null,
      "Item of the batch": row.source_index > 0 ? row.source_index : null,
      Reason: h("a", { href: link(address, { show: "quarantine", reason: row.reason }) }, row.reason),
      SQLSTATE: row.sqlstate,
      Shape: row.shape || "(no shape): rejected before it was known",
      Logged: clock(row.recorded_at, { millis: true }),
      Rejected: clock(row.quarantined_at, { millis: true }),
      Redriven: row.redriven_at ? clock(row.redriven_at) : "not yet",
      Size: `${plural(row.value_bytes, "byte")}`,
      "Rules version": row.normalizer_version,
    }),
  ];
}

function drawCommands(row) {
  return [...row.commands.flatMap((one) => [h("h3", {}, one.purpose), command(one.command, one.purpose)]), h("p", {}, guide("rejected"))];
}

/** Reasons that no rule gives. */
const NO_RULE = ["rejected_by_database", "skipped"];

/** Reasons for which the commands give the record what it lacks, with --set. */
const LACKING = { missing_execution_id: "its execution's id", missing_time: "its time" };

/** What the rules of today say of the record, as far as that is known without its bytes. */
function rulesNow(row) {
  if (row.redriven_at) return `It was redriven ${clock(row.redriven_at)}, so nothing is left to try.`;
  if (LACKING[row.reason]) {
    return `The record lacks ${LACKING[row.reason]}, so the rules alone would reject it again. Put it into the command in place of the word after the equals sign.`;
  }
  const dryRun = " A dry run tells you what they make of it. It writes nothing, so you don't see its answer here.";
  if (NO_RULE.includes(row.reason)) return `No rule rejected it.${dryRun.replace("they", "the rules")}`;
  const tried = Math.max(row.normalizer_version, ...row.tries.map((one) => one.normalizer_version));
  if (tried < row.current_rules) return `Version ${tried} of the rules rejected it, and the rules are at version ${row.current_rules} now.${dryRun}`;
  return `Version ${tried} of the rules rejected it, and that's today's version. A dry run and a redrive would give the same answer, ` +
    "unless you add a field with --set or NORMALIZER_SHAPES changed.";
}

function drawTries(row) {
  const now = h("p", {}, rulesNow(row));
  if (!row.tries.length) return [now, ...empty("Nothing has been tried yet.")];
  return [now, table("Each try", [
    { name: "Tried", value: (one) => one.tried_at, cell: (one) => clock(one.tried_at) },
    { name: "Outcome", value: (one) => one.outcome, cell: (one) => one.outcome === "rejected" ? "rejected again" : one.outcome },
    { name: "Detail", value: (one) => one.detail, cell: (one) => h("span", { class: "text-cell" }, one.detail ?? "") },
    { name: "By", value: (one) => one.tried_by, cell: (one) => one.tried_by ?? "–" },
    { name: "Rules version", number: true, value: (one) => one.normalizer_version, cell: (one) => one.normalizer_version ?? "–" },
  ], row.tries, (one) => `try-${one.tried_at}`, { id: "tries" })];
}
