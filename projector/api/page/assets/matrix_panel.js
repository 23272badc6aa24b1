// Finished calls by attempts and status: count, share and trend in each cell.

import { link } from "./router.js";
import { h, status } from "./dom.js";
import { STATUSES, attempt, count, percent, windowText } from "./format.js";
import { empty } from "./panel_parts.js";
import { spark } from "./spark.js";

export function drawMatrix({ matrix }, { address }) {
  const { rows } = matrix;
  if (!rows.length) return empty(`No call finished ${windowText(address)}.`);
  const attempts = [...new Set(rows.map((row) => row.attempts))].sort((a, b) => a - b);
  const statuses = [...STATUSES, ...new Set(rows.map((row) => row.status).filter((one) => !STATUSES.includes(one)))];
  const at = new Map(rows.map((row) => [`${row.attempts} ${row.status}`, row]));
  const all = rows.reduce((sum, row) => sum + row.calls, 0);
  const ofAll = (some) => ({ calls: some.reduce((sum, row) => sum + row.calls, 0),
    trend: some.length ? some[0].trend.map((_, n) => some.reduce((sum, row) => sum + (row.trend[n] ?? 0), 0)) : [] });
  const total = (some) => {
    const { calls, trend } = ofAll(some);
    return { calls, trend, share_of_attempt: all ? calls / all : null };
  };
  return [
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Finished calls by attempt and status" },
      h("table", { class: "matrix outcome-matrix" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Attempt"),
          statuses.map((word) => h("th", { scope: "col" }, status(word))), h("th", { scope: "col" }, "All"))),
        h("tbody", {},
          attempts.map((n) => {
            const own = rows.filter((row) => row.attempts === n);
            return h("tr", { "data-key": `attempt-${n}` }, h("th", { scope: "row" }, attempt(n)),
              statuses.map((word) => cell(at.get(`${n} ${word}`), matrix, address, n, word)),
              cell(total(own), matrix, address, n, null));
          }),
          h("tr", { class: "total", "data-key": "all" }, h("th", { scope: "row" }, "all attempts"),
            statuses.map((word) => cell(total(rows.filter((row) => row.status === word)), matrix, address, null, word)),
            cell(total(rows), matrix, address, null, null))))),
    matrix.unfinished ? h("div", { class: "under" }, h("span", {}, "The dashed end of a trend is not complete yet.")) : null,
  ];
}

/** One cell: the count leads, the share of its row and the trend follow. */
function cell(row, matrix, address, n, word) {
  if (!row || !row.calls) return h("td", { class: "heat none" }, h("span", {}, h("b", {}, "0")));
  const changes = { show: "calls", status: word ?? address.status ?? null, attempts: n ?? address.attempts ?? null };
  return h("td", { class: "heat", "data-status": word },
    h("a", { href: link(address, changes),
      "aria-label": `${n === null ? "all attempts" : attempt(n)}, ${word ?? "all"}: ${count(row.calls)} calls, ${percent(row.share_of_attempt)}` },
    h("b", {}, count(row.calls)), h("small", {}, percent(row.share_of_attempt)),
    spark(row.trend, { unfinished: matrix.unfinished })));
}
