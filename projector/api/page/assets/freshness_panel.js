// How far each partition was read, and whether the projections agree with the events.

import { flag, h } from "./dom.js";
import { ago, count, earliest, plural, span } from "./format.js";
import { empty, stamp } from "./panel_parts.js";
import { table, tools } from "./tables.js";

/** How long ago all projections were last compared completely, by range and by sample; both times are the database's. */
function scopesText({ rows: verdicts, read_at: at }) {
  const said = [["all", "completely"], ["range", "by range"], ["sample", "by sample"]]
    .map(([scope, words]) => [verdicts.map((row) => row[`${scope}_verified_at`]), words])
    .filter(([times]) => times.every(Boolean))
    .map(([times, words]) => `${words} ${span((new Date(at) - Math.min(...times.map((one) => new Date(one)))) / 1000)} ago`);
  return said.length ? `compared ${said.join(", ")}` : "not all compared yet";
}

/** What waits, and how long a record takes, is known only of a partition that somebody reads. */
const whileRead = (row) => (["dead", "stopped", "unclaimed"].includes(row.state) ? { ...row, unread: null, delay_s: null } : row);

export function drawFreshness({ freshness, agreement }) {
  if (!freshness.rows.length) return empty("No record has been read yet. ", h("code", {}, "normalizer run"), " reads the log.");
  const verdicts = agreement.rows;
  const apart = verdicts.filter((row) => row.verdict === "divergent");
  return [
    table("Partitions", [
      { name: "Partition", value: (row) => `${row.topic} ${row.partition}`, cell: (row) => [row.topic, h("b", {}, ` ${row.partition}`)] },
      { name: "Read up to offset", number: true, value: (row) => row.next_offset === null ? null : Number(row.next_offset),
        cell: (row) => row.next_offset === null ? "–" : count(Number(row.next_offset)) },
      { name: "State", value: (row) => row.state, cell: (row) => flag(logState([row]).state, logState([row]).word, true) },
      { name: "Waiting", number: true, value: (row) => row.unread, cell: (row) => row.unread === null ? "–" : count(row.unread) },
      { name: "Last delay", number: true, value: (row) => row.delay_s, cell: (row) => span(row.delay_s) },
      { name: "Last commit", number: true, value: (row) => row.silent_s, cell: (row) => ago(row.silent_s) },
    ], freshness.rows.map(whileRead), (row) => `${row.topic}-${row.partition}`, { id: "freshness" }),
    h("div", { class: "under" }, tools("freshness")),
    h("p", { class: "verdict", "data-state": apart.length ? "bad" : verdicts.length ? "good" : "none" },
      verdicts.length === 0
        ? ["Not compared with the stored events yet: ", h("code", {}, "projector verify"), "."]
        : apart.length
          ? `${plural(apart.length, "projection disagrees", "projections disagree")} with the stored events, ` +
            `the oldest since ${stamp(earliest(apart.map((row) => row.divergent_since)))}: ` +
            `${apart.map((row) => row.projection).join(", ")}.`
          : `${plural(verdicts.length, "projection agrees", "projections agree")} with the stored events, ` +
            `${scopesText(agreement)}.`),
  ];
}

/** The state of the log in one word: that of its worst partition. */
export function logState(rows) {
  const has = (...states) => rows.some((row) => states.includes(row.state));
  if (has("dead")) return { word: "No reader", state: "bad" };
  if (has("stopped")) return { word: "Stopped", state: "bad" };
  if (has("unclaimed")) return { word: "Not claimed", state: "bad" };
  if (has("broker_away")) return { word: "Broker away", state: "bad" };
  if (has("behind")) {
    return { word: `Behind ${span(Math.max(...rows.map((row) => row.behind_s ?? 0)))}`, state: "warn" };
  }
  if (!rows.length) return { word: "–", state: null };
  return has("reading") ? { word: "Reading", state: null } : has("caught_up") ? { word: "Caught up", state: null, caughtUp: true } : { word: "From a file", state: null };
}
