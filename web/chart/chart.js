// One chart for the live page and the explorers: an SVG that fits its width, with points that are buttons.

import { freshId } from "./ids.js";
import { ownKeys } from "./keys.js";
import { axesNodes, labelNodes, seriesNodes, svgNode } from "./paint.js";
import { hideHint, placePoints } from "./points.js";
import { frameOf, homeView, markerPath } from "./spec.js";
import { movedView, watchZoom } from "./zoom.js";

/** @typedef {import("./spec.js").Spec} Spec */
/** @typedef {import("./spec.js").View} View */
/** @typedef {import("./spec.js").Key} Key */
/** @typedef {import("./points.js").Points} Points */
/** @typedef {{ onPoint?: (name: string) => void }} ChartOptions called when a point is pressed */
/** @typedef {{ update: (spec: Spec) => void, close: () => void }} Chart */
/**
 * @typedef {{ root: HTMLElement, legend: HTMLElement, figure: HTMLElement, svg: SVGSVGElement, tools: HTMLElement,
 *   clip: SVGElement, axes: SVGElement, series: SVGElement, names: SVGElement, points: Points, view: View | null,
 *   spec: Spec, frame: import("./spec.js").Frame }} Drawn
 */

/**
 * Draw a chart into an element. Axes keep their range until a spec says otherwise; a zoom lasts as long.
 * @param {HTMLElement} root @param {Spec} spec @param {ChartOptions} [options] @returns {Chart}
 */
export function drawChart(root, spec, { onPoint } = {}) {
  const chart = chartParts(root, spec, onPoint);
  const show = (/** @type {View | null} */ view) => {
    chart.view = view;
    paintChart(chart);
  };
  watchZoom(chart.svg, chart, show);
  chart.tools.append(
    toolButton("+", "zoom in", () => show(movedView(chart, { factor: 0.7 }))),
    toolButton("−", "zoom out", () => show(movedView(chart, { factor: 1 / 0.7 }))),
    toolButton("reset", "whole picture", () => show(null)),
  );
  let width = 0;
  const observer = new ResizeObserver(() => {
    if (chart.figure.clientWidth !== width) paintChart(chart);
    width = chart.figure.clientWidth;
  });
  observer.observe(chart.figure);
  paintChart(chart);
  return {
    update(next) {
      const same = JSON.stringify(homeView(next)) === JSON.stringify(homeView(chart.spec));
      if (!same) chart.view = null;
      chart.spec = next;
      paintChart(chart);
    },
    close: () => observer.disconnect(),
  };
}

/**
 * The elements of a chart, still empty.
 * @param {HTMLElement} root @param {Spec} spec @param {((name: string) => void)} [onPoint] @returns {Drawn}
 */
function chartParts(root, spec, onPoint) {
  const id = freshId("chart");
  const [legend, figure, hint, tools] = ["legend", "figure", "hint", "tools"].map((name) => {
    const part = document.createElement("div");
    part.className = `acm-chart-${name}`;
    return part;
  });
  const svg = /** @type {SVGSVGElement} */ (ownKeys(svgNode("svg", { role: "group" })));
  const clip = svgNode("rect");
  const holder = svgNode("clipPath", { id });
  holder.append(clip);
  const [axes, series, names] = [1, 2, 3].map(() => svgNode("g", { "aria-hidden": "true" }));
  const layer = svgNode("g");
  series.setAttribute("clip-path", `url(#${id})`);
  svg.append(holder, axes, series, names, layer);
  hint.hidden = true;
  hint.setAttribute("aria-hidden", "true"); // the point's own name says the same
  figure.append(svg, tools, hint);
  root.classList.add("acm-chart");
  root.replaceChildren(legend, figure);
  const frame = frameOf(spec, homeView(spec), 640);
  const points = { layer, hint, nodes: new Map(), spec, frame, onPoint };
  return { root, legend, figure, svg, tools, clip, axes, series, names, points, view: null, spec, frame };
}

/** @param {string} text @param {string} label @param {() => void} handler @returns {HTMLButtonElement} */
function toolButton(text, label, handler) {
  const button = ownKeys(document.createElement("button"));
  button.type = "button";
  button.textContent = text;
  button.title = label;
  button.setAttribute("aria-label", label);
  button.addEventListener("click", handler);
  return button;
}

/** Draw what the spec says at the width that there is. @param {Drawn} chart */
function paintChart(chart) {
  const { spec, svg, clip, points } = chart;
  const frame = frameOf(spec, chart.view ?? homeView(spec), chart.figure.clientWidth || 640);
  chart.frame = points.frame = frame;
  points.spec = spec;
  const sizes = {
    width: frame.width,
    height: frame.height,
    viewBox: `0 0 ${frame.width} ${frame.height}`,
    "aria-label": spec.label,
  };
  for (const [key, value] of Object.entries(sizes)) svg.setAttribute(key, String(value));
  const box = { x: frame.left, y: frame.top, width: frame.right - frame.left, height: frame.bottom - frame.top };
  for (const [key, value] of Object.entries(box)) clip.setAttribute(key, String(value));
  svg.toggleAttribute("tabindex", !!spec.zoomable);
  if (spec.zoomable) svg.setAttribute("tabindex", "0");
  svg.classList.toggle("acm-chart-zoomable", !!spec.zoomable);
  chart.tools.hidden = !spec.zoomable;
  chart.legend.replaceChildren(...(spec.legend ?? []).map(legendKey));
  chart.legend.hidden = !spec.legend?.length;
  chart.axes.replaceChildren(...axesNodes(spec, frame));
  chart.series.replaceChildren(...seriesNodes(spec, frame));
  chart.names.replaceChildren(...labelNodes(spec, frame));
  if (chart.view) hideHint(points);
  placePoints(points);
}

/** One entry of the legend. @param {Key} key @returns {HTMLElement} */
function legendKey(key) {
  const entry = document.createElement("span");
  const picture = svgNode("svg", { width: 22, height: 16, viewBox: "-11 -8 22 16", "aria-hidden": "true" });
  const shapes = {
    line: () => svgNode("path", { class: "acm-chart-line", d: "M-10,0H10" }),
    band: () => svgNode("rect", { class: "acm-chart-band", x: -10, y: -6, width: 20, height: 12 }),
    point: () => svgNode("path", { class: "acm-chart-mark", d: markerPath(key) }),
  };
  const shape = shapes[key.kind ?? "point"]();
  shape.setAttribute("data-family", key.family);
  picture.classList.toggle("acm-chart-hollow", !!key.hollow);
  picture.append(shape);
  entry.append(picture, key.label);
  return entry;
}
