// Events per second, rejected records and coercions.

import { REASONS } from "./coercions.js";
import { link } from "./router.js";
import { h } from "./dom.js";
import { guide } from "./guides.js";
import { clock, count, rate, windowText } from "./format.js";
import { expandButton, figures, fullMinute, grouped, knownUntil, nothing, stacked, sum, tally } from "./panel_parts.js";

export function drawRates({ rates }) {
  const now = fullMinute(knownUntil(rates));
  const rows = rates.rows.filter((row) => new Date(row.at).getTime() < now);
  if (!rows.length) {
    return nothing(rates, rates.rows.length ? "No full minute has been read yet." : "No event in the last two hours.");
  }
  const until = fullMinute(new Date(rates.read_at));
  const drawn = stacked({ ...rates, rows, until }, "event_type", "events_per_s", "area", now);
  const last = rows.filter((row) => row.at === rows[0].at);
  return {
    nodes: figures("rates", drawn.spec, "Events per second",
      `events per second, ${rate(sum(last, "events_per_s"))} in the minute of ${clock(rows[0].at)}`, drawn.entries, [
        { name: "Minute", cell: (row) => clock(row.at), value: (row) => row.at },
        { name: "Type", free: true, cell: (row) => row.event_type, value: (row) => row.event_type },
        { name: "Events", number: true, cell: (row) => count(row.events), value: (row) => row.events },
        { name: "Per second", number: true, cell: (row) => rate(row.events_per_s), value: (row) => row.events_per_s },
      ], rows),
    charts: { rates: { ...drawn.spec, unit: "/s", height: 18 } },
  };
}

export function drawQuarantine({ counts }, { address, expanded }) {
  const entries = grouped(counts.rows, "reason", "shape", "rejected");
  if (!entries.length) return nothing(counts, `No record was rejected ${windowText(address)}.`);
  const linked = entries.map((one) => ({ ...one, href: link(address, { show: "quarantine", reason: one.what }) }));
  return [tally(linked, expanded), h("div", { class: "under" },
    h("a", { href: link(address, { show: "quarantine" }) }, "The rejected records"),
    guide("rejected"), expandButton("quarantine", entries, expanded, "reason"))];
}

export function drawCoercions({ coercions }, { address, expanded }) {
  const entries = grouped(coercions.rows, "rule", "shape", "coercions");
  if (!entries.length) return nothing(coercions, `No value was changed or guessed ${windowText(address)}.`);
  const explained = entries.map((one) => ({ ...one, detail: [REASONS[one.what], one.detail].filter(Boolean).join(": ") }));
  return [tally(explained, expanded), h("div", { class: "under" }, expandButton("coercions", entries, expanded, "rule"))];
}
