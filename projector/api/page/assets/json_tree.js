// JSON text as a tree that folds, and the difference of two texts. Numbers stay as written: ids are
// greater than a JavaScript number can be.

import { breaking, h } from "./dom.js";
import { count, plural } from "./format.js";

const TOKEN = /\s*([{}[\],:]|"(?:[^"\\]|\\.)*"|[^\s{}[\],:"]+)/gy;
const OPEN_BELOW = 2;
const OPEN_ITEMS = 40;
/** Of one collection, or of one list of differences. */
export const MOST_DRAWN = 1000;

/** { kind: "object", entries } | { kind: "list", entries } | { kind: "value", text }; null if it is no JSON. */
export function parse(text) {
  const tokens = [...(text ?? "").matchAll(TOKEN)].map((found) => found[1]);
  let n = 0;
  const value = () => {
    const token = tokens[n++];
    if (token === "{" || token === "[") return collection(token === "{");
    if (token === undefined || "}],:".includes(token)) throw new SyntaxError("no JSON");
    return { kind: "value", text: token };
  };
  const collection = (named) => {
    const entries = [];
    const end = named ? "}" : "]";
    while (tokens[n] !== end) {
      const name = named ? JSON.parse(tokens[n++]) : entries.length;
      if (named && tokens[n++] !== ":") throw new SyntaxError("no JSON");
      entries.push([name, value()]);
      if (tokens[n] === ",") n += 1;
      else if (tokens[n] !== end) throw new SyntaxError("no JSON");
    }
    n += 1;
    return { kind: named ? "object" : "list", entries };
  };
  try {
    const root = value();
    return n === tokens.length ? root : null;
  } catch {
    return null;
  }
}

/** The text as nodes: what is deep or long is folded. */
export function tree(text) {
  const root = parse(text);
  return root ? node(null, root, 0, true) : h("span", {}, text ?? "–");
}

function node(name, one, depth, last) {
  const label = typeof name === "string" ? [h("span", { class: "name-of" }, JSON.stringify(name)), ": "] : null;
  const comma = last ? "" : ",";
  if (one.kind === "value" || !one.entries.length) {
    const text = one.kind === "value" ? one.text : one.kind === "object" ? "{}" : "[]";
    return h("div", {}, label, h("span", { class: text[0] === "\"" ? "string" : "literal" }, breaking(text, ":"), comma));
  }
  const [open, close] = one.kind === "object" ? "{}" : "[]";
  return h("details", { open: depth < OPEN_BELOW && one.entries.length <= OPEN_ITEMS },
    h("summary", {}, label, open, h("small", {}, ` ${plural(one.entries.length, one.kind === "object" ? "field" : "item")} `)),
    h("div", { class: "in" }, one.entries.slice(0, MOST_DRAWN).map(([key, item], n) => node(key, item, depth + 1, n === one.entries.length - 1)),
      one.entries.length > MOST_DRAWN ? h("small", {}, `and ${count(one.entries.length - MOST_DRAWN)} more. Copy takes all`) : null),
    h("div", {}, close, comma));
}

/** Every value by its path, and the kind of what is no value by its path. */
function flat(one, path = "", values = new Map(), kinds = new Map()) {
  if (one.kind === "value") values.set(path, one.text);
  else if (!one.entries.length) values.set(path, one.kind === "object" ? "{}" : "[]");
  else {
    kinds.set(path, one.kind);
    for (const [name, item] of one.entries) flat(item, one.kind === "object" ? (path ? `${path}.${name}` : name) : `${path}[${name}]`, values, kinds);
  }
  return { values, kinds };
}

/**
 * Rows { path, before, after, kindBefore, kindAfter } where the two differ, and how many values are equal;
 * null if one is no JSON. A kind is object or list where a path has no value of its own. What is null in
 * one may be left out of the other.
 */
export function difference(before, after) {
  const [a, b] = [parse(before), parse(after)];
  if (!a || !b) return null;
  const [{ values: x, kinds: kindsBefore }, { values: y, kinds: kindsAfter }] = [flat(a), flat(b)];
  const paths = [...new Set([...x.keys(), ...y.keys()])];
  const rows = paths.filter((path) => (x.get(path) ?? "null") !== (y.get(path) ?? "null"))
    .map((path) => ({ path, before: x.get(path) ?? null, after: y.get(path) ?? null,
      kindBefore: kindsBefore.get(path), kindAfter: kindsAfter.get(path) }));
  return { rows, equal: paths.filter((path) => x.get(path) === y.get(path)).length };
}
