// Errors as objects: the list of groups, the page of one, and the calls behind a figure.

import { link, parameters } from "./router.js";
import { facts, flag, h, status } from "./dom.js";
import { attempt, between, clock, count, millis, onAttempt, per, percent, plural, windowText } from "./format.js";
import { callList } from "./lists.js";
import { nothing, errorClass, errorText, execution, expandButton, figures, limit, most, noBefore, novelty, some, trendTimes } from "./panel_parts.js";
import { spark } from "./spark.js";
import { table, tools } from "./tables.js";
import { pace } from "./windows.js";

const FILTERS = ["playbook", "step", "attempts", "status", "worker"];
const few = (values, word) => {
  const first = values.slice(0, 3).map((one, n) => [n ? ", " : "", h("span", {}, word(one))]);
  return h("span", { class: "text-cell" }, first, values.length > 3 ? ` and\u00a0${values.length - 3}\u00a0more` : "");
};

export const errors = (address) => ({ title: titleOf("Errors", address), panels: [groups(address, 50)] });

/** The errors of the window and filters, of which this many are shown at first. */
const groups = (address, shown) => ({
  id: "groups", title: "Groups", width: "full", filters: FILTERS, truncated: () => "the most frequent only",
  subtitle: `calls that failed, had an error, or were cancelled, by error text without ids, ${windowText(address)}`,
  queries: () => ({ groups: ["error-groups", parameters(address, [...FILTERS, "error_class"], { limit: 500 }), pace(address)] }),
  render: (answers, context) => drawGroups(answers, context, shown),
});

const WITHOUT_SUCCESS = ["FAILED", "ERROR", "CANCELLED"];

/** Calls, newest first. If they have no success, what they failed with, how often, and since when stands above them. */
export function calls(address) {
  const failed = address.failed === "true";
  const what = failed ? "Calls without success" : address.status ? `${address.status} calls` : "Calls";
  return { title: titleOf(what, address), panels: [...(failed || WITHOUT_SUCCESS.includes(address.status) ? [groups(address, 5)] : []), callList(address)] };
}

/** What a screen shows, and of which step, attempt, worker, playbook, and error. */
function titleOf(what, address) {
  return [what, address.step !== undefined && ["of", address.step || "(no step)"],
    address.attempts !== undefined && onAttempt(address.attempts),
    address.worker !== undefined && ["by", address.worker || "an unknown worker"], address.playbook !== undefined && ["in", address.playbook || "an unknown playbook"],
    address.error_class !== undefined && ["with the error", errorText(address)]].flat().filter(Boolean);
}

function drawGroups({ groups }, { address, expanded }, shown) {
  const { rows } = groups;
  if (!rows.length) return nothing(groups, `No call failed ${windowText(address)}.`);
  const filtered = FILTERS.some((filter) => address[filter] !== undefined);
  const [fresh, back] = ["new", "back"].map((name) => count(rows.filter((row) => row[name]).length));
  return [
    h("p", {}, `${plural(groups.calls, "call")} without success in ${plural(groups.groups, "group")}; `,
      h("b", {}, `${fresh} new`), ` in this window${back === "0" ? "" : `, ${back} back: seen before, but not in the window before`}`,
      filtered ? ". New is an error that is new anywhere, whatever the filters" : null,
      noBefore(groups) ? `. There are ${noBefore(groups)}, so an old error may look new` : ""),
    table("Error groups", [
      { name: "Error", value: errorText, cell: (row) => h("a", { class: "text-cell", href: link(address, { show: "error", error_class: row.error_class }) },
        errorText(row)) },
      { name: "New", value: (row) => (row.new ? 2 : row.back ? 1 : 0), cell: (row) => novelty(row, true) ?? "" },
      { name: "Calls", number: true, value: (row) => row.calls, cell: (row) => count(row.calls) },
      { name: "Share", number: true, value: (row) => row.share, cell: (row) => percent(row.share) },
      { name: "Before", number: true, spare: true, value: (row) => row.calls_before, cell: (row) => count(row.calls_before) },
      ...(filtered ? filteredTimes(groups) : seenTimes(groups)),
      { name: "Trend", cell: (row) => spark(row.trend, trendTimes(groups)) },
      { name: "Steps", value: (row) => row.steps.join(" "), cell: (row) => few(row.steps, (one) => one || "(no step)") },
      { name: "Attempts", value: (row) => row.attempts.join(" "), cell: (row) => few([...row.attempts].sort((a, b) => a - b), attempt) },
    ], rows, (row) => `group-${row.error_class}`, { id: "groups", ...limit(rows, expanded, shown) }),
    h("div", { class: "under" }, tools("groups"), expandButton("groups", rows, expanded, "group", shown)),
  ];
}

/** When each error occurred first and last, of all calls and of all time. */
const seenTimes = (groups) => [
  { name: "First seen", number: true, time: true, spare: true, value: (row) => row.first_seen_at, cell: (row) => clock(row.first_seen_at) },
  { name: "Last seen", number: true, time: true, value: (row) => row.last_seen_at, cell: (row) =>
    [clock(row.last_seen_at), millis(row.last_seen_at) > millis(groups.read_at) ? [h("br", {}), flag("warn", "clock ahead", true)] : null] },
];

/** The same for the calls of the filters: the server knows in which part of the window, and whether there were some in the window before. */
function filteredTimes(groups) {
  const { x, step } = trendTimes(groups);
  const times = ({ trend }) => x.filter((_, n) => trend[n]);
  const part = (at) => (at === undefined ? "–" : between(at, at + step));
  return [
    { name: "First", number: true, time: true, value: (row) => (row.calls_before ? 0 : times(row)[0]),
      cell: (row) => (row.calls_before ? "before the window" : part(times(row)[0])) },
    { name: "Last", number: true, time: true, value: (row) => times(row).at(-1), cell: (row) => part(times(row).at(-1)) },
  ];
}

export function errorGroup(address) {
  const { error_class } = address;
  return {
    title: errorClass(error_class) || "Error without a text",
    panels: [
      {
        id: "group", title: "Summary", width: "full", filters: [], subtitle: "all calls with this error",
        queries: () => ({ group: ["error-group", parameters(address, [], { error_class }), pace(address)] }),
        render: ({ group }) => drawGroup(group, address),
      },
      {
        id: "where", title: "Where it happens", width: "full", filters: [],
        subtitle: "click one for its calls",
        queries: () => ({ group: ["error-group", parameters(address, [], { error_class }), pace(address)] }),
        render: ({ group }, context) => drawWhere(group, address, context),
      },
      callList(address, { error_class, status: address.status ?? null }),
    ],
  };
}

function drawGroup(group, address) {
  const [row] = group.rows;
  const { x, step, now } = trendTimes(group);
  const steps = x.map((at, n) => ({ at, calls: row.trend[n] ?? 0 }));
  const spec = { x, step, height: 9, now, hover: (at) => between(at, at + step),
    traces: [{ name: "calls", colour: "failed", as: "bar", y: steps.map((one) => one.calls) }] };
  const words = `calls without success because of it ${windowText(address)}: ${count(row.calls)}`;
  return {
    nodes: [
      facts({
        Calls: [h("b", {}, count(row.calls)), " ", novelty(row)],
        Share: `${percent(row.share)} of all calls without success`,
        "Window before": noBefore(group) || count(row.calls_before),
        "First seen": clock(row.first_seen_at),
        "Last seen": clock(row.last_seen_at),
        "Latest call": row.execution_id
          ? [execution(address, row.execution_id, row.command_id, row.attempt), " ", h("span", {}, row.step || "(no step)"), `, ${attempt(row.attempt)}`] : null,
      }),
      row.error ? h("p", { class: "error sample" }, row.error) : null,
      ...figures("group", spec, `Calls ${per(step)}`, words, [["calls", "failed"]], [
        { name: "From", value: (one) => new Date(one.at).toISOString(), cell: (one) => between(one.at, one.at + step) },
        { name: "Calls", number: true, value: (one) => one.calls, cell: (one) => count(one.calls) },
      ], [...steps].reverse()),
      most(steps, step, address),
    ],
    charts: { group: spec },
  };
}

function drawWhere(group, address, { expanded }) {
  const [row] = group.rows;
  const lists = [
    ["Steps", row.by_step, (value) => ({ step: value }), (value) => value || "(no step)"],
    ["Attempts", row.by_attempts, (value) => ({ attempts: value }), (value) => attempt(value)],
    ["Statuses", row.by_status, (value) => ({ status: value }), (value) => status(value)],
    ["Playbooks", row.by_playbook, (value) => ({ playbook: value }), (value) => value || "(unknown)"],
    ["Workers", row.by_worker, (value) => ({ worker: value }), (value) => value || "(unknown)"],
  ];
  return [
    h("div", { class: "columns" }, lists.map(([title, values, changes, word]) => h("section", { "data-key": title },
      h("h3", {}, title),
      h("ol", { class: "bars plain" }, some(values ?? [], expanded, 5).map((one) => h("li", { "data-key": `${title}-${one.value}` },
        h("a", { href: link(address, { show: "calls", error_class: row.error_class, ...changes(one.value) }) },
          h("span", { class: "what" }, word(one.value)), h("b", {}, count(one.calls)),
          h("span", { class: "bar", "aria-hidden": "true", vars: { "--share": one.calls / values[0].calls } })))))))),
    h("div", { class: "under" }, row.counted < row.calls ? h("span", {}, `of the latest ${count(row.counted)} calls`) : null,
      expandButton("where", lists.reduce((longest, [, values]) => (values?.length > longest.length ? values : longest), []), expanded, "value", 5)),
  ];
}
