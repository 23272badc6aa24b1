// Tables that sort, and that can be copied or saved as CSV.

import { current, link } from "./router.js";
import { h } from "./dom.js";

/** The tables on the page by id, with all their rows. */
const tables = new Map();

/** About how wide a column is, in px, and what lies beside a table on a narrow screen. */
const widthOf = (column, n) => (n === 0 ? 140 : column.time ? 84 : column.number ? 54 : column.heat ? 90 : 112);
const EDGES = 50;

/** Whether a table is too wide for a narrow screen, so that each row is a card, and each cell a line with its column's name. */
const asCards = (columns) => innerWidth <= Math.min(900, columns.reduce((all, one, n) => all + widthOf(one, n), EDGES));

/**
 * Columns are { name, label?, cell(row), value(row)?, marks(row)?, number?, time?, wide?, free?, heat?, spare? };
 * a free one has texts of any length; one with a value sorts, and stands in the CSV; a spare one is hidden where a table is too narrow for
 * it. label: the name as text; marks: attributes of the cell.
 * id names the table in the address; limit: how many rows are shown; fixed(row): whether a row,
 * such as one of totals, keeps its place when the others are sorted.
 */
export function table(label, columns, rows, key, { id = null, limit = rows.length, kind = null, fixed = () => false } = {}) {
  const moved = sorted(id, columns, rows.filter((row) => !fixed(row)));
  const order = rows.map((row) => fixed(row) ? row : moved.shift());
  if (id) tables.set(id, { label, columns, rows: order });
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    h("table", { class: [asCards(columns) && "cards", kind].filter(Boolean).join(" ") || null },
      h("thead", {}, h("tr", {}, columns.map((column) => head(id, column)))),
      h("tbody", {}, order.slice(0, limit).map((row) =>
        h("tr", { "data-key": key ? key(row) : null }, columns.map((column, n) =>
          h(n === 0 ? "th" : "td",
            { scope: n === 0 ? "row" : null, "data-label": n === 0 ? null : nameOf(column),
              class: n === 0 ? null : classOf(column), ...column.marks?.(row) },
            column.cell(row))))))));
}

const nameOf = (column) => column.label ?? (typeof column.name === "string" ? column.name : "");

const classOf = (column) => [column.number && "number", column.time && "time", column.wide && "wide", column.free && "free", column.heat && "heat", column.spare && "spare"].filter(Boolean).join(" ") || null;

function head(id, column) {
  const cls = [column.number && "number", column.spare && "spare"].filter(Boolean).join(" ") || null;
  if (!id || !column.value) return h("th", { scope: "col", class: cls }, column.name);
  const [table_, name, direction] = (current.sort ?? "").split(":");
  const on = table_ === id && name === nameOf(column) ? direction : null;
  const next = on === "up" ? "down" : on === "down" ? "up" : column.number ? "down" : "up";
  return h("th", { scope: "col", class: cls, "aria-sort": on ? (on === "up" ? "ascending" : "descending") : null },
    h("a", { class: "sort", href: link(current, { sort: `${id}:${nameOf(column)}:${next}` }) }, column.name,
      h("span", { "aria-hidden": "true" }, on === "up" ? " ↑" : on === "down" ? " ↓" : "")));
}

function sorted(id, columns, rows) {
  const [table_, name, direction] = (current.sort ?? "").split(":");
  const column = table_ === id && columns.find((one) => one.value && nameOf(one) === name);
  if (!column) return rows;
  const sign = direction === "up" ? 1 : -1;
  const rank = (row) => column.value(row);
  return [...rows].sort((a, b) => {
    const [x, y] = [rank(a), rank(b)];
    if (x === null || x === undefined) return y === null || y === undefined ? 0 : 1;
    if (y === null || y === undefined) return -1;
    return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true }));
  });
}

/** Buttons for all rows of a table. */
export function tools(id) {
  return h("span", { class: "tools" },
    h("button", { type: "button", class: "more", "data-table": id, "data-as": "copy", "aria-label": `Copy the table ${labelOf(id)}` }, "Copy"),
    h("button", { type: "button", class: "more", "data-table": id, "data-as": "csv", "aria-label": `Save the table ${labelOf(id)} as CSV` }, "CSV"));
}

const labelOf = (id) => tables.get(id)?.label ?? id;

/** What a spreadsheet would run as a formula in a text gets an apostrophe before it, as in the API's CSV. */
const harmless = (value) => typeof value === "string" ? value.replace(/^(?=[\t\r\n])|(?:^|(?<=[;\t\r\n]))(?=[=+\-@\uff1d\uff0b\uff0d\uff20])/g, "'") : String(value ?? "");

const quoted = (text) => /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;

/** Lines of a table; what has no value has no column. */
function lines(id, join, clean) {
  const { columns, rows } = tables.get(id);
  const kept = columns.filter((column) => column.value);
  return [kept.map(nameOf), ...rows.map((row) => kept.map((column) => column.value(row)))]
    .map((cells) => cells.map((one) => clean(harmless(one))).join(join)).join("\n");
}

/** Copies as text that a spreadsheet takes, or saves as CSV. */
export async function exportTable(id, as) {
  if (as === "copy") return copyText(lines(id, "\t", (one) => one.replace(/[\t\n\r]+/g, " ")));
  save(`${id}.csv`, `${lines(id, ",", quoted)}\n`, "text/csv");
}

/** Selects and copies where the browser has no clipboard for the page: it's neither https nor of this machine, or lacks the permission. */
export async function copyText(text) {
  try {
    return await navigator.clipboard.writeText(text);
  } catch {
    // Then the way below.
  }
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (!copied) throw new Error("the browser doesn't let this page copy");
}

export function save(name, content, type) {
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  anchor.download = name;
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 10000);
}
