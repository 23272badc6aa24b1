// A coercion of an event as a sentence: the old and the new value, and why the rule changed it.

import { home } from "./router.js";
import { h } from "./dom.js";

/** One reason for each rule; the names of the rules are those of normalizer/envelope.py. */
export const REASONS = {
  bom_stripped: "a byte order mark preceded the JSON",
  unstorable_text: "the text had U+0000 or a lone surrogate, which PostgreSQL can't store",
  alias_conflict: "two names of this field were sent with different values",
  meta_not_object: "meta was not an object",
  status_not_text: "status was not a string",
  status_overruled: "the event itself reports a stronger status",
  status_unmapped: "the declared status is not one of the known words",
  opaque_id: "the id was not a number, so its hash is stored",
  invalid_secondary_id: "the value can't be an id",
  event_id_conflict: "the id belonged to another event",
  ambiguous_report: "two events have this id, and the report doesn't say which one it means",
  created_at_unreadable: "the time was unreadable or out of bounds",
  attempts_invalid: "the value can't be a number of attempts",
  duration_invalid: "the value can't be the duration of this event",
};

/** row: an event; address: of the page, for the link to the panel that counts the rule. */
export function coercion(one, row, address) {
  const sent = one.original;
  const kept = row[one.field];
  return h("li", {}, h("b", {}, one.field || "record"), ": ",
    sent === null || sent === undefined ? null : [h("code", {}, unquoted(sent)), kept === undefined ? null : " → "],
    kept === undefined ? null : h("code", {}, kept === null ? "nothing" : String(kept)),
    `, because ${reason(one, row)} `,
    h("a", { href: `${home(address)}#coercions` }, `(rule ${one.rule})`));
}

function reason(one, row) {
  const nested = one.rule === "status_overruled" ? nestedStatus(row) : null;
  return nested ? `${nested.path} says ${nested.word}` : REASONS[one.rule] ?? "a rule changed it";
}

/** `original` is JSON text: a string loses its quotes. */
function unquoted(json) {
  try {
    const value = JSON.parse(json);
    return typeof value === "string" ? value : json;
  } catch {
    return json;
  }
}

/** The nested field of the sent record whose word is the status that was stored, if there is one. */
function nestedStatus(row) {
  let sent;
  try {
    sent = JSON.parse(row.as_sent);
  } catch {
    return null;
  }
  const found = [];
  const walk = (value, path) => {
    if (value === null || typeof value !== "object" || path.length > 5) return;
    for (const [key, one] of Object.entries(value)) {
      const here = [...path, key];
      if ((key === "status" || key === "terminal_state") && path.length && typeof one === "string") {
        found.push({ path: here.join("."), word: one });
      } else walk(one, here);
    }
  };
  walk(sent, []);
  return found.find((one) => one.word.toUpperCase() === row.status) ?? null;
}
