// The screen of playbooks: all versions, or those of one playbook beside each other.

import { WINDOWS, link, parameters } from "./router.js";
import { flag, h } from "./dom.js";
import { clock, count, percent, plural, points, span, windowText } from "./format.js";
import { FEW_CALLS, errorText, expandButton, expectedRate, limit, nothing, rateOf, stamp, sum } from "./panel_parts.js";
import { number, panel, text, time } from "./retries.js";
import { table, tools } from "./tables.js";
import { bounds, hours, pace } from "./windows.js";

const MOST_VERSIONS = 4;
/** That this many calls with one error ran on one worker is hardly chance, nor that one version has none where another would have as many. */
const CALLS_BEYOND_CHANCE = 3;
/** The list is alone on its screen. */
const VERSIONS_SHOWN = innerWidth <= 700 ? 10 : 50;
/** The most rows that the server lists of deployments: of more, what is not listed may have begun in the window too. */
const MOST_DEPLOYMENTS = 500;
/** The server counts at most this. */
const MOST_HOURS = 7 * 24;

let address_ = {};
const page = () => address_;

/** The time that the figures are about: of a longer window, the server counts only the last 7 days. */
const short = (address) => hours(address) <= MOST_HOURS;
const lastDays = (address) => (short(address) ? windowText(address) : "in the last 7 days of this window");

/** What stands beside figures of a playbook with too many calls to count all. */
const counted = (answer) => `too many calls, so only executions since ${clock(answer.since)} are counted`;

const endedOf = (row) => row.completed + row.failed + row.cancelled;
/** Null of a version that is listed only because it began. */
const openOf = (row) => (row.executions === undefined ? null : row.executions - endedOf(row));
const NOT_ENDED = { name: "Not ended", number: true, value: openOf, cell: (row) => count(openOf(row)) };
const ENDED = { name: "Ended", number: true, value: endedOf, cell: (row) => count(endedOf(row)) };
const versionName = (version) => (version ? `v${version}` : "(none)");

/** The playbooks, or the versions of the one that is chosen, beside each other. */
export function playbooks(address) {
  address_ = address;
  if (address.playbook === undefined) return { title: "Playbooks", panels: [allVersions(address)] };
  const one = ["playbook", "version"];
  const note = `, by whole hours${short(address) ? "" : " of the last 7 days only"}`;
  const requested = (path) => [path, parameters(address, one), pace(address)];
  return { title: ["Playbook", address.playbook || "(unknown)"], panels: [
    panel({ id: "versions", title: "Versions", subtitle: `Latest first${note}. Click a version for its executions`, width: "full",
      path: "versions-of-playbook", filters: one, none: "No execution of this playbook began", when: lastDays, key: (row) => row.version, truncated: counted, note: onlyVersion,
      columns: [{ ...text("Version", "version"), cell: (row) => h("a", { href: link(page(), { show: "executions", version: row.version }) }, versionName(row.version)) },
        number("Executions", "executions"), ENDED, NOT_ENDED, number("Completed of ended", "completed_rate", percent), number("First attempt", "first_attempt_rate", percent),
        number("Took, p50", "p50_s", span), number("Took, p95", "p95_s", span), number("Failed calls", "failed_calls"), number("Calls", "calls"),
        time("First began", "first_at"), time("Last began", "last_at")] }),
    {
      id: "version-errors", title: "Errors by version", width: "full", filters: one, truncated: counted,
      subtitle: `Failed calls of each version, and their share of its calls${note}. An error that only one version has is marked if those before and after it have enough calls to tell`,
      queries: () => ({ errors: requested("errors-by-version"), versions: requested("versions-of-playbook") }),
      render: drawVersionErrors,
    },
    {
      id: "version-steps", title: "Steps by version", width: "full", filters: one, truncated: counted,
      subtitle: `Finished calls of each version, the share that failed, and their median duration${note}. What became worst since the version before is first`,
      queries: () => ({ steps: requested("steps-by-version"), versions: requested("versions-of-playbook") }),
      render: drawVersionSteps,
    },
  ] };
}

// ---- All versions -----------------------------------------------------------------------------

const allVersions = (address) => ({
  id: "versions", title: "All versions", width: "full", filters: ["playbook"],
  subtitle: `How executions of each version ended, by whole hours${short(address) ? "" : " of the last 7 days only"}. Most failed executions first, then most executions. Click a playbook to compare its versions`,
  queries: () => ({ versions: ["playbook-versions", parameters(address, ["playbook"]), pace(address)],
    deployments: ["deployments", parameters(address, ["playbook"]), pace(address)] }),
  render: drawVersions,
});

const keyOf = ({ playbook, version }) => JSON.stringify([playbook, version ?? null]);

/** The versions with executions in the window, and those that began in it but have none that is counted. */
function drawVersions({ versions, deployments }, { address, expanded }) {
  const begun = new Map(deployments.rows.map((row) => [keyOf(row), row.first_at]));
  const known = new Set(versions.rows.map(keyOf));
  const rows = [...versions.rows, ...deployments.rows.filter((row) => !known.has(keyOf(row)))]
    .map((row) => ({ ...row, begun: begun.get(keyOf(row)) ?? null }))
    .sort((a, b) => (b.failed ?? -1) - (a.failed ?? -1) || (b.executions ?? -1) - (a.executions ?? -1) || (a.playbook < b.playbook ? -1 : a.playbook > b.playbook ? 1 : 0));
  if (!rows.length) return nothing(versions, `No execution began ${lastDays(address)}.`);
  const before = (row) => (row.playbook && deployments.rows.length < MOST_DEPLOYMENTS ? "earlier" : "–");
  return [
    table("All versions as a table", [
      { name: "Playbook", value: (row) => row.playbook, cell: (row) => h("a", { href: link(page(), { playbook: row.playbook, sort: null }) }, row.playbook || "(unknown)") },
      text("Version", "version"),
      { ...time("First began", "begun"), cell: (row) => (row.begun ? [clock(row.begun), " ", flag("none", "new")] : before(row)) },
      number("Executions", "executions"), number("Completed", "completed"), number("Failed", "failed"), number("Cancelled", "cancelled"), NOT_ENDED,
      number("Mean duration", "mean_duration_s", span), { ...number("Last hour", "last_hour", (at) => (at ? stamp(at, "hour") : "–")), time: true },
    ], rows, (row) => `versions-${row.playbook}-${row.version}`, { id: "versions", ...limit(rows, expanded, VERSIONS_SHOWN) }),
    h("div", { class: "under" }, tools("versions"), expandButton("versions", rows, expanded, "row", VERSIONS_SHOWN)),
  ];
}

// ---- Versions of one playbook -----------------------------------------------------------------

/** The columns of both comparisons: the latest versions, and how many calls each of them has. */
function compared({ rows }) {
  const latest = rows.slice(0, MOST_VERSIONS).map((row) => row.version ?? null);
  return { latest, calls: new Map(rows.map((row) => [row.version ?? null, row.calls])) };
}

/** Nothing stands beside the only version of a window, and a longer one may have others. */
function onlyVersion(rows) {
  const longer = rows.length === 1 && page().version === undefined ? longerWindow() : null;
  return longer && h("p", {}, `Only ${versionName(rows[0].version)} began in this window. To compare it with another version, `,
    h("a", { href: link(page(), longer.changes) }, `show ${longer.last}`), ".");
}

/**
 * Marks what only one version has. The version before it or after it may have had too few calls to have it too: then it says so.
 * `of`: how many calls of each version are such; `answer`: where they were counted.
 */
function onlyOne(of, { latest, calls }, answer) {
  const having = latest.filter((version) => of.get(version));
  if (latest.length < 2 || having.length !== 1) return null;
  const [own] = having;
  const at = latest.indexOf(own);
  const enough = Math.max(FEW_CALLS, CALLS_BEYOND_CHANCE * calls.get(own) / of.get(own));
  const [fewest] = latest.filter((_, n) => Math.abs(n - at) === 1 && (calls.get(latest[n]) ?? 0) < enough)
    .sort((a, b) => (calls.get(a) ?? 0) - (calls.get(b) ?? 0));
  if (fewest === undefined) return flag("warn", `only ${versionName(own)}`);
  // Seen less often than that, it would need more calls than its own version has.
  if (of.get(own) < CALLS_BEYOND_CHANCE && (calls.get(fewest) ?? 0) >= FEW_CALLS) return null;
  const longer = answer.truncated ? null : longerWindow();
  return h("small", { class: "why" }, `${versionName(fewest)}: only ${plural(calls.get(fewest) ?? 0, "call")} in this window`,
    longer ? [", ", h("a", { href: link(page(), longer.changes) }, `show ${longer.last}`)] : null);
}

/** The next longer window with the same end, or null if the server would count no more. */
function longerWindow() {
  const own = hours(page());
  const lengths = WINDOWS.map((last) => [last, hours({ last })]);
  const [last, length] = lengths.find(([, one]) => one > own + 0.1 && one <= MOST_HOURS) ?? [];
  if (!last) return null;
  if (!page().since) return { last, changes: { last } };
  const [, until] = bounds(page());
  return { last, changes: { since: new Date(until - length * 3600000).toISOString(), until: page().until ?? null } };
}

/** A row for each error, a column for each of the latest versions. */
function drawVersionErrors({ errors, versions }, { expanded }) {
  if (!errors.rows.length) return nothing(errors, `No call of this playbook failed ${errors.truncated ? `since ${clock(errors.since)}` : lastDays(page())}.`);
  const sides = compared(versions);
  const rows = [...new Set(errors.rows.map((row) => row.error_class))].map((name) => {
    const own = errors.rows.filter((row) => row.error_class === name);
    const workers = new Set(own.map((row) => row.only_worker));
    return { name, of: new Map(own.map((row) => [row.version ?? null, row.calls])),
      worker: workers.size === 1 && sum(own, "calls") >= CALLS_BEYOND_CHANCE ? own[0].only_worker : null };
  }).filter((row) => sides.latest.some((version) => row.of.has(version)));
  const failed = (row, version) => row.of.get(version) ?? 0;
  const withShare = (n, version) => count(n) + (n && sides.calls.get(version) ? ` (${percent(n / sides.calls.get(version))})` : "");
  const drawn = limit(rows, expanded);
  return [
    table("Failed calls by error and version", [
      { name: "Error", value: (row) => row.name, cell: (row) => [h("a", { href: link(page(), { show: "error", error_class: row.name }) }, errorText({ error_class: row.name })), " ",
        onlyOne(row.of, sides, errors), row.worker ? [" ", flag("warn", `all on ${row.worker}`)] : null] },
      ...sides.latest.map((version) => ({ name: `Version ${version ?? "(none)"}`, number: true, value: (row) => failed(row, version), cell: (row) => withShare(failed(row, version), version) })),
    ], rows, (row) => `error-${row.name}`, { id: "version-errors", ...drawn }),
    h("div", { class: "under" }, tools("version-errors"), expandButton("version-errors", rows, expanded, "error")),
  ];
}

/** A row for each step; calls, failed share, and median of each of the latest versions beside each other. */
function drawVersionSteps({ steps, versions }, { expanded }) {
  if (!steps.rows.length) return nothing(steps, `No call of this playbook finished ${steps.truncated ? `since ${clock(steps.since)}` : lastDays(page())}.`);
  const sides = compared(versions);
  const { latest } = sides;
  const rateOfAll = rateOf(steps.rows.map((row) => ({ calls: row.calls, failed: row.failed_calls }))) ?? 0;
  const rows = [...new Set(steps.rows.map((row) => row.step))]
    .map((step) => ({ step, at: new Map(steps.rows.filter((row) => row.step === step).map((row) => [row.version ?? null, row])) }))
    .filter((row) => latest.some((version) => row.at.has(version)))
    .map((row) => ({ ...row, ...worsened(row.at, latest, rateOfAll) }))
    .sort((a, b) => b.rise - a.rise || b.slower - a.slower || b.calls - a.calls);
  const ofEach = (name, value, words) => latest.map((version) => ({ name: `${name} ${versionName(version)}`, number: true,
    value: (row) => value(row.at.get(version)), cell: (row) => words(value(row.at.get(version))) }));
  return [
    table("Calls by step and version", [
      { name: "Step", value: (row) => row.step, cell: (row) => [h("a", { href: link(page(), { show: "calls", step: row.step }) }, row.step || "(no step)"), " ",
        onlyOne(new Map([...row.at].map(([version, { calls }]) => [version, calls])), sides, steps)] },
      ...ofEach("Calls", (one) => one?.calls ?? 0, count),
      ...ofEach("Failed", (one) => (one ? one.failed_calls / one.calls : null), percent),
      ...(latest.length > 1 ? [{ name: "Change", number: true, value: (row) => row.change, cell: (row) => points(row.change) }] : []),
      ...ofEach("p50", (one) => one?.p50_s ?? null, span),
    ], rows, (row) => `step-${row.step}`, { id: "version-steps", ...limit(rows, expanded) }),
    h("div", { class: "under" }, tools("version-steps"), expandButton("version-steps", rows, expanded, "step")),
  ];
}

/**
 * How much worse a step became from the version before to the latest. `change`: of the failed share; `rise`: the same of the rates
 * to expect, because few calls say little; `slower`: of the median, as a ratio.
 */
function worsened(at, [last, before], rateOfAll) {
  const [now, then] = [at.get(last), before === undefined ? undefined : at.get(before)];
  const expected = (one) => expectedRate(one?.failed_calls ?? 0, one?.calls ?? 0, rateOfAll);
  return {
    change: now && then ? now.failed_calls / now.calls - then.failed_calls / then.calls : null,
    rise: before === undefined ? expected(now) : expected(now) - expected(then),
    slower: now?.p50_s && then?.p50_s ? now.p50_s / then.p50_s : 0,
    calls: now?.calls ?? 0,
  };
}
