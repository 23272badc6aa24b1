// The row of figures above the panels: value, trend, and change against the window before.

import { clock, count, percent, plural, rate, span, windowText } from "./format.js";
import { fullMinute, knownUntil, noBefore, sum, trendTimes, unreadIf } from "./panel_parts.js";
import { apartFrom, logState } from "./freshness_panel.js";
import { link } from "./router.js";
import { spark } from "./spark.js";
import { silence, stuckInAll } from "./stuck_panel.js";

const STATES = { warn: "warn", critical: "bad" };

export const tileOf = (answer, name) => answer?.rows.find((row) => row.tile === name) ?? null;

/** +1.3 points, -12: against the window of the same length before. */
export function change(tile, answer, { ratio = false } = {}) {
  const known = typeof tile?.change === "number";
  if (tile && (ratio || known) && noBefore(answer)) return noBefore(answer);
  if (!known) return "";
  const sign = tile.change > 0 ? "+" : "−";
  const size = Math.abs(tile.change);
  if (size < (ratio ? 0.0005 : 1)) return "as before";
  return `${sign}${ratio ? `${(size * 100).toFixed(1)} points` : count(size)} vs before`;
}

/** What has a share as its value has shares as its trend. */
const SHARES = ["executions_completed", "first_attempt_success"];
const trend = (tile, answer) => tile && spark(tile.trend ?? [], { ...trendTimes(answer), level: tile.level, write: SHARES.includes(tile.tile) ? percent : undefined });

/** The most important figures; `live`: age of the data in seconds, records per second. */
export function headline(answers, address, live) {
  const { tiles, storms: now, retries, rates } = answers;
  const done = tileOf(tiles, "executions_completed");
  const first = tileOf(tiles, "first_attempt_success");
  return [
    theLog(answers, live),
    { to: "outcomes", name: "Executions completed", value: tiles ? percent(done?.value ?? null) : "…",
      detail: done ? unreadIf(!done.denominator, tiles) ?? `${count(done.numerator)} of ${count(done.denominator)} ended` : "", versus: change(done, tiles, { ratio: true }),
      trend: trend(done, tiles), state: STATES[done?.level] ?? null },
    { to: "first", name: "First-attempt success", value: tiles ? percent(first?.value ?? null) : "…",
      detail: first ? unreadIf(!first.denominator, tiles) ?? `${count(first.numerator)} of ${count(first.denominator)} calls` : "", versus: change(first, tiles, { ratio: true }),
      trend: trend(first, tiles), state: STATES[first?.level] ?? null },
    retriesNow(now, retries),
    stuckNow(answers, tiles),
    { ...rejectedIn(tiles, address), trend: trend(tileOf(tiles, "rejected"), tiles) },
  ];
}

export function rejectedIn(tiles, address) {
  const tile = tileOf(tiles, "rejected");
  const unknown = tiles && unreadIf(!tile?.value, tiles);
  return { to: "quarantine", href: tile?.value && !unknown ? link(address, { show: "quarantine" }) : null, name: "Records rejected", value: tiles ? count(unknown ? null : tile?.value) : "…",
    detail: unknown ?? (tile ? `${percent(tile.denominator ? tile.value / tile.denominator : null)} of ${plural(tile.denominator, "event")}` : ""),
    versus: unknown ? "" : change(tile, tiles), state: STATES[tile?.level] ?? null };
}

/** What is missing although every record was read: those that were rejected, and a comparison with the stored events. */
function lacking(tiles, agreement) {
  const rejected = tileOf(tiles, "rejected")?.value;
  const isCompared = !agreement || agreement.rows.some((row) => row.verdict === "match" && row.compared);
  return [rejected ? `${count(rejected)} rejected` : null, isCompared ? null : "not compared"].filter(Boolean).join(", ");
}

export function theLog({ freshness, rates, agreement, tiles }, live) {
  if (!freshness) return { to: "freshness", name: "The log", value: "…", detail: "", trend: null, state: null };
  const log = live.unanswered ? unknown(freshness) : logState(freshness.rows);
  const lacks = lacking(tiles, agreement);
  const apart = log.state ? 0 : apartFrom(agreement).length;
  return { to: "freshness", name: "The log", value: log.word,
    detail: log.detail ?? (apart ? plural(apart, "projection disagrees", "projections disagree") : live.age === null ? (freshness.rows.length ? "a partition has not been read yet" : "no record has been read yet") : log.state ? `data are ${span(live.age)} old`
      : log.caughtUp ? (lacks ? `all read, ${lacks}` : "every record was read")
        : live.perSecond !== null ? `${rate(live.perSecond)} records/s` : `data are ${span(live.age)} old`),
    title: "Rejected: of the window. Compared: projector verify compares the views with the stored events.",
    versus: "line: last 2 h", trend: rates?.rows.length ? byMinute(rates, "events") : null, state: apart ? "bad" : log.state };
}

const unknown = ({ rows, read_at: at }) =>
  ({ word: "Unknown", state: "bad", detail: `last known: ${logState(rows).word} at ${clock(at)}` });

/** A trend of the full minutes of a window. */
export function byMinute(answer, name) {
  const now = fullMinute(knownUntil(answer));
  const totals = new Map();
  for (const row of answer.rows) {
    const at = new Date(row.at).getTime();
    totals.set(at, (totals.get(at) ?? 0) + Number(row[name]));
  }
  const bins = [];
  for (let at = Math.ceil(new Date(answer.since) / 60000) * 60000; at < now; at += 60000) bins.push(at);
  return spark(bins.map((at) => totals.get(at) ?? 0), { x: bins, step: 60000, now });
}

/** Of retry storms: whether nothing of the last five minutes was read. Others may have read a part. */
export const stormsUnread = (now) => unreadIf(!sum(now.rows, "per_minute_now"), now, new Date(now.read_at) - 300000);

export function retriesNow(now, retries) {
  const inStorm = now && now.rows.filter((row) => row.storm);
  const unknown = now && stormsUnread(now);
  return { to: "storms", name: "Retries/min, last 5 min", value: now ? rate(unknown ? null : sum(now.rows, "per_minute_now")) : "…",
    detail: !now ? "" : unknown ? unknown : inStorm.length ? `${plural(inStorm.length, "step")} in a storm` :
      `${rate(sum(now.rows, "per_minute_baseline"))}/min in the hour before`,
    versus: "line: last 2 h", trend: retries?.rows.length ? byMinute(retries, "retries") : null, state: inStorm?.length ? "bad" : null };
}

export function stuckNow(answers, tiles) {
  const ages = answers.stuck && answers.ages;
  const n = ages && stuckInAll(ages);
  const silent = ages?.rows.filter((row) => row.begun);
  const tile = tileOf(tiles, "stuck");
  return { to: "stuck", name: "Stuck executions, now", value: ages ? count(n) : "…",
    detail: n ? `silent for ${silence(silent)}`
      : "not ended, silent for 5 minutes",
    title: "The line counts those that are stuck now, by the time of their last event. Nobody knows how many were stuck earlier.",
    versus: n ? "line: when they fell silent" : "", trend: n ? trend(tile, tiles) : null,
    state: STATES[tile?.level] ?? (n ? "warn" : null) };
}
