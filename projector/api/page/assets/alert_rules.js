// The figure of a panel, with its filters, as a Prometheus alert rule, where a metric has it with those labels.

import { FILTERS } from "./router.js";
import { guidePath } from "./guides.js";
import { FEW_CALLS } from "./panel_parts.js";

const CALLS = "projector_recent_calls";
const STEPS = "projector_recent_step_calls";
const critical = (figure) => `on () max(projector_threshold{figure="${figure}", level="critical"})`;

/** Each process exports every series, so take the max over processes. */
const total = (metric, labels, by) => `sum(max by (${by}) (${metric}{${labels.join(", ")}}))`;

function errorRate(metric, labels, by) {
  return [
    total(metric, [...labels, 'outcome="failed"'], by), `/ ${total(metric, labels, by)}`,
    `>= ${critical("error_rate")}`, `and on () ${total(metric, labels, by)} >= ${FEW_CALLS}`,
  ];
}

const OUTCOMES = "attempts, outcome";

/** Which of the first attempts or all retries a filter means. Of single retries there is no metric. */
const attemptsOf = ({ attempts }) => attempts === undefined ? [] : attempts === "0" ? ['attempts="first"'] : null;

/** By panel: the filters that its metric has as labels, and the lines of the rule. `lines` gives null if no label fits a filter. */
const RULES = {
  rate: { filters: ["step", "attempts"], name: "CallsFail", state: "failed", summary: "Too many calls fail, over the last one to two hours",
    lines: (address) => address.step === undefined
      ? attemptsOf(address) && errorRate(CALLS, attemptsOf(address), OUTCOMES)
      : address.attempts === undefined ? errorRate(STEPS, [`step=${quoted(address.step)}`], "step, outcome") : null },
  errors: { filters: ["attempts"], name: "CallsFailByAttempt", state: "failed", summary: "Too many first attempts or retries fail, over the last one to two hours",
    lines: (address) => attemptsOf(address) && [
      `sum by (attempts) (max by (${OUTCOMES}) (${CALLS}{${[...attemptsOf(address), 'outcome="failed"'].join(", ")}}))`,
      `/ sum by (attempts) (max by (${OUTCOMES}) (${CALLS}{${attemptsOf(address).join(", ")}}))`,
      `>= on () group_left () max(projector_threshold{figure="error_rate", level="critical"})`,
    ] },
  first: { filters: [], name: "FirstAttemptsFail", state: "failed", summary: "Too few first attempts succeed",
    lines: () => ['max(projector_first_attempt_success_ratio{window="recent"})', `<= ${critical("first_attempt_success")}`] },
  storms: { filters: [], name: "TooManyRetries", state: "storm", summary: "There are too many retries for each first attempt",
    lines: () => [total(CALLS, ['attempts="retry"'], OUTCOMES), `/ ${total(CALLS, ['attempts="first"'], OUTCOMES)}`,
      `>= ${critical("retry_ratio")}`, `and on () ${total(CALLS, ['attempts="first"'], OUTCOMES)} >= ${FEW_CALLS}`] },
  stuck: { filters: [], name: "ExecutionsStuck", state: "stuck", summary: "Many executions are silent and did not end",
    lines: () => [total("projector_stuck_executions", ['silent_for!="7 days and more"'], "silent_for"), `>= ${critical("stuck")}`] },
  freshness: { filters: null, name: "LogNotRead", state: "dead", summary: "A partition of the log is not read",
    lines: () => ['max by (state) (projector_partitions{state=~"dead|stopped|unclaimed|broker_away"}) > 0'] },
  quarantine: { filters: [], name: "RecordsRejected", state: "rejected", summary: "Records were rejected in the last hour",
    lines: () => rejected([]) },
  records: { filters: ["reason"], name: "RecordsRejected", state: "rejected", summary: "Records were rejected in the last hour",
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

/** A file of rules for Prometheus with the one rule of a panel, or null. */
export function alertRule(panel, address) {
  const rule = RULES[panel.id];
  if (!rule) return null;
  const set = [...FILTERS, "reason", "shape"].filter((name) => address[name] !== undefined
    && (panel.filters === null ? [] : [...panel.filters, "reason", "shape"]).includes(name));
  if (set.some((name) => !rule.filters?.includes(name))) return null;
  const lines = rule.lines(address);
  return lines && [
    "groups:",
    "  - name: from-the-page",
    "    rules:",
    `      - alert: ${rule.name}`,
    "        expr: |-",
    ...lines.map((line) => `          ${line}`),
    "        for: 5m",
    "        labels: {severity: ticket}",
    "        annotations:",
    `          summary: ${rule.summary}.`,
    `          runbook_url: ${guidePath(rule.state)}`,
    "",
  ].join("\n");
}
