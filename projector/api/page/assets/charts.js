// Draws series with plotly.js in the colours of the theme.

const FONT = "Inter, ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
// The bundle adds the style sheet of its maps to the page, which the Content-Security-Policy blocks
// with a line in the console. It does not if an element with this id exists.
const MAP_STYLES = "9f215cf04c5486422605d13261cb87401f4e7763b6296af81e98efbc0130da53";

let loading;

/** Called before the first query too, because slow answers can occupy all connections of a browser. */
export function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.id = MAP_STYLES;
    script.src = "/assets/plotly.min.js";
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      loading = undefined;
      script.remove();
      reject(new Error("the charts did not load"));
    };
    document.head.append(script);
  });
  return loading;
}

const colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** The charts on the page, to draw them again after a change of theme or width. */
const drawn = new Map();

/**
 * traces: { name, colour, x, y, as: "bar" | "area" | "line" } with x in local time; unit: for the
 * hover text; clicked: called with the index of the bin.
 */
export async function chart(element, spec) {
  const seen = JSON.stringify([spec.traces, document.documentElement.dataset.theme, spec.range]);
  if (element.dataset.seen === seen) return;
  element.dataset.seen = seen;
  let library;
  try {
    library = await plotly();
  } catch {
    delete element.dataset.seen;
    return;
  }
  if (!element.isConnected) return;
  drawn.set(element, spec);
  for (const one of drawn.keys()) if (!one.isConnected) drawn.delete(one);
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const ink = colour("ink-2");
  const axis = {
    gridcolor: colour("line"), zerolinecolor: colour("line-2"), linecolor: colour("line-2"),
    tickfont: { size: rem * 0.786, color: ink }, fixedrange: true, automargin: false,
  };
  await library.react(
    element,
    spec.traces.map((trace) => ({
      name: trace.name, x: trace.x, y: trace.y,
      type: trace.as === "bar" ? "bar" : "scatter",
      mode: "lines",
      stackgroup: trace.as === "area" ? "one" : undefined,
      fillcolor: trace.as === "area" ? colour(trace.colour) : undefined,
      line: { color: colour(trace.colour), width: trace.as === "line" ? 1.5 : 0,
        shape: trace.as === "line" ? "hvh" : "linear" },
      marker: { color: colour(trace.colour), line: { width: 0 } },
      hovertemplate: `%{y:,.3~f} ${spec.unit ?? ""}`.trim(),
    })),
    {
      barmode: "stack", bargap: 0.18, height: rem * (spec.height ?? 13),
      margin: { l: rem * 3.1, r: rem * 0.4, t: rem * 0.4, b: rem * 1.7 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: FONT, size: rem * 0.857, color: colour("ink") },
      showlegend: false, hovermode: "x unified", dragmode: false,
      hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("line-2"),
        font: { family: FONT, size: rem * 0.857, color: colour("ink") } },
      xaxis: { ...axis, type: "date", range: spec.range, showgrid: false, ticks: "outside",
        ticklen: 4, tickcolor: colour("line-2"), nticks: Math.max(3, Math.round(element.clientWidth / (rem * 7))),
        hoverformat: spec.hover ?? "%d %b %H:%M",
        tickformatstops: [
          { dtickrange: [null, 59999], value: "%H:%M:%S" },
          { dtickrange: [60000, 86399999], value: "%H:%M" },
          { dtickrange: [86400000, null], value: "%d %b" } ] },
      yaxis: { ...axis, rangemode: "tozero", nticks: 5, separatethousands: true, exponentformat: "SI" },
    },
    { displayModeBar: false, responsive: true, doubleClick: false, showTips: false },
  );
  if (spec.clicked && !element.dataset.clickable) {
    element.dataset.clickable = "";
    element.on("plotly_click", (event) => drawn.get(element).clicked(event.points[0].pointIndex));
  }
}

/** Draws every chart again, after a change of theme or font size. */
export function redraw() {
  for (const [element, spec] of drawn) {
    if (!element.isConnected) continue;
    delete element.dataset.seen;
    chart(element, spec);
  }
}
