// How executions ended over time, and how often calls failed.

import { link } from "./router.js";
import { h } from "./dom.js";
import { between, clock, count, millis, per, percent, plural, points, windowText } from "./format.js";
import { STEP_MS, bins, expandButton, figures, knownUntil, limit, most, noBefore, nothing, rateOf, reserved, stamp, steady, sum, worstFirst } from "./panel_parts.js";
import { table, tools } from "./tables.js";

const MARKS_SHOWN = 3;

/** The versions that began within the bins of a chart: their answer is seldom requested, so its window may be an older one. */
const within = ({ rows }, { x, step }) => rows.filter((row) => millis(row.first_at) >= x[0] && millis(row.first_at) < x.at(-1) + step);
/** The first execution of each version of a playbook, as marks of a chart. */
const marksOf = (rows) => rows.map((row) => ({ at: millis(row.first_at), word: `${versionName(row)} began ${clock(row.first_at)}` }));
const versionName = (row) => (row.version === null ? row.playbook : `${row.playbook} v${row.version}`);

/** The marks of a chart in words, the latest first, each a link to its playbook's versions. */
function markList(rows, address) {
  if (!rows.length) return h("p", { class: "under marks", "data-key": "marks", ...reserved(false) }, h("a", {}, "▾"));
  const shown = rows.length > MARKS_SHOWN ? 1 : rows.length;
  return h("p", { class: "under marks", "data-key": "marks" }, h("span", {}, shown < rows.length ? "▾ The latest new version:" : "▾ Began for the first time:"),
    rows.slice(0, shown).map((row) => h("a", { "data-key": `${row.playbook}~${row.version}`, "data-mark": millis(row.first_at), href: link(address, { show: "playbooks", playbook: row.playbook }) },
      `${versionName(row)}, ${clock(row.first_at)}`)),
    rows.length > shown ? h("a", { href: link(address, { show: "playbooks", sort: "versions:First began:down" }) }, `All ${plural(rows.length, "new version")}`) : null);
}

export function drawOutcomes({ outcomes, deployments }, { address, go }) {
  const { rows } = outcomes;
  if (!rows.length) return nothing(outcomes, `No execution began or ended ${windowText(address)}.`);
  const at = new Map(rows.map((row) => [new Date(row.at).getTime(), row]));
  const x = bins(outcomes);
  const step = STEP_MS[outcomes.every];
  const series = (name) => x.map((one) => at.get(one)?.[name] ?? 0);
  const those = (at) => link(address, { show: "executions", time: "ended_at", since: new Date(at).toISOString(), until: new Date(at + step).toISOString() });
  const begun = within(deployments, { x, step });
  const entries = [["failed", "failed"], ["cancelled", "cancelled"], ["completed", "completed"]];
  const spec = {
    x, step, height: 16, now: knownUntil(outcomes), marks: marksOf(begun),
    hover: (one) => (outcomes.every === "minute" ? stamp(one, "minute") : between(one, one + step)),
    // Failures are at the bottom, because only bars with a common base can be compared.
    // Those that began are in the figures: a burst of them would make the bars too small to see.
    traces: entries.map(([name, colour]) => ({ name, colour, as: "bar", y: series(name) })),
    clicked: (n) => go(those(x[n])),
  };
  const words = `executions ${windowText(address)}: ${count(sum(rows, "completed"))} completed, ` +
    `${count(sum(rows, "failed"))} failed, ${count(sum(rows, "cancelled"))} cancelled, ` +
    `${count(sum(rows, "begun"))} begun`;
  return {
    nodes: [...figures("outcomes", spec, `Executions ${per(step)}`, words, entries, [
      { name: { day: "Day from", hour: "Hour from", minute: "Minute" }[outcomes.every], value: (row) => row.at, cell: (row) =>
        h("a", { href: those(new Date(row.at).getTime()) }, stamp(row.at, outcomes.every)) },
      ...["completed", "failed", "cancelled", "begun"].map((name) =>
        ({ name, number: true, value: (row) => row[name], cell: (row) => count(row[name]) })),
    ], rows), markList(begun, address)],
    charts: { outcomes: spec },
  };
}

/** By how much the error rate of a step changed. A new step has no rate to compare with. */
const growth = (row) => (row.callsBefore ? row.rate - row.before : null);

/** How often calls failed over time, in this window and the one before, and each step beside its own window before. */
export function drawRate({ now, before, errors, stepsBefore, deployments }, { address, expanded }) {
  if (!now.rows.length) return nothing(now, `No call finished ${windowText(address)}.`);
  const step = STEP_MS[now.every];
  const x = bins(now);
  // Its own length, because its query runs less often, and may still be that of a minute ago.
  const length = new Date(before.until) - new Date(before.since);
  const rates = (answer, shift) => {
    const at = new Map(answer.rows.map((row) => [new Date(row.at).getTime() + shift, row.error_rate * 100]));
    return x.map((one) => at.get(one) ?? null);
  };
  const begun = within(deployments, { x, step });
  const spec = { x, step, height: 12, now: knownUntil(now), unit: " %", marks: marksOf(begun),
    hover: (one) => (now.every === "minute" ? stamp(one, "minute") : between(one, one + step)),
    traces: [
      { name: "this window", colour: "failed", as: "line", y: rates(now, 0) },
      // It is complete, but ends where this window is not known yet.
      { name: "the window before", colour: "cancelled", as: "line", y: rates(before, length) },
    ] };
  const steps = [...new Set(errors.rows.map((row) => row.step))].map((name) => {
    const rows = errors.rows.filter((row) => row.step === name);
    const then = stepsBefore.rows.find((row) => row.step === name);
    return { step: name, calls: sum(rows, "calls"), failed: sum(rows, "failed"), rate: rateOf(rows), before: then?.error_rate ?? null,
      callsBefore: then?.calls ?? 0 };
  });
  const order = steady("rate", steps.sort(worstFirst(steps)), (row) => `rate-${row.step}`);
  const drawn = limit(steps, expanded, 5);
  return {
    nodes: [
      ...figures("rate", spec, `Error rate in percent, ${per(step)}`,
        `error rate ${windowText(address)}: ${percent(rateOf(now.rows))}, ${percent(rateOf(before.rows))} in the window before`,
        [["this window", "failed"], ["the window before", "cancelled"]], [
          { name: "From", value: (row) => row.at, cell: (row) => stamp(row.at, now.every) },
          { name: "Calls", number: true, value: (row) => row.calls, cell: (row) => count(row.calls) },
          { name: "Failed", number: true, value: (row) => row.failed, cell: (row) => count(row.failed) },
          { name: "Error rate", number: true, value: (row) => row.error_rate, cell: (row) => percent(row.error_rate) },
        ], now.rows),
      most(now.rows.map((row) => ({ at: row.at, calls: row.failed })), step, address),
      noBefore(now) ? h("p", { class: "under", "data-key": "no-before" }, h("span", {}, `There are ${noBefore(now)}, so the window before says little.`)) : null,
      markList(begun, address),
      table("Error rate by step, in this window and the one before", [
        { name: "Step", value: (row) => row.step, cell: (row) => h("a", { href: link(address, { show: "errors", step: row.step }) }, row.step || "(no step)") },
        { name: "Error rate", number: true, value: (row) => row.rate, cell: (row) => percent(row.rate) },
        { name: "Before", number: true, value: (row) => row.before, cell: (row) => (row.callsBefore || noBefore(now) ? percent(row.before)
          : h("span", { title: "No call of it ended in the window before" }, "new")) },
        { name: "Change", number: true, value: growth, cell: (row) => points(growth(row)) },
        { name: "Failed", number: true, value: (row) => row.failed, cell: (row) => count(row.failed) },
        { name: "Calls", number: true, value: (row) => row.calls, cell: (row) => count(row.calls) },
      ], order, (row) => `rate-${row.step}`, { id: "rate", ...drawn }),
      h("div", { class: "under" }, tools("rate"), expandButton("rate", steps, expanded, "step", 5)),
    ],
    charts: { rate: spec },
  };
}
