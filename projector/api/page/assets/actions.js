// What the reader does: clicks, changes and keys.

import { copyText, exportTable, save } from "./tables.js";
import { get } from "./api.js";
import { redraw } from "./charts.js";
import { FILTERS, link } from "./router.js";
import { listenToSearch } from "./search.js";
import { page } from "./state.js";
import { listenToTimeline } from "./timeline.js";
import { typed } from "./windows.js";

/** go(href, options) follows a link, draw() draws the page again, open() queries again. */
export function listen({ go, draw, open }) {
  listenToSearch(go);
  listenToTimeline(() => page.address, go);
  document.addEventListener("click", (event) => {
    const anchor = event.target.closest?.("a[href], [data-href]");
    if (anchor && !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0) {
      const href = anchor.getAttribute("href") ?? anchor.dataset.href;
      if (/^\/($|[?#])/.test(href)) {
        event.preventDefault();
        if (anchor.dataset.steps) history.go(-anchor.dataset.steps);
        else go(href);
      }
      return;
    }
    const button = event.target.closest?.("button");
    if (button) press(button, draw);
  });
  document.addEventListener("change", (event) => {
    const { name, value, selectedIndex } = event.target;
    // The first option is all of them: the value of another one may be empty too.
    if (FILTERS.includes(name)) go(link(page.address, { [name]: selectedIndex === 0 ? null : value }));
  });
  document.addEventListener("submit", (event) => {
    if (event.target.id !== "range") return;
    event.preventDefault();
    const { from, until } = event.target.elements;
    const changes = typed(from, until);
    until.setCustomValidity(changes ? "" : "The end must be after the beginning.");
    if (!changes) return event.target.reportValidity();
    closePicker();
    go(link(page.address, changes));
  });
  document.addEventListener("pointerdown", (event) => event.target.closest?.(".picker") || closePicker());
  // However the picker was closed, it opens with the window that is shown. The event does not bubble.
  document.addEventListener("toggle", ({ target }) => target.matches(".picker:not([open])") && target.querySelector("form").reset(), true);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && closePicker()) document.querySelector(".picker summary").focus();
  });
  const token = document.getElementById("token");
  token.addEventListener("close", () => {
    const value = document.getElementById("token-value");
    if (value.value) sessionStorage.setItem("token", value.value);
    value.value = "";
    open();
  });
}

/** Gives whether it was open. */
function closePicker() {
  const picker = document.querySelector(".picker[open]");
  if (picker) picker.open = false;
  return picker !== null;
}

function press(button, draw) {
  const { expand, copy, table, as, download } = button.dataset;
  if (expand) {
    if (!page.expanded.delete(expand)) page.expanded.add(expand);
    draw();
  } else if (copy !== undefined) done(button, copyText(copy));
  else if (table) done(button, exportTable(table, as));
  else if (download) done(button, saved(download, button.dataset.name));
  else if (button.id === "pause") {
    page.paused = !page.paused;
    draw();
    if (!page.paused) dispatchEvent(new Event("live"));
  } else if (button.id === "again") dispatchEvent(new Event("live"));
  else if (button.id === "filters") {
    document.body.dataset.filters = document.body.dataset.filters === "open" ? "" : "open";
    draw();
  } else if (button.id === "theme") theme(draw);
}

/** A file of the API, requested with the token that the page has. */
async function saved(path, name) {
  const blob = await get(path, new URLSearchParams(), new AbortController().signal, { accept: "application/x-ndjson" });
  save(name, blob, "application/x-ndjson");
}

/** Says how it went: on the button, for five seconds, and aloud. */
async function done(button, work) {
  const said = document.getElementById("said");
  said.textContent = "";
  let word = "Done";
  try {
    await work;
  } catch {
    word = "Failed";
  }
  button.dataset.done = word;
  said.textContent = `${word}: ${button.getAttribute("aria-label") ?? button.textContent}`;
  setTimeout(() => delete button.dataset.done, 5000);
}

function theme(draw) {
  const order = ["auto", "light", "dark"];
  const next = order[(order.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % order.length];
  if (next === "auto") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem("theme");
  } else localStorage.setItem("theme", (document.documentElement.dataset.theme = next));
  draw();
  redraw();
}
