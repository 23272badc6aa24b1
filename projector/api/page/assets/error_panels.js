// Calls without success: rates by step and attempt, first-attempt success, and the errors that became more frequent.

import { link } from "./router.js";
import { h } from "./dom.js";
import { guide } from "./guides.js";
import { attempt, count, millis, percent, windowText } from "./format.js";
import { FEW_CALLS, nothing, errorText, expandButton, failedCalls, limit, noBefore, novelty, some, steady, sum, trendTimes, worstFirst } from "./panel_parts.js";
import { spark } from "./spark.js";
import { table, tools } from "./tables.js";

function heat(row) {
  if (!row || !row.calls) return null;
  if (row.error_rate === 0) return "0";
  return row.error_rate < 0.02 ? "1" : row.error_rate < 0.1 ? "2" : row.error_rate < 0.25 ? "3" : "4";
}

export function drawErrors({ errors }, { address, expanded }) {
  const { rows } = errors;
  if (!rows.length) return nothing(errors, `No call finished ${windowText(address)}.`);
  const attempts = [...new Set(rows.map((row) => row.attempts))].sort((a, b) => a - b);
  const steps = new Map();
  const total = new Map();
  for (const row of rows) {
    if (!steps.has(row.step)) steps.set(row.step, new Map());
    steps.get(row.step).set(row.attempts, row);
    const all = total.get(row.attempts) ?? { calls: 0, failed: 0 };
    all.calls += row.calls;
    all.failed += row.failed;
    all.error_rate = all.failed / all.calls;
    total.set(row.attempts, all);
  }
  const failed = (cells) => sum([...cells.values()], "failed");
  const sorted = [...steps].sort((a, b) => failed(b[1]) - failed(a[1]) || (a[0] < b[0] ? -1 : 1));
  const order = steady("errors", sorted, ([step]) => `step-${step}`);
  const cell = (row, step, n) => row && h(row.failed ? "a" : "span", row.failed
    ? { href: failedCalls(address, { step, attempts: n }) }
    : {}, h("b", {}, percent(row.error_rate)), " ", h("small", {}, `${count(row.failed)} of ${count(row.calls)}`),
    row.failed ? h("span", { class: "hidden" }, ` calls failed, ${step ?? "all steps"}, ${attempt(n)}`) : null);
  const lines = [[null, total], ...order];
  return [
    table("Error rate by step and attempt", [
      { name: "Step", value: ([step]) => step ?? "all steps", cell: ([step]) => step === null ? "all steps" : step || "(no step)" },
      ...attempts.map((n) => ({ name: attempt(n), heat: true, value: ([, cells]) => cells.get(n)?.error_rate ?? null, cell: ([step, cells]) => cell(cells.get(n), step ?? address.step, n),
        marks: ([, cells]) => ({ "data-heat": heat(cells.get(n)), "data-few": cells.get(n)?.calls < FEW_CALLS ? "" : null }) })),
    ], lines, ([step]) => step === null ? "all" : `step-${step}`, { id: "errors", kind: "matrix", fixed: ([step]) => step === null, ...limit(lines, expanded) }),
    h("div", { class: "under" },
      h("ul", { class: "key", "aria-hidden": "true" },
        [["1", "under 2%"], ["2", "2–10%"], ["3", "10–25%"], ["4", "25% and more"]].map(([level, word]) =>
          h("li", { "data-heat": level }, word)),
        h("li", { "data-heat": "4", "data-few": "" }, `under ${FEW_CALLS} calls`)),
      tools("errors"), expandButton("errors", lines, expanded, "row")),
  ];
}

export function drawFirst({ first }, { address, expanded }) {
  const counted = first.rows.map((row) => ({ ...row, failed: row.calls - row.succeeded }));
  const sorted = counted.sort(worstFirst(counted));
  const rows = steady("first", sorted, (row) => `first-${row.step}`);
  if (!rows.length) return nothing(first, `No first attempt finished ${windowText(address)}.`);
  return [
    h("ol", { class: "bars" }, some(rows, expanded).map((row) =>
      h("li", { "data-key": `first-${row.step}` },
        h("a", { href: failedCalls(address, { step: row.step, attempts: 0 }) },
          h("span", { class: "what" }, row.step || "(no step)"),
          h("span", { class: "bar", "aria-hidden": "true", vars: { "--share": row.success_rate } }),
          h("b", {}, percent(row.success_rate)),
          h("small", {}, `${count(row.succeeded)} of ${count(row.calls)}`))))),
    h("div", { class: "under" }, expandButton("first", rows, expanded, "step")),
  ];
}

export function drawWhy({ why }, { address, expanded }) {
  const more = (row) => row.calls - row.calls_before;
  // Without a window before nearly every error is new, so their times say nothing.
  const begun = (row) => (row.new && !noBefore(why) ? millis(row.first_seen_at) : 0);
  const sorted = [...why.rows].sort((a, b) => begun(b) - begun(a) || more(b) - more(a) || b.calls - a.calls);
  const rows = steady("why", sorted, (row) => `why-${row.error_class}`);
  if (!rows.length) return nothing(why, `No call failed ${windowText(address)}.`);
  return [
    h("ol", { class: "bars groups" }, some(rows, expanded).map((row) =>
      h("li", { "data-key": `why-${row.error_class}` },
        h("a", { href: link(address, { show: "error", error_class: row.error_class }) },
          h("span", { class: "what" }, errorText(row)), novelty(row),
          spark(row.trend, trendTimes(why)),
          h("b", {}, count(row.calls)), h("small", {}, noBefore(why) ? percent(row.share) : `before ${count(row.calls_before)}`))))),
    h("div", { class: "under" },
      h("a", { href: link(address, { show: "errors" }) }, "All errors"),
      h("a", { href: failedCalls(address) }, "All calls without success"), guide("failed"),
      expandButton("why", rows, expanded, "group"),
      noBefore(why) && rows.some((row) => row.new || row.back) ? h("span", {}, `There are ${noBefore(why)}, so an old error may look new, and the most frequent is first.`) : null),
  ];
}
