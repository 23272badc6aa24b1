// A small trend beside a figure: a line, and dashed where its last interval is not complete.

import { svg } from "./dom.js";

const WIDTH = 100;
const HEIGHT = 20;

/** values: numbers or null, the oldest first; level: colours it. The figure beside it says what it is. */
export function spark(values, { unfinished = false, level = null } = {}) {
  const known = values.filter((one) => one !== null && one !== undefined);
  if (known.length < 2) return null;
  const [least, most] = [Math.min(0, ...known), Math.max(...known)];
  const points = values.map((one, n) => one === null || one === undefined ? null
    : [(n / (values.length - 1)) * WIDTH, HEIGHT - 1 - ((one - least) / (most - least || 1)) * (HEIGHT - 2)]);
  const there = points.filter(Boolean);
  const done = unfinished ? there.slice(0, -1) : there;
  const text = (some) => some.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  return svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true",
    "data-level": level },
  svg("polygon", { points: `${text(done)} ${done.at(-1)?.[0] ?? 0},${HEIGHT} ${done[0]?.[0] ?? 0},${HEIGHT}` }),
  svg("polyline", { points: text(done) }),
  unfinished && there.length > 1 ? svg("polyline", { class: "unfinished", points: text(there.slice(-2)) }) : null);
}

/** Rows of (at, value) as a trend over the whole window: intervals without a row are 0. */
export function trendOf(rows, bins, value) {
  const at = new Map(rows.map((row) => [new Date(row.at).getTime(), value(row)]));
  return bins.map((one) => at.get(one) ?? 0);
}
