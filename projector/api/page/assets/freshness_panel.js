// How far each partition was read, and whether the projections agree with the events.

import { flag, h } from "./dom.js";
import { ago, between, clock, count, earliest, plural, span } from "./format.js";
import { guide } from "./guides.js";
import { empty, stamp, sum } from "./panel_parts.js";
import { table, tools } from "./tables.js";

/** What the last comparison of a projection covered. */
function rangeText({ scope, compared_since: since, compared_until: until }) {
  if (scope === "all") return "everything";
  if (scope === "sample") return "a sample";
  if (since && until) return between(since, until);
  return since ? `since ${stamp(since)}` : until ? `until ${stamp(until)}` : "some executions";
}

/** A sentence for each range that was compared: words(rows) says something of its projections. */
function byRange(rows, words) {
  const ranges = new Map();
  for (const row of rows) ranges.set(rangeText(row), [...(ranges.get(rangeText(row)) ?? []), row]);
  return [...ranges].map(([range, some]) => words(some, range));
}

/** How long ago all projections were last compared completely, by range and by sample; both times are the database's. */
function scopesText({ rows: verdicts, read_at: at }) {
  const said = [["all", "completely"], ["range", "by range"], ["sample", "by sample"]]
    .map(([scope, words]) => [verdicts.map((row) => row[`${scope}_verified_at`]), words])
    .filter(([times]) => times.every(Boolean))
    .map(([times, words]) => `${words} ${span((new Date(at) - Math.min(...times.map((one) => new Date(one)))) / 1000)} ago`);
  return said.length ? `Compared ${said.join(", ")}.` : "Not all are compared yet.";
}

/** The projections that disagree with the stored events. */
export const apartFrom = (agreement) => agreement?.rows.filter((row) => row.verdict === "divergent") ?? [];

/** Whether the projections agree with the stored events, and how much of them was compared. */
function verdictText(agreement) {
  const { rows } = agreement;
  if (!rows.length) return { state: "none", words: ["Not compared with the stored events yet: ", h("code", {}, "projector verify"), "."] };
  const apart = apartFrom(agreement);
  if (apart.length) {
    return { state: "bad", words: `${plural(apart.length, "projection disagrees", "projections disagree")} with the stored events, ` +
      `the oldest since ${stamp(earliest(apart.map((row) => row.divergent_since)))}: ${apart.map((row) => row.projection).join(", ")}.` };
  }
  const agreeing = rows.filter((row) => row.verdict === "match" && row.compared);
  const late = rows.filter((row) => row.verdict === "inconclusive");
  return { state: agreeing.length && !late.length ? "good" : "none", words: [
    ...byRange(agreeing, (some, range) => `${plural(some.length, "projection agrees", "projections agree")} with the stored events: ` +
      `${plural(sum(some, "compared"), "row")} compared (${range}).`),
    ...byRange(rows.filter((row) => row.verdict === "match" && !row.compared), (some, range) =>
      `${plural(some.length, "projection")} had nothing to compare (${range}), which is no agreement.`),
    ...byRange(late, (some, range) => `${plural(some.length, "comparison")} took too long and has no result (${range}).`),
    scopesText(agreement),
  ].join(" ") };
}

/** What waits, and how long a record takes, is known only of a partition that somebody reads. */
const whileRead = (row) => (isRead(row) ? row : { ...row, unread: null, delay_s: null });
/** In a crash loop, the last commit may be just now, although nobody reads: its time says that it's over. */
const isRead = (row) => !["dead", "stopped", "unclaimed"].includes(row.state);

export function drawFreshness({ freshness, agreement }) {
  if (!freshness.rows.length) return empty("No record has been read yet. ", h("code", {}, "normalizer run"), " reads the log.");
  const { state, words } = verdictText(agreement);
  return [
    table("Partitions", [
      { name: "Partition", value: (row) => `${row.topic} ${row.partition}`, cell: (row) => [row.topic, h("b", {}, ` ${row.partition}`)] },
      { name: "Read up to offset", number: true, value: (row) => row.next_offset === null ? null : Number(row.next_offset),
        cell: (row) => row.next_offset === null ? "–" : count(Number(row.next_offset)) },
      { name: "State", value: (row) => row.state, cell: (row) => flag(logState([row]).state, logState([row]).word, true) },
      { name: "Waiting", number: true, value: (row) => row.unread, cell: (row) => row.unread === null ? "–" : count(row.unread) },
      { name: "Last delay", number: true, value: (row) => row.delay_s, cell: (row) => span(row.delay_s) },
      { name: "Last commit", number: true, value: (row) => row.silent_s, cell: (row) => (isRead(row) ? ago(row.silent_s) : clock(row.last_committed_at)) },
    ], freshness.rows.map(whileRead), (row) => `${row.topic}-${row.partition}`, { id: "freshness" }),
    h("div", { class: "under" }, tools("freshness"), missingState(freshness) ? guide(missingState(freshness)) : null),
    h("p", { class: "verdict", "data-state": state }, words, state === "bad" ? [" ", guide("divergent")] : null),
  ];
}

/** The figures of a log that is further behind than this say so on every screen. */
const MOST_BEHIND_S = 60;
/** Why partitions are not read, and since when; `which` are all of the log or some of its partitions. */
const UNREAD = [
  { state: "dead", is: (row) => row.state === "dead", at: "heartbeat_at", words: (which, at) => `Nobody has read ${which}${at ? ` since ${at}` : " yet"}` },
  { state: "stopped", is: (row) => row.state === "stopped", words: (which) => `The normalizer has left ${which} unread, and its log says why` },
  { state: "unclaimed", is: (row) => row.state === "unclaimed", words: (which) => `Nobody has read ${which} yet` },
  { state: "broker_away", is: (row) => row.state === "broker_away", at: "end_seen_at",
    words: (which, at) => `The broker hasn't answered the normalizer${which === "the log" ? "" : ` for ${which}`}${at ? ` since ${at}` : ""}` },
  { state: "behind", is: (row) => row.state === "behind" && !(row.behind_s <= MOST_BEHIND_S), words: (which, at, some) =>
    `The views are ${some.every((row) => row.behind_s) ? `${span(Math.max(...some.map((row) => row.behind_s)))} ` : ""}behind ${which}` },
];

/** The worst of these states. */
export const missingState = ({ rows }) => UNREAD.find(({ is }) => rows.some(is))?.state;

/** What every figure lacks, in words: nobody reads the log, or it is read late. "" if nothing is missing. */
export function missingText(freshness) {
  const { rows } = freshness;
  const late = rows.filter((row) => UNREAD.some(({ is }) => is(row)));
  if (!late.length) return "";
  const causes = UNREAD.map(({ is, at, words }) => {
    const some = rows.filter(is);
    const which = some.length === rows.length ? "the log" : `${count(some.length)} of ${plural(rows.length, "partition")}`;
    const since = at && earliest(some.map((row) => row[at]));
    return some.length ? `${words(which, since && clock(since), some)}. ` : "";
  }).join("");
  if (!late.every((row) => row.as_of)) return `${causes}Not all that was sent is here.`;
  const known = clock(earliest(late.map((row) => row.as_of)));
  return `${causes}What came ${causes.includes(`since ${known}.`) ? "later" : `after ${known}`} isn't here.`;
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
  return has("reading") ? { word: "Reading", state: null } : { word: "Caught up", state: null, caughtUp: true };
}
