// The figure of a panel, with its filters, as a Prometheus alert rule, where a metric has it with those labels.

import { FILTERS } from "./router.js";
import { guidePath } from "./guides.js";
import { FEW_CALLS } from "./panel_parts.js";

const CALLS = "projector_recent_calls";
const STEPS = "projector_recent_step_calls";
const critical = (figure) => `on () group_left () max(projector_threshold{figure="${figure}", level="critical"})`;
const OUTCOMES = ["attempts", "outcome"];

/** Each process exports every series, so take the max over processes. The labels in `kept` are those of the alert. */
const total = (metric, labels, by = [], kept = []) =>
  `sum${kept.length ? ` by (${kept.join(", ")})` : ""} (max by (${by.join(", ")}) (${metric}{${labels.join(", ")}}))`;

/** The share of calls with this outcome, compared with the threshold of a figure, if there are enough calls. */
function shareOfCalls({ step }, attempts, outcome, sign, figure, kept = []) {
  const own = step === undefined ? [] : ["step"];
  const labels = [...own.map(() => `step=${quoted(step)}`), ...attempts];
  const calls = (more = []) => total(step === undefined ? CALLS : STEPS, [...labels, ...more], [...own, ...OUTCOMES], [...own, ...kept]);
  return [calls([`outcome="${outcome}"`]), `/ ${calls()}`, `${sign} ${critical(figure)}`, `and ${calls()} >= ${FEW_CALLS}`];
}

const RECENT = "the last one to two hours";

/** Which of the first attempts or all retries a filter means. Of single retries there is no metric. */
const attemptsOf = ({ attempts }) => attempts === undefined ? [] : attempts === "0" ? ['attempts="first"'] : null;

/**
 * By panel: the filters that its metric has as labels, the time that the metric is about, and the lines of the rule. `what` is in the summary, and
 * `lines` gives null if no label fits a filter. `severity` is that of deploy/prometheus/alerts.yml, by default a ticket.
 */
const RULES = {
  rate: { filters: ["step", "attempts"], name: "CallsFail", state: "failed", what: (calls) => `Too many ${calls("calls")} fail`, watches: RECENT,
    severity: ({ step, attempts }) => (step ?? attempts) === undefined ? "page" : "ticket",
    lines: (address) => attemptsOf(address) && shareOfCalls(address, attemptsOf(address), "failed", ">=", "error_rate") },
  errors: { filters: ["step", "attempts"], name: "CallsFailByAttempt", state: "failed", what: (calls) => `Too many ${calls("first attempts or retries")} fail`,
    watches: RECENT,
    lines: (address) => attemptsOf(address) && shareOfCalls(address, attemptsOf(address), "failed", ">=", "error_rate", ["attempts"]) },
  first: { filters: ["step"], name: "FirstAttemptsFail", state: "failed", what: (calls) => `Too few ${calls("first attempts")} succeed`, watches: RECENT,
    lines: (address) => shareOfCalls(address, ['attempts="first"'], "succeeded", "<=", "first_attempt_success") },
  storms: { filters: [], name: "TooManyRetries", state: "storm", what: () => "There are too many retries for each first attempt", watches: RECENT,
    lines: () => [total(CALLS, ['attempts="retry"'], OUTCOMES), `/ ${total(CALLS, ['attempts="first"'], OUTCOMES)}`,
      `>= ${critical("retry_ratio")}`, `and ${total(CALLS, ['attempts="first"'], OUTCOMES)} >= ${FEW_CALLS}`] },
  stuck: { filters: [], name: "ExecutionsStuck", state: "stuck", what: () => "Many executions are silent and did not end", watches: "this moment",
    lines: () => [total("projector_stuck_executions", ['silent_for!="7 days and more"'], ["silent_for"]), `>= ${critical("stuck")}`] },
  freshness: { filters: null, name: "LogNotRead", severity: () => "page", state: "dead", what: () => "A partition of the log is not read", watches: "this moment",
    lines: () => ['max by (state) (projector_partitions{state=~"dead|stopped|unclaimed|broker_away"}) > 0'] },
  quarantine: { filters: [], name: "RecordsRejected", severity: () => "info", state: "rejected", what: () => "Records were rejected", watches: "the last hour",
    lines: () => rejected([]) },
  records: { filters: ["reason"], name: "RecordsRejected", severity: () => "info", state: "rejected", what: () => "Records were rejected", watches: "the last hour",
    lines: ({ reason }) => rejected(reason === undefined ? [] : [`reason=${quoted(reason)}`]) },
};

const rejected = (labels) => [`sum by (reason) (increase(normalizer_quarantined_total{${['job="normalizer"', ...labels].join(", ")}}[1h])) > 0`];

/** A text as PromQL writes it, of printable ASCII only, so that YAML reads it as one line. */
function quoted(text) {
  const one = (sign) => {
    const code = sign.codePointAt(0);
    if (sign === "\"" || sign === "\\") return `\\${sign}`;
    if (code >= 32 && code < 127) return sign;
    return code < 0x10000 ? `\\u${code.toString(16).padStart(4, "0")}` : `\\U${code.toString(16).padStart(8, "0")}`;
  };
  return `"${[...text].map(one).join("")}"`;
}

/** Whether the rule of a panel can be for a single step. */
export const takesStep = (panel) => Boolean(RULES[panel.id]?.filters?.includes("step"));

/** A file of rules for Prometheus with the one rule of a panel, or null. */
export function alertRule(panel, address) {
  const rule = RULES[panel.id];
  if (!rule) return null;
  const set = [...FILTERS, "reason", "shape"].filter((name) => address[name] !== undefined
    && (panel.filters === null ? [] : [...panel.filters, "reason", "shape"]).includes(name));
  if (set.some((name) => !rule.filters?.includes(name))) return null;
  const lines = rule.lines(address);
  const ofStep = address.step !== undefined && takesStep(panel);
  // Prometheus fills the name of the step in: it may have signs that mean something else in YAML or in a template.
  const what = rule.what((calls) => (ofStep ? `${calls} of step {{ $labels.step }}` : calls));
  const path = guidePath(rule.state);
  return lines && [
    `# Watches ${rule.watches}, whatever the page shows${ofStep ? ", and only the 40 steps with the most calls" : ""}.`,
    ...(lines.some((line) => line.includes('outcome="failed"')) ? ["# failed, error, and cancelled calls have outcome=\"failed\"."] : []),
    "# Save it as a file that rule_files in prometheus.yml names.",
    "groups:",
    "  - name: from-the-page",
    "    rules:",
    `      - alert: ${ofStep ? `${rule.name}_${address.step.replace(/[^A-Za-z0-9]+/g, "_")}` : rule.name}`,
    "        expr: |-",
    ...lines.map((line) => `          ${line}`),
    "        for: 5m",
    `        labels: {severity: ${rule.severity?.(address) ?? "ticket"}}`,
    "        annotations:",
    `          summary: ${what}${rule.watches === "this moment" ? "" : `, over ${rule.watches}`}.`,
    // Without PROJECTOR_DOCS it's a path in the project, which leads nowhere from an alert.
    ...(path.startsWith("http") ? [`          runbook_url: ${path}`] : []),
    "",
  ].join("\n");
}
