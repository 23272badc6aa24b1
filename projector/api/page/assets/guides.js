// Links to the pages of the documentation that say what to do about a state.

import { h } from "./dom.js";
import { page } from "./state.js";

const OPERATE = "docs/operate";
/** The page of each state, and the part of it. A test compares them with the documentation. */
const GUIDES = {
  dead: "page-is-old.md",
  stopped: "partition-stopped.md",
  unclaimed: "not-assigned.md",
  broker_away: "kafka-away.md",
  behind: "lag.md",
  server: "page-is-old.md",
  database: "postgresql-away.md",
  divergent: "check-differs.md",
  failed: "calls-fail.md#projectorerrorrate",
  storm: "calls-fail.md#projectorretryratio",
  stuck: "calls-fail.md#projectorstuckexecutions",
  rejected: "quarantine.md",
  interrupted: "job-interrupted.md",
  drift: "quarantine.md#drift-a-producer-changed-its-schema",
  gaps: "records-expire.md",
};

/** Where to read what to do about a state. */
export const guidePath = (state) => `${page.settings?.answer?.docs ?? ""}${OPERATE}/${GUIDES[state]}`;

/** What to do about a state: a link if the server knows where the documentation is read, else its path in the project. */
export function guide(state, words = "What to do") {
  const path = guidePath(state);
  return h("span", { class: "guide" }, path.startsWith("http") ? h("a", { href: path }, words) : [`${words}: `, h("code", {}, path)]);
}
