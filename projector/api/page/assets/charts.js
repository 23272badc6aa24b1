// Draws series over time with uPlot, in the colours of the theme; loaded after the first figures.

import { shown } from "./dom.js";
import { clock, day, tick } from "./format.js";

const FONT = "Inter, ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
const DAY_MS = 86400000;
const DRAG_PX = 8;
const MARKS_IN_TIP = 4;

/** On the wall, which is read from afar. */
const isFar = () => document.body.dataset.view === "wall";

let loading;

/** The library, or null if this server was installed without it. */
function library() {
  loading ??= new Promise((resolve) => {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = new URL("uplot.css", import.meta.url);
    const script = document.createElement("script");
    script.src = new URL("uplot.js", import.meta.url);
    script.onload = () => resolve(window.uPlot);
    script.onerror = () => resolve(null);
    document.head.append(style, script);
  });
  return loading;
}

const colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** The charts on the page by their element: the spec, and uPlot's object. */
export const drawn = new Map();

/**
 * traces: { name, colour, y, as: "bar" | "area" | "line" } over x, times in ms; each value stands for
 * the time from its x until `step` ms later; unit: for the tip; clicked(n): a bin; zoomed(from, to):
 * a range, in ms; height: in rem; now: a bin that ends after it is not complete, and drawn paler; what
 * begins after it is not known, and not drawn. marks: { at, word }, times that have a line and a
 * word in the tip. A bin has one line at most, so that many marks hide no figure.
 */
export async function chart(element, spec) {
  const seen = JSON.stringify([spec.x, spec.traces, spec.marks, spec.now, spec.height, document.documentElement.dataset.theme]);
  if (element.dataset.seen === seen) return;
  element.dataset.seen = seen;
  const uPlot = await library();
  if (!element.isConnected || element.dataset.seen !== seen) return;
  forget();
  if (!uPlot) return element.replaceChildren(missing());
  const before = drawn.get(element);
  const { options, data } = plan(uPlot, element, spec);
  if (before && before.shape === shapeOf(spec)) {
    before.spec = spec;
    before.plot.setData(data);
    return;
  }
  before?.plot.destroy();
  element.replaceChildren();
  const entry = { spec, shape: shapeOf(spec) };
  // Known before it is drawn: hooks ask for it.
  drawn.set(element, entry);
  entry.plot = new uPlot(options, data, element);
  widths.observe(element);
}

const shapeOf = (spec) => JSON.stringify([spec.traces.map(({ name, colour: one, as }) => [name, one, as]),
  spec.height, spec.step, document.documentElement.dataset.theme]);

function forget() {
  for (const [element, { plot }] of drawn) {
    if (element.isConnected) continue;
    widths.unobserve(element);
    plot.destroy();
    drawn.delete(element);
  }
}

const widths = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    const plot = drawn.get(target)?.plot;
    if (plot && contentRect.width && Math.abs(plot.width - contentRect.width) > 1) {
      plot.setSize({ width: contentRect.width, height: plot.height });
    }
  }
});

function missing() {
  const words = document.createElement("p");
  words.className = "empty";
  words.textContent = "This server was installed without Maven, so it has no charts.";
  return words;
}

/** Stacked series as uPlot wants them: the highest total first, so that lower ones are drawn over it. */
function plan(uPlot, element, spec) {
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const stacked = spec.traces.filter((trace) => trace.as !== "line");
  const lines = spec.traces.filter((trace) => trace.as === "line");
  const sums = spec.x.map(() => 0);
  const known = (values) => values.map((value, n) => (spec.now && spec.x[n] >= spec.now ? null : value));
  const totals = stacked.map((trace) => known(trace.y.map((value, n) => (sums[n] += value ?? 0))));
  const series = [
    ...stacked.map((trace, n) => ({ trace, y: totals[n] })).reverse(),
    ...lines.map((trace) => ({ trace, y: known(trace.y) })),
  ];
  const options = {
    width: element.clientWidth, height: Math.round(rem * (spec.height ?? 13)), ms: 1,
    padding: [rem * 0.5, rem * (isFar() ? 2 : 1.5), 0, 0],
    series: [{}, ...series.map(({ trace }) => drawAs(uPlot, trace, spec))],
    scales: { x: { time: true, range: (_, least, most) => [least, most + spec.step] },
      y: { range: (_, least, most) => [0, (spec.unit === "%" ? 100 : most || 1) * 1.06] } },
    axes: axes(rem, element, spec),
    legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false } },
    hooks: { setCursor: [(plot) => tip(plot, element)], setSelect: [(plot) => zoom(plot, element)], draw: [(plot) => unfinished(plot, element), (plot) => marked(plot, element)], ready: [(plot) => clicks(plot, element), (plot) => names(plot, element)] },
  };
  return { options, data: [spec.x, ...series.map(({ y }) => y)] };
}

function drawAs(uPlot, trace, { step }) {
  const ink = colour(trace.colour);
  const common = { stroke: ink, points: { show: false } };
  if (trace.as === "line") return { ...common, width: isFar() ? 3 : 1.5, paths: plateaus(step) };
  if (trace.as === "area") return { ...common, fill: ink, width: 0, paths: plateaus(step) };
  return { ...common, fill: ink, width: 0, paths: uPlot.paths.bars({ size: [0.84], align: 1 }) };
}

/** Paths with a plateau over each interval. uPlot's own steps have none for the last value before a gap. */
function plateaus(step) {
  return (plot, n, first, last) => {
    const [stroke, fill] = [new Path2D(), new Path2D()];
    const place = (value, scale) => Math.round(plot.valToPos(value, scale, true));
    const zero = place(0, "y");
    let drawing = false;
    for (let at = first; at <= last; at += 1) {
      const value = plot.data[n][at];
      const [left, right] = [place(plot.data[0][at], "x"), place(plot.data[0][at] + step, "x")];
      if (value != null) {
        const y = place(value, "y");
        stroke[drawing ? "lineTo" : "moveTo"](left, y);
        stroke.lineTo(right, y);
        fill.rect(left, y, right - left, zero - y);
      }
      drawing = value != null;
    }
    return { stroke, fill, flags: 1 };
  };
}

/** Steps of an axis that counts: there is no half of a call. */
const WHOLE = Array.from({ length: 30 }, (_, n) => [1, 2, 5][n % 3] * 10 ** Math.floor(n / 3));

/** The font is of whole pixels: uPlot finds no others in it, and does not enlarge them for a fine screen. */
function axes(rem, element, spec) {
  const counts = spec.unit !== "%" && spec.traces.every((trace) => trace.y.every((one) => one === null || Number.isInteger(one)));
  const common = { stroke: colour("ink-2"), font: `${Math.round(rem * (isFar() ? 1 : 0.786))}px ${FONT}` };
  const line = { stroke: colour("line"), width: 1 };
  return [
    { ...common, grid: { show: false }, ticks: { ...line, stroke: colour("line-2"), size: 4 }, size: rem * 1.7,
      space: Math.min(rem * 6, element.clientWidth / 4), gap: 3,
      values: (_, splits, __, ___, step) => splits.map((at, n) => time(at, step, splits[n - 1])) },
    { ...common, grid: line, ticks: { show: false }, size: rem * (isFar() ? 3.8 : 3.1), gap: 6,
      // Some five lines, whatever its height.
      space: rem * Math.max(1.3, (spec.height ?? 13) / 7),
      ...(counts ? { incrs: WHOLE } : {}), values: (_, splits) => splits.map((one) => tick(one, splits.at(-1)) + (spec.unit === "%" ? "%" : "")) },
  ];
}

/** 14:00, and the day where a new one begins. */
function time(at, step, before) {
  const moment = new Date(at);
  if (step >= DAY_MS) return day(moment);
  const text = clock(at, { always: true });
  const newDay = before === undefined ? text === "00:00:00" : new Date(before).getDate() !== moment.getDate();
  return newDay ? day(moment) : step < 60000 ? text : text.slice(0, 5);
}

/** Bins that are still being counted: what is drawn of them becomes paler. */
function unfinished(plot, element) {
  const { spec } = drawn.get(element) ?? {};
  const first = spec?.now ? spec.x.find((at) => at + spec.step > spec.now) : undefined;
  if (first === undefined) return;
  const left = plot.valToPos(first, "x", true);
  plot.ctx.save();
  plot.ctx.globalAlpha = 0.55;
  plot.ctx.fillStyle = colour("panel");
  plot.ctx.fillRect(left, plot.bbox.top, plot.bbox.left + plot.bbox.width - left, plot.bbox.height);
  plot.ctx.restore();
}

/** More lines than this would hide the figures. */
const MOST_LINES = 12;

/** The first mark of each bin, which has the bin's triangle. */
const firstMarks = ({ x, step, marks = [] }) =>
  x.map((bin) => Math.min(...marks.map(({ at }) => at).filter((at) => at >= bin && at < bin + step))).filter(Number.isFinite);

/** A triangle above each mark, and a dashed line below it if there are few. */
function marked(plot, element) {
  const { spec } = drawn.get(element) ?? {};
  if (!spec?.marks?.length) return;
  const { ctx, bbox } = plot;
  const size = Math.round(devicePixelRatio * 4);
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = colour("ink-2");
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([size, size]);
  const firsts = firstMarks(spec);
  for (const at of firsts) {
    // A line of one pixel that isn't in the middle of one is drawn pale, in two.
    const x = Math.floor(plot.valToPos(at, "x", true)) + (ctx.lineWidth / 2) % 1;
    if (firsts.length <= MOST_LINES) {
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.beginPath();
    ctx.moveTo(x - size, bbox.top - size);
    ctx.lineTo(x + size, bbox.top - size);
    ctx.lineTo(x, bbox.top + size);
    ctx.fill();
  }
  ctx.restore();
}

// ---- What the pointer does --------------------------------------------------------------------

/** The bin under the pointer; uPlot's is the one whose begin is nearest. */
const pointed = (plot, { x }) => x.findLastIndex((at) => at <= plot.posToVal(plot.cursor.left, "x"));

function tip(plot, element) {
  const entry = drawn.get(element);
  let box = element.querySelector(".tip");
  if (!entry || !(plot.cursor.left >= 0)) return box?.remove();
  if (!box) {
    box = document.createElement("div");
    box.className = "tip";
    box.setAttribute("aria-hidden", "true");
    plot.over.append(box);
  }
  const { spec } = entry;
  const n = pointed(plot, spec);
  const unknown = spec.now && spec.x[n] >= spec.now;
  const head = document.createElement("b");
  head.textContent = spec.hover ? spec.hover(spec.x[n]) : clock(spec.x[n]);
  box.replaceChildren(head, ...spec.traces.map((trace) => {
    const line = document.createElement("span");
    line.dataset.colour = trace.colour;
    line.textContent = `${shown(trace.name)} ${unknown ? "not known yet" : `${tick(trace.y[n])}${spec.unit ?? ""}`}`;
    return line;
  }), ...marksIn(spec, spec.x[n]).map((word) => {
    const line = document.createElement("span");
    line.textContent = `▾ ${word}`;
    return line;
  }));
  const right = plot.cursor.left > plot.over.clientWidth / 2;
  box.style.maxWidth = `${(right ? plot.cursor.left : plot.over.clientWidth - plot.cursor.left) - 12}px`;
  box.style.left = right ? "auto" : `${plot.cursor.left + 12}px`;
  box.style.right = right ? `${plot.over.clientWidth - plot.cursor.left + 12}px` : "auto";
}

const MARK_PX = 8;

/** Shows the tip of the bin with this mark, or none. */
function point(plot, { x, step }, mark) {
  const bin = mark === undefined ? undefined : x.findLast((at) => at <= mark);
  plot.setCursor(bin === undefined ? { left: -10, top: -10 } : { left: plot.valToPos(bin + step / 2, "x"), top: 0 });
}

/** Triangles are above the figures, where uPlot follows no pointer: the nearest one shows its tip. */
function names(plot, element) {
  let shows = false;
  const follow = (mark) => {
    if (mark !== undefined || shows) point(plot, drawn.get(element).spec, mark);
    shows = mark !== undefined;
  };
  plot.root.addEventListener("pointermove", ({ clientX, clientY }) => {
    const { left, top } = plot.over.getBoundingClientRect();
    const apart = (mark) => Math.abs(plot.valToPos(mark, "x") - (clientX - left));
    // Inside, uPlot moves its cursor.
    if (clientY >= top) shows = false;
    else follow(firstMarks(drawn.get(element).spec).filter((mark) => apart(mark) <= MARK_PX).sort((a, b) => apart(a) - apart(b))[0]);
  });
  plot.root.addEventListener("pointerleave", () => follow());
}

/** A link below a chart that names a mark shows it. */
for (const [event, isOn] of [["focusin", true], ["pointerover", true], ["focusout", false], ["pointerout", false]]) {
  document.addEventListener(event, ({ target }) => {
    const named = target.closest?.("[data-mark]");
    const { plot, spec } = drawn.get(named?.closest(".panel").querySelector(".chart")) ?? {};
    if (plot) point(plot, spec, isOn ? Number(named.dataset.mark) : undefined);
  });
}

/** The words of the marks in a bin, the first few. */
function marksIn({ marks = [], step }, bin) {
  const words = marks.filter(({ at }) => at >= bin && at < bin + step).map(({ word }) => word);
  return words.length > MARKS_IN_TIP ? [...words.slice(0, MARKS_IN_TIP), `and ${words.length - MARKS_IN_TIP} more`] : words;
}

function zoom(plot, element) {
  const { left, width } = plot.select;
  if (width < DRAG_PX) return;
  const range = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
  plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  drawn.get(element)?.spec.zoomed?.(...range);
}

function clicks(plot, element) {
  let from = null;
  plot.over.addEventListener("pointerdown", (event) => { from = event.clientX; });
  plot.over.addEventListener("click", (event) => {
    const { spec } = drawn.get(element) ?? {};
    const still = from !== null && Math.abs(event.clientX - from) < DRAG_PX;
    if (still && spec?.clicked && plot.cursor.left >= 0) spec.clicked(pointed(plot, spec));
  });
}

/** Draws every chart again, after a change of theme or font size. */
export function redraw() {
  for (const [element, entry] of drawn) {
    delete element.dataset.seen;
    // Colours are set when a chart is made.
    entry.shape = null;
    chart(element, entry.spec);
  }
}
