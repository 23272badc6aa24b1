// A small trend beside a figure: a line that ends where the log was read to, dashed in an interval that is not complete.

import { h, svg } from "./dom.js";
import { between, tick } from "./format.js";

const WIDTH = 100;
const HEIGHT = 20;
const MINUTE_MS = 60000;

/**
 * all: numbers or null, each for `step` ms from its x. What begins after `now` is not known. level: its colour.
 * write(value): a value as text. The figure beside it says what it counts. The ends of both axes are its title and its
 * text for a screen reader, and show while the pointer is over it.
 */
export function spark(all, { x, step, now, level = null, write = tick }) {
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
  const until = Math.min(now, x.at(-1) + step);
  const times = between(x[0], until - (until % MINUTE_MS));
  const words = `Trend ${times}: from ${write(least)} to ${write(most)}, last ${write(known.at(-1))}`;
  return h("div", { class: "spark", title: words, "data-level": level, "data-values": `${write(most)}\n${write(least)}`, "data-times": times },
    svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": words },
      svg("polygon", { points: `${text(done)} ${done.at(-1)?.[0] ?? 0},${HEIGHT} ${done[0]?.[0] ?? 0},${HEIGHT}` }),
      svg("polyline", { points: text(done) }),
      unfinished && there.length > 1 ? svg("polyline", { class: "unfinished", points: text(there.slice(-2)) }) : null));
}
