// Creates nodes, and patches the page so that focus, selection and scroll position stay.

/** Characters that turn what comes after them: an event could show "exe.pdf" for "fdp.exe". */
const TURNING = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const WRITTEN = /\\u(061c|200[ef]|202[a-e]|206[6-9])/g;

/** A text as the page shows it: such a character as JSON writes it. */
export const shown = (text) => text.replace(TURNING, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** A text that was copied from the page, as it was sent. */
export const unshown = (text) => text.replace(WRITTEN, (_, code) => String.fromCharCode(parseInt(code, 16)));

/** Attributes that are read or shown; others name something by its characters. */
const SHOWN = ["title", "aria-label", "data-label"];

/** h("a", { class: "x", href }, "text", node, null): strings become text nodes, never markup. */
export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** The same for SVG. */
export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "vars") {
      // Set by script: the Content-Security-Policy allows no style attributes.
      for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    } else node.setAttribute(name, value === true ? "" : SHOWN.includes(name) ? shown(String(value)) : value);
  }
  // One by one: the number of arguments of a call has a limit.
  for (const one of children.flat(4)) if (one !== null && one !== undefined && one !== false) node.append(one instanceof Node ? one : shown(String(one)));
  return node;
}

/** Makes the children of `parent` equal to `wanted`; nodes with the same data-key are kept and moved. */
export function patch(parent, wanted) {
  const keys = new Set(wanted.map((next) => next?.dataset?.key));
  const keyed = new Map();
  for (const child of [...parent.children]) {
    const { key } = child.dataset;
    // What is gone goes first: else all that comes after it would be moved.
    if (key && !keys.has(key)) child.remove();
    else if (key) keyed.set(key, child);
  }
  let position = parent.firstChild;
  for (const next of wanted.filter(Boolean)) {
    const key = next.dataset?.key;
    const found = key ? keyed.get(key) : position;
    if (found && alike(found, next)) {
      if (found === position) position = position.nextSibling;
      else move(parent, found, position);
      update(found, next);
    } else parent.insertBefore(next, position);
  }
  while (position) {
    const gone = position;
    position = position.nextSibling;
    gone.remove();
  }
}

/** A node that is moved loses the focus. */
function move(parent, node, position) {
  const focused = node.contains(document.activeElement) ? document.activeElement : null;
  parent.insertBefore(node, position);
  focused?.focus({ preventScroll: true });
}

const alike = (a, b) =>
  a.nodeType === b.nodeType && a.nodeName === b.nodeName && a.dataset?.key === b.dataset?.key;

/** Stands for a node with this key that stays as it is. */
export const kept = (tag, key) => h(tag, { "data-key": key, "data-kept": "" });

function update(node, next) {
  if (next.dataset?.kept !== undefined) return;
  if (node.nodeType !== Node.ELEMENT_NODE) {
    if (node.data !== next.data) node.data = next.data;
    return;
  }
  for (const { name } of [...node.attributes]) {
    // Details that a reader opened or closed stay so, as does the mark of what a button has done; a chart sets
    // attributes of its own element.
    if (!["open", "data-done"].includes(name) && !next.hasAttribute(name) && node.dataset.own === undefined) {
      node.removeAttribute(name);
    }
  }
  for (const { name, value } of next.attributes) {
    if (name === "open") continue;
    if (name === "style") {
      if (node.style.cssText !== next.style.cssText) node.style.cssText = next.style.cssText;
    } else if (name === "class" && node.dataset.own !== undefined) continue;
    else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
  // Read before patching, which may move the options to the other node.
  const { selectedIndex } = next;
  if (node.dataset.own === undefined) patch(node, [...next.childNodes]);
  if (node.nodeName === "SELECT" && node.selectedIndex !== selectedIndex) node.selectedIndex = selectedIndex;
}

const GLYPHS = { COMPLETED: "✓", FAILED: "✕", ERROR: "!", CANCELLED: "⊘", SKIPPED: "–", PENDING: "…" };

/** A status as a glyph and a word; the colour only repeats them. */
export function status(word) {
  return h("span", { class: "status", "data-status": word },
    h("span", { class: "glyph", "aria-hidden": "true" }, GLYPHS[word] ?? "▸"), word);
}

/** A text that may continue on the next line after each of these signs, up to the thousandth. */
export function breaking(text, signs) {
  const parts = text.split(new RegExp(`(?<=[${signs}])`));
  return [parts.slice(0, 1000).map((part) => [part, h("wbr")]), parts.slice(1000).join("")];
}

export const flag = (state, word, first = false) =>
  h("span", { class: first ? "flag first" : "flag", "data-state": state }, word);

/** Facts by name; those without a value are left out. */
export function facts(entries) {
  return h("dl", { class: "facts" }, Object.entries(entries)
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => h("div", { "data-key": `fact-${name}` }, h("dt", {}, name), h("dd", {}, value))));
}

/** The words of a command: on a phone a line ends between two of them, never within "--id". */
const words = (text) => text.split(/(\s+)/).map((one) => (one.trim() ? h("span", {}, one) : one));

/** A text that a button copies. */
export const command = (text, label) => h("div", { class: "command" }, h("pre", { tabindex: "0", role: "region", "aria-label": label }, words(text)),
  h("button", { type: "button", class: "button", "data-copy": text, "aria-label": `Copy: ${label}` }, "Copy"));
