"use strict";
// Builds the elements of the page and formats values. Texts from the gateway are never parsed as HTML.
const draw = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const WIDTH = 180;
  const HEIGHT = 30;

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function shape(name, attributes) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  // The points of one line per run of values; a missing value interrupts the line.
  function linesOf(values, top) {
    const step = WIDTH / Math.max(1, values.length - 1);
    const y = (value) => HEIGHT - 2 - (value / top) * (HEIGHT - 4);
    const runs = [];
    let run = null;
    values.forEach((value, index) => {
      if (value === null) {
        run = null;
        return;
      }
      if (!run) runs.push((run = []));
      run.push([index * step, y(value)]);
    });
    return runs;
  }

  const point = ([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`;

  function sparkline(values, kind, label) {
    const known = values.filter((value) => value !== null);
    const top = Math.max(...known, 1e-9);
    const svg = shape("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: `spark ${kind}`, role: "img", "aria-label": label,
    });
    svg.append(shape("line", { x1: 0, x2: WIDTH, y1: HEIGHT - 1, y2: HEIGHT - 1, class: "base" }));
    if (known.length === 0) return svg;
    for (const run of linesOf(values, top)) {
      const [first, last] = [run[0], run[run.length - 1]];
      // A single point is drawn as a short line, to be visible.
      const points = run.length > 1 ? run : [[first[0] - 1, first[1]], [first[0] + 1, first[1]]];
      const area = [[first[0], HEIGHT - 1], ...points, [last[0], HEIGHT - 1]];
      svg.append(shape("polygon", { points: area.map(point).join(" "), class: "area" }));
      svg.append(shape("polyline", { points: points.map(point).join(" "), class: "line" }));
    }
    return svg;
  }

  // A state as a word with a sign, so that the state does not depend on the color alone.
  const SIGNS = { good: "✓", warn: "!", bad: "✕", off: "–" };
  function badge(text, kind) {
    const sign = element("span", { class: "sign", "aria-hidden": "true" }, SIGNS[kind]);
    return element("span", { class: `badge ${kind}` }, sign, text);
  }

  // `label` names the table for screen readers. Cells are texts or elements.
  function table(label, heads, rows, wide = "") {
    const head = element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text)));
    const body = rows.map((cells) => {
      const made = cells.map((cell, index) => element("td", { "data-head": heads[index] }, cell));
      return element("tr", {}, ...made);
    });
    return element("table", { class: wide, "aria-label": label },
      element("thead", {}, head), element("tbody", {}, ...body));
  }

  const empty = (text) => element("p", { class: "empty" }, text);

  function seconds(value) {
    if (value === null || value === undefined) return "–";
    if (value < 0.00095) return `${Math.round(value * 1e6)} µs`;
    if (value < 0.0095) return `${(value * 1000).toFixed(1)} ms`;
    if (value < 0.95) return `${Math.round(value * 1000)} ms`;
    return value < 9.5 ? `${value.toFixed(1)} s` : `${Math.round(value)} s`;
  }

  function duration(value) {
    if (value === null || value === undefined) return "–";
    if (value < 60) return `${Math.floor(value)} s`;
    if (value < 3600) return `${Math.floor(value / 60)} min`;
    if (value < 86400) return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
    return `${Math.floor(value / 86400)} d ${Math.floor((value % 86400) / 3600)} h`;
  }

  function rate(value) {
    if (value === null || value === undefined) return "–";
    return value === 0 ? "0" : value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
  }

  function percent(value) {
    if (value === null || value === undefined) return "–";
    const hundredth = value * 100;
    return hundredth === 0 ? "0 %" : `${hundredth < 10 ? hundredth.toFixed(1) : Math.round(hundredth)} %`;
  }

  // With the date, unless it is today.
  function time(text) {
    const moment = new Date(text);
    const isToday = moment.toDateString() === new Date().toDateString();
    return isToday ? moment.toLocaleTimeString() : moment.toLocaleString();
  }

  const count = (value) => value.toLocaleString("en");
  const bytes = (value) => (value === null ? "–" : `${Math.round(value / 1048576)} MiB`);

  return { element, sparkline, badge, table, empty, seconds, duration, rate, percent, time, count, bytes };
})();
