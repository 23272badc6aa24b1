// Creates nodes, and patches the page so that focus, selection and scroll position stay.

/** h("a", { class: "x", href }, "text", node, null): strings become text nodes, never markup. */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "vars") {
      // Set by script: the Content-Security-Policy allows no style attributes.
      for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    } else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter((one) => one !== null && one !== undefined && one !== false));
  return node;
}

/** Makes the children of `parent` equal to `wanted`; nodes with the same data-key are kept and moved. */
export function patch(parent, wanted) {
  const keyed = new Map();
  for (const child of parent.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  let position = parent.firstChild;
  for (const next of wanted.filter(Boolean)) {
    const key = next.dataset?.key;
    const found = key ? keyed.get(key) : position;
    if (found && alike(found, next)) {
      if (found === position) position = position.nextSibling;
      else parent.insertBefore(found, position);
      update(found, next);
    } else parent.insertBefore(next, position);
  }
  while (position) {
    const gone = position;
    position = position.nextSibling;
    gone.remove();
  }
}

const alike = (a, b) =>
  a.nodeType === b.nodeType && a.nodeName === b.nodeName && a.dataset?.key === b.dataset?.key;

function update(node, next) {
  if (node.nodeType !== Node.ELEMENT_NODE) {
    if (node.data !== next.data) node.data = next.data;
    return;
  }
  for (const { name } of [...node.attributes]) {
    // Details that a reader opened stay open; a chart sets attributes of its own element.
    if (name !== "open" && !next.hasAttribute(name) && node.dataset.own === undefined) {
      node.removeAttribute(name);
    }
  }
  for (const { name, value } of next.attributes) {
    if (name === "style") node.style.cssText = next.style.cssText;
    else if (name === "class" && node.dataset.own !== undefined) continue;
    else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
  // Read before patching, which may move the options to the other node.
  const { value } = next;
  if (node.dataset.own === undefined) patch(node, [...next.childNodes]);
  if (node.nodeName === "SELECT") node.value = value;
}

/** Columns are { name, cell(row), number?, wide? }; the table scrolls inside its frame. */
export function table(label, columns, rows, key) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    h("table", {},
      h("thead", {}, h("tr", {}, columns.map((column) =>
        h("th", { scope: "col", class: column.number ? "number" : null }, column.name)))),
      h("tbody", {}, rows.map((row) =>
        h("tr", { "data-key": key ? key(row) : null }, columns.map((column, n) =>
          h(n === 0 ? "th" : "td",
            { scope: n === 0 ? "row" : null,
              class: [column.number && "number", column.wide && "wide"].filter(Boolean).join(" ") || null },
            column.cell(row))))))));
}

const GLYPHS = { COMPLETED: "✓", FAILED: "✕", ERROR: "!", CANCELLED: "⊘" };

/** A status as a glyph and a word; the colour only repeats them. */
export function status(word) {
  return h("span", { class: "status", "data-status": word },
    h("span", { class: "glyph", "aria-hidden": "true" }, GLYPHS[word] ?? "▸"), word);
}
