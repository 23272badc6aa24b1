// The panels of the dashboard: the queries of each, and the function that renders their answers.

import { FILTERS, only, parameters } from "./router.js";
import { drawMatrix } from "./matrix_panel.js";
import { drawOutcomes, drawRate } from "./outcome_panel.js";
import { drawFreshness } from "./freshness_panel.js";
import { drawErrors, drawFirst, drawWhy } from "./error_panels.js";
import { drawStorms } from "./storm_panel.js";
import { drawStuck } from "./stuck_panel.js";
import { drawDurations } from "./duration_panel.js";
import { drawQuarantine, drawRates } from "./event_panels.js";
import { drawJobs } from "./job_panel.js";
import { grain, pace } from "./windows.js";

const OF_CALLS = ["playbook", "step", "attempts", "status"];
const OF_RATES = ["playbook", "step", "attempts"];
const OF_ERRORS = ["playbook", "step", "attempts", "status", "worker"];

/** An idle tab asks once a minute for what changes slowly: the window before, deployments, comparisons by verify, and rates by full minutes. */
const SELDOM = { every: 60000 };

/**
 * A panel: id, title, subtitle, width, expandedWidth if all its rows need another one; filters: those that its queries have (null: it ignores all);
 * queries(address): path, parameters and options by name; render(answers, context): its nodes.
 */
export const PANELS = [
  {
    id: "matrix", title: "Attempts by status", width: "wide", filters: OF_CALLS,
    subtitle: "Finished calls, and their share of the attempt. Click a count of a status for its calls",
    queries: (address) => ({ matrix: ["attempts-matrix", parameters(address, OF_CALLS), pace(address)] }),
    render: drawMatrix,
  },
  {
    id: "outcomes", title: "Outcome over time", width: "narrow", filters: ["playbook"],
    subtitle: "How executions ended. Click a bar for those that ended then, and drag to zoom",
    queries: (address) => ({
      outcomes: ["execution-outcomes", parameters(address, ["playbook"], { every: grain(address) }), pace(address)],
      deployments: ["deployments", parameters(address, ["playbook"]), SELDOM],
    }),
    render: drawOutcomes,
  },
  {
    id: "rate", title: "Error rate over time", width: "wide", filters: OF_RATES,
    subtitle: "Calls that failed, had an error, or were cancelled. The step that fails most is first, and few calls say less than many",
    queries: (address) => ({
      now: ["error-rate-by-attempt", parameters(address, OF_RATES, { by: "at", every: grain(address), limit: 5000 }), pace(address)],
      before: ["error-rate-by-attempt", parameters(address, OF_RATES, { by: "at", every: grain(address), limit: 5000, window: "before" }), SELDOM],
      errors: ["error-rate-by-attempt", parameters(address, OF_RATES, { limit: 5000 }), pace(address)],
      stepsBefore: ["error-rate-by-attempt", parameters(address, OF_RATES, { by: "step", limit: 5000, window: "before" }), SELDOM],
      deployments: ["deployments", parameters(address, ["playbook"]), SELDOM],
    }),
    render: drawRate,
  },
  {
    id: "first", title: "First-attempt success", width: "narrow", filters: ["playbook", "step"],
    subtitle: "Calls that completed without a retry. The worst step is first, and few calls say less than many",
    queries: (address) => ({
      first: ["first-attempt-success", parameters(address, ["playbook", "step"]), pace(address)],
    }),
    render: drawFirst,
  },
  {
    id: "why", title: "New and growing errors", width: "wide", filters: OF_ERRORS, truncated: () => "the most frequent only",
    subtitle: "Calls that failed, had an error, or were cancelled, by error text without ids. New ones are first, the latest on top, then what grew most since the window before",
    queries: (address) => ({ why: ["error-groups", parameters(address, OF_ERRORS, { limit: 100 }), pace(address)] }),
    render: drawWhy,
  },
  {
    id: "freshness", title: "Freshness", width: "narrow", filters: null,
    subtitle: "How far each partition of the log was read",
    queries: () => ({
      freshness: ["freshness", new URLSearchParams()],
      agreement: ["agreement", new URLSearchParams(), SELDOM],
    }),
    render: drawFreshness,
  },
  {
    id: "errors", title: "Error rate by attempt", width: "wide",
    filters: ["playbook", "step", "attempts"],
    subtitle: "Share of calls that failed, had an error, or were cancelled. Click a cell for the calls",
    queries: (address) => ({
      errors: ["error-rate-by-attempt", parameters(address, ["playbook", "step", "attempts"], { limit: 5000 }), pace(address)],
    }),
    render: drawErrors,
  },
  {
    id: "storms", title: "Retry storms", width: "narrow", filters: ["step"],
    subtitle: "Retries per first attempt in the last 5 minutes, compared with the hour before",
    queries: (address) => ({
      storms: ["retry-storms", only(address, ["step"])],
      retries: ["retries-by-minute", only(address, ["step"],
        { last: "2h", every: "minute", by: ["at", "step"], limit: 5000 }), SELDOM],
    }),
    render: drawStorms,
  },
  {
    id: "stuck", title: "Stuck executions", width: "wide", expandedWidth: "full", filters: ["playbook"],
    subtitle: "Not ended, without an event for at least 5 minutes, and without a running child",
    queries: (address) => ({
      stuck: ["stuck-executions", only(address, ["playbook"], { limit: 100, begun: "true" })],
      ages: ["stuck-by-age", only(address, ["playbook"])],
    }),
    render: drawStuck,
  },
  {
    id: "quarantine", title: "Quarantine by reason", width: "narrow", filters: [],
    subtitle: "Rejected records, which stay in the quarantine until you redrive them",
    queries: (address) => ({ counts: ["quarantine-by-reason", parameters(address, [])] }),
    render: drawQuarantine,
  },
  {
    id: "durations", title: "Duration by attempt", width: "wide", filters: OF_CALLS,
    subtitle: "Median, 95th and 99th percentile. The slowest is first",
    queries: (address) => ({ durations: ["call-durations-by-attempt", parameters(address, OF_CALLS), pace(address)] }),
    render: drawDurations,
  },
  {
    id: "rates", title: "Events/s", width: "narrow", filters: ["event_type"],
    subtitle: "By type, each full minute of the last two hours",
    queries: (address) => ({
      rates: ["events-per-second", only(address, ["event_type"], { last: "2h", every: "minute", limit: 5000 }),
        SELDOM],
    }),
    render: drawRates,
  },
  {
    id: "jobs", title: "Backfill and other jobs", width: "full", filters: null, shownIf: ({ jobs }) => jobs?.rows.length > 0,
    subtitle: "Jobs that read or rewrite stored history",
    queries: () => ({ jobs: ["jobs", new URLSearchParams()] }),
    render: drawJobs,
  },
];

/** The filters that are set but that the queries of a panel do not have. */
export function ignoredFilters(panel, address) {
  if (panel.filters === null) return [];
  return FILTERS.filter((name) => address[name] !== undefined && !panel.filters.includes(name));
}
