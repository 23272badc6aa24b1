// A small trend beside a figure: a line that ends where the log was read to, dashed in an interval that is not complete.

import { svg } from "./dom.js";
import { between, tick } from "./format.js";

const WIDTH = 100;
const HEIGHT = 20;

/**
 * all: numbers or null, each for `step` ms from its x; what begins after `now` is not known.
 * level: colours it. The figure beside it says what it is; its label has the ends of both axes, for a screen reader.
 */
export function spark(all, { x, step, now, level = null }) {
  const values = all.map((one, n) => (x[n] < now ? one : null));
  const known = values.filter((one) => one !== null && one !== undefined);
  if (known.length < 2) return null;
  const [least, most] = [Math.min(0, ...known), Math.max(...known)];
  const points = values.map((one, n) => one === null || one === undefined ? null
    : [(n / (values.length - 1)) * WIDTH, HEIGHT - 1 - ((one - least) / (most - least || 1)) * (HEIGHT - 2)]);
  const unfinished = Boolean(points[x.findIndex((at) => at < now && at + step > now)]);
  const there = points.filter(Boolean);
  const done = unfinished ? there.slice(0, -1) : there;
  const text = (some) => some.map(([left, top]) => `${left.toFixed(1)},${top.toFixed(1)}`).join(" ");
  const words = `Trend ${between(x[0], Math.min(now, x.at(-1) + step))}: from ${tick(least)} to ${tick(most)}, last ${tick(known.at(-1))}`;
  return svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": words,
    "data-level": level },
  svg("polygon", { points: `${text(done)} ${done.at(-1)?.[0] ?? 0},${HEIGHT} ${done[0]?.[0] ?? 0},${HEIGHT}` }),
  svg("polyline", { points: text(done) }),
  unfinished && there.length > 1 ? svg("polyline", { class: "unfinished", points: text(there.slice(-2)) }) : null);
}
