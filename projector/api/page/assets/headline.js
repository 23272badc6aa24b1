// The row of figures above the panels.

import { count, percent, plural, rate, span, windowText } from "./format.js";
import { sum } from "./panel_parts.js";
import { logState } from "./freshness_panel.js";
import { stuckInAll } from "./stuck_panel.js";

/** The most important figures; `live`: age of the data in seconds, records per second. */
export function headline(answers, address, live) {
  const { outcomes, first, storms: now, refused } = answers;
  const ages = answers.stuck && answers.ages;
  const ended = outcomes && sum(outcomes.rows, "completed") + sum(outcomes.rows, "failed") +
    sum(outcomes.rows, "cancelled");
  const failed = outcomes && sum(outcomes.rows, "failed");
  const calls = first && sum(first.rows, "calls");
  const succeeded = first && sum(first.rows, "succeeded");
  const inStorm = now && now.rows.filter((row) => row.storm);
  const log = logState(answers.freshness?.rows ?? []);
  const state = (bad, warn) => (bad ? "bad" : warn ? "warn" : null);
  return [
    { to: "freshness", name: "The log", value: log.word,
      detail: live.age === null ? "no record has been read yet" : log.state ? `data are ${span(live.age)} old`
        : live.perSecond === null ? "every record is included" : `${rate(live.perSecond)} records/s`,
      state: log.state },
    { to: "outcomes", name: "Executions completed",
      value: outcomes ? percent(ended ? sum(outcomes.rows, "completed") / ended : null) : "…",
      detail: outcomes ? `${count(failed)} failed of ${count(ended)} ended` : "", state: null },
    { to: "first", name: "First-attempt success",
      value: first ? percent(calls ? succeeded / calls : null) : "…",
      detail: first ? `${count(calls - succeeded)} of ${count(calls)} needed a retry or failed` : "", state: null },
    { to: "storms", name: "Retries/min, last 5 min", value: now ? rate(sum(now.rows, "per_minute_now")) : "…",
      detail: !now ? "" : inStorm.length ? `${plural(inStorm.length, "step")} in a storm` :
        `${rate(sum(now.rows, "per_minute_baseline"))} in the hour before`, state: state(inStorm?.length, false) },
    { to: "stuck", name: "Stuck executions, now", value: ages ? count(stuckInAll(ages)) : "…",
      detail: ages && stuckInAll(ages)
        ? `latest one silent for ${span(Math.min(...ages.rows.filter((row) => row.begun).map((row) => row.shortest_s)))}`
        : "not ended, silent for 5 minutes",
      state: state(false, ages && stuckInAll(ages)) },
    { to: "quarantine", name: "Records refused", value: refused ? count(sum(refused.rows, "refused")) : "…",
      detail: windowText(address), state: state(false, refused && sum(refused.rows, "refused")) },
  ];
}
