// Finished calls by attempts and status: count, share and trend in each cell.

import { link } from "./router.js";
import { h, status } from "./dom.js";
import { STATUSES, attempt, count, percent, windowText } from "./format.js";
import { nothing, reserved, sum, trendTimes } from "./panel_parts.js";
import { spark } from "./spark.js";
import { table, tools } from "./tables.js";

export function drawMatrix({ matrix }, { address }) {
  const { rows } = matrix;
  if (!rows.length) return nothing(matrix, `No call finished ${windowText(address)}.`);
  const attempts = [...new Set(rows.map((row) => row.attempts))].sort((a, b) => a - b);
  const statuses = [...STATUSES, ...new Set(rows.map((row) => row.status).filter((one) => !STATUSES.includes(one)))];
  const all = sum(rows, "calls");
  const total = (some) => ({ calls: sum(some, "calls"), share_of_attempt: all ? sum(some, "calls") / all : null,
    trend: some.length ? some[0].trend.map((_, n) => some.reduce((added, row) => added + (row.trend[n] ?? 0), 0)) : [] });
  const lines = [...attempts.map((n) => ({ n, own: rows.filter((row) => row.attempts === n) })), { n: null, own: rows }];
  const column = (name, label, word, of) => ({ name, label, heat: true, marks: () => ({ "data-status": word }),
    value: ({ n, own }) => of(own, n)?.calls ?? 0, cell: ({ n, own }) => cell(of(own, n), matrix, address, n, word) });
  return [
    table("Finished calls by attempt and status", [
      { name: "Attempt", value: ({ n }) => n ?? "all", cell: ({ n }) => n === null ? "all attempts" : attempt(n) },
      ...statuses.map((word) => column(status(word), word, word, (own, n) => {
        const some = own.filter((row) => row.status === word);
        return n === null ? total(some) : some[0];
      })),
      column("All", "All", null, (own) => ({ ...total(own), share_of_attempt: null })),
    ], lines, ({ n }) => n === null ? "all" : `attempt-${n}`, { id: "matrix", kind: "matrix outcome-matrix", fixed: ({ n }) => n === null }),
    h("div", { class: "under" }, tools("matrix"),
      h("span", reserved(matrix.unfinished), "The dashed end of a trend isn't complete yet.")),
  ];
}

/**
 * One cell: the count leads, the share of its row, unless it is all of that, and the trend follow. Without a status it
 * is no link: the list has unfinished calls too.
 */
function cell(row, matrix, address, n, word) {
  if (!row?.calls) return h("span", {}, h("b", {}, "0"));
  const share = row.share_of_attempt === null ? null : percent(row.share_of_attempt);
  const chosen = word ?? address.status;
  const trend = spark(row.trend, trendTimes(matrix));
  const inside = [h("b", {}, count(row.calls)), " ", share === null ? null : h("small", {}, share)];
  if (!chosen) return h("div", {}, inside, trend);
  return h("a", { href: link(address, { show: "calls", status: chosen, attempts: n ?? address.attempts ?? null }) }, inside,
    h("span", { class: "hidden" }, ` calls, ${n === null ? "all attempts" : attempt(n)}, ${word ?? "all"}. `), trend);
}
