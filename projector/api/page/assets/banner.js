// The lines at the top: errors, slow queries, a pause, a wrong address, a log that nobody reads. Screen readers skip the seconds.

import { ignored } from "./router.js";
import { h } from "./dom.js";
import { clock, earliest, since } from "./format.js";
import { missingState, missingText } from "./freshness_panel.js";
import { guide } from "./guides.js";
import { page } from "./state.js";

export const SLOW_MS = 3000;

const oldest = (some) => earliest(some.map((one) => one.answer?.read_at));
const figuresFrom = (some) => {
  const figures = oldest(some);
  return figures ? `; the figures are from ${clock(figures)}.` : "; there are no figures yet.";
};

/** A line about the answers, and one about the log. */
export function banner() {
  const missing = page.freshness.answer && !page.freshness.error ? missingText(page.freshness.answer) : "";
  return [answers(), missing ? h("p", { "data-state": "bad" }, missing, " ", guide(missingState(page.freshness.answer))) : null].filter(Boolean);
}

/** Whether the figures have all that was sent up to now, as far as the server says. A pause is another matter. */
export const isLive = () => !page.freshness?.error && !(page.freshness?.answer && missingText(page.freshness.answer));

/** The queries of this screen that give figures. */
export const ofFigures = () => [...page.queries.values()].filter((one) => one !== page.choices && one !== page.settings);

// What is not stored is said where it would stand.
const failingOf = (some) => some.filter((one) => one.error && !one.error.isNothingThere);
const lastingOf = (some) => some.filter((one) => !one.error.refused);

/** Since when queries have failed that may succeed again without the reader, or null. */
export function outageSince() {
  const lasting = page.queries ? lastingOf(failingOf(ofFigures())) : [];
  return lasting.length ? Math.min(...lasting.map((one) => one.failingSince)) : null;
}

function answers() {
  const all = ofFigures();
  const failing = failingOf(all);
  const waiting = all.filter((one) => one.waitingSince && Date.now() - one.waitingSince > SLOW_MS);
  if (failing.length) return outage(failing, all);
  if (waiting.length) {
    return h("p", { "data-state": "warn" }, "Still waiting for the server",
      h("span", { "aria-hidden": "true" }, ` (${since(Math.min(...waiting.map((one) => one.waitingSince)))})`), figuresFrom(waiting));
  }
  if (page.paused) {
    return h("p", { "data-state": "warn" }, `Paused. You see the figures from ${clock(oldest(all))}.`);
  }
  if (ignored.length) {
    return h("p", { "data-state": "warn" }, `The page ignores this part of the address, which it doesn't know: ${ignored.join(", ").slice(0, 200)}.`);
  }
  return null;
}

function outage(failing, all) {
  const refused = failing.filter((one) => one.error.refused);
  const lasting = lastingOf(failing);
  const nextAt = Math.min(...lasting.map((one) => one.nextAt ?? Infinity));
  const words = [...new Set(failing.map((one) => one.error.message))].join(". ");
  const some = failing.length < all.length ? ` (${failing.length} of ${all.length} queries)` : "";
  if (!lasting.length) {
    return h("p", { "data-state": "bad" }, `${words}${some}. `,
      h("button", { type: "button", class: "button", id: "again" }, "Try again"));
  }
  return h("p", { "data-state": "bad" }, `${words}${some}`,
    h("span", { "aria-hidden": "true" }, ` for ${since(outageSince())}`),
    figuresFrom(refused.length ? lasting : failing),
    nextAt < Infinity ? h("span", { "aria-hidden": "true" }, ` Next try at ${clock(nextAt)}.`) : null, " ",
    guide(failing.some((one) => one.error.reason.startsWith("database")) ? "database" : "server"));
}
