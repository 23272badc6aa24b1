// Search: an id leads to what it names, a word to a list of what has it.

import { ApiError, get } from "./api.js";
import { current, link, parameters } from "./router.js";
import { h, unshown } from "./dom.js";
import { windowText } from "./format.js";
import { errorClass } from "./panel_parts.js";

const WAIT_MS = 150;
const OWN_SHOWN = 5;
const MOST_LETTERS = 4000;
const KINDS = { execution: "Execution", event: "Event", command: "Command", trace: "Trace", quarantine: "Rejected record",
  screen: "Screen", panel: "Panel", reason: "Quarantine", do: "Do",
  gap: "Gap", playbook: "Playbook", step: "Step", worker: "Worker", error: "Error" };

let text = "";
let rows = null;
/** The text as the last answer has it for errors: without numbers and quoted parts. */
let searchedAs = "";
/** The kinds of name of which more match than the answer lists. */
let more = [];
let failure = null;
let chosen = 0;
let open = false;
let asking = null;
let pending = Promise.resolve();
let redraw = () => {};
/** The screens, panels and commands of the page: { kind, label, detail, words, href or run }. */
let places = () => [];

export const onSearch = (draw, all) => {
  redraw = draw;
  places = all;
};

/** Changes whenever the box must be drawn again. */
export const searchState = () => JSON.stringify([text, rows, failure, chosen, open]);

/** The hits: ids first, then the parts of the page, then names. Null while nothing is answered. */
function hits() {
  const sought = text.trim().toLowerCase();
  const own = sought.length < 2 ? [] : places().filter((one) => one.words.toLowerCase().includes(sought));
  const begin = (one) => !one.words.toLowerCase().startsWith(sought);
  return rows && [...rows.filter((one) => one.exact), ...own.sort((a, b) => begin(a) - begin(b)).slice(0, OWN_SHOWN), ...rows.filter((one) => !one.exact)];
}

export function searchBox() {
  const shown = open && text.trim() !== "" && (rows !== null || failure);
  return h("div", { class: "search", role: "search", "data-key": "search" },
    h("input", { type: "search", id: "search", placeholder: innerWidth <= 700 ? "Search" : "Search (press /)", autocomplete: "off", spellcheck: "false",
      role: "combobox", "aria-label": "Search (press /) executions, events, commands, traces, workers, playbooks, steps, errors, screens, or topic:partition:offset",
      "aria-expanded": String(Boolean(shown)), "aria-controls": "found", "aria-autocomplete": "list",
      "aria-activedescendant": shown && hits()?.length ? `found-${chosen}` : null }),
    h("ul", { id: "found", role: "listbox", tabindex: "-1", "aria-label": "Found", hidden: !shown }, shown ? list() : null));
}

function list() {
  if (failure) return h("li", { role: "option", "aria-disabled": "true", class: "none" }, failure);
  const all = hits();
  if (!all.length) return h("li", { role: "option", "aria-disabled": "true", class: "none" }, miss(text.trim()));
  const others = more.length ? h("li", { role: "option", "aria-disabled": "true", class: "none" },
    `More ${more.map((kind) => `${kind}s`).join(" and ")} match. Type more to find them.`) : null;
  return [...all.map((row, n) => h("li", { role: "option", id: `found-${n}`, "aria-selected": String(n === chosen), "data-found": n, "data-key": `found-${row.kind}-${row.label}-${n}` },
    h("small", {}, KINDS[row.kind] ?? row.kind), h("b", {}, row.kind === "error" ? errorClass(row.label) : row.label), h("small", {}, row.detail))), others];
}

/** What was searched, where nothing was found. */
function miss(sought) {
  const nothing = `Nothing ${windowText(current)} has`;
  if (/^\d+$/.test(sought)) {
    return "No execution, event, or command has this id. The search finds whole ids only. "
      + `${nothing} it in the name of a playbook, step or worker. It looks at error texts without their numbers.`;
  }
  const names = `${nothing} “${sought}” in the name of a playbook, step or worker`;
  const errors = searchedAs.toLowerCase() === sought.toLowerCase() ? " or in an error text"
    : `, or “${errorClass(searchedAs)}” in an error text, where # is any number and '…' any quoted part`;
  return `${names}${errors}. The search finds ids and topic:partition:offset only whole, and a command by the beginning of its id too.`;
}

/** The address of what was found. */
function target({ kind, params, href }) {
  if (href) return href;
  const show = { execution: "execution", event: "execution", command: "execution", trace: "execution", quarantine: "record",
    error: "error", gap: "producers" }[kind];
  switch (kind) {
    case "quarantine": return link(current, { show, record: params.quarantine });
    case "playbook": return link(current, { show: "playbooks", playbook: params.playbook });
    case "step": return link(current, { show: "calls", step: params.step });
    case "worker": return link(current, { show: "calls", worker: params.worker });
    case "trace": return link(current, { show, execution: params.execution });
    case "command": return link(current, { show, execution: params.execution, command: params.command, try: params.attempts });
    case "gap": return `${link(current, { show })}#gaps`;
    default: return link(current, { show, ...params });
  }
}

async function ask() {
  asking?.abort();
  const mine = (asking = new AbortController());
  const wanted = unshown(text.trim());
  if (!wanted) return;
  try {
    const answer = await get("search", parameters(current, [], { q: wanted.slice(0, MOST_LETTERS) }), mine.signal);
    if (mine.signal.aborted) return;
    rows = answer.rows;
    searchedAs = answer.error_class ?? "";
    more = answer.more ?? [];
    failure = null;
  } catch (error) {
    if (mine.signal.aborted) return;
    rows = null;
    failure = error instanceof ApiError ? `${error.message}.` : "The search has failed.";
  }
  chosen = 0;
  redraw();
}

function leave(input) {
  asking?.abort();
  open = false;
  text = input.value = "";
  rows = null;
  input.blur();
  redraw();
}

/** Listens to the box; go(href) follows what was chosen. */
export function listenToSearch(go) {
  const input = () => document.getElementById("search");
  let timer;
  const later = (ms) => {
    clearTimeout(timer);
    pending = new Promise((resolve) => { timer = setTimeout(() => ask().then(resolve), ms); });
  };
  const follow = (row) => {
    leave(input());
    if (row.run) row.run();
    else go(target(row));
  };
  document.addEventListener("input", (event) => {
    if (event.target.id !== "search") return;
    // What was typed before is not answered any more.
    asking?.abort();
    text = event.target.value;
    open = true;
    rows = null;
    later(WAIT_MS);
    redraw();
  });
  document.addEventListener("keydown", async (event) => {
    if (event.key === "Escape" && event.target.closest?.(".search")) return leave(input());
    if (event.target.id !== "search") {
      const typing = event.target.closest?.("input, textarea, select");
      if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        input()?.focus();
        input()?.select();
      }
      return;
    }
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const all = hits();
      if (all?.length) chosen = (chosen + (event.key === "ArrowDown" ? 1 : all.length - 1)) % all.length;
      open = true;
      redraw();
      document.getElementById(`found-${chosen}`)?.scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (rows === null) {
        later(0);
        await pending;
      }
      // One exact hit, or the one that was chosen; else the list stays open to choose from.
      const all = hits();
      if (all?.length) follow(all[chosen]);
    }
  });
  document.addEventListener("focusout", (event) => {
    const next = event.relatedTarget;
    if (!event.target.closest?.(".search") || !open || !next || next.closest(".search")) return;
    open = false;
    redraw();
  });
  document.addEventListener("pointerdown", (event) => {
    const option = event.target.closest?.("[data-found]");
    if (option) {
      event.preventDefault();
      follow(hits()[Number(option.dataset.found)]);
    } else if (open && !event.target.closest?.(".search")) {
      open = false;
      redraw();
    }
  });
}
