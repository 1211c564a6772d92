// Draws the axes, lines, bands, bars, dots and names of a chart as SVG.

import { alongLine, placeLabels } from "./labels.js";
import { tickStep, tickText, tickValues } from "./scale.js";
import { withinFrame } from "./spec.js";

/** @typedef {import("./spec.js").Spec} Spec */
/** @typedef {import("./spec.js").Frame} Frame */
/** @typedef {import("./spec.js").Place} Place */

const SVG = "http://www.w3.org/2000/svg";
const ARROWS = { left: "← better", right: "better →", up: "↑ better", down: "↓ better" };
/** @type {Map<string, number>} */
const measuredTexts = new Map();
/** @type {CanvasRenderingContext2D | null} */
let measuringCanvas = null;

/**
 * An SVG element.
 * @param {string} name @param {Record<string, unknown>} attributes @param {string} [text] @returns {SVGElement}
 */
export function svgNode(name, attributes = {}, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) node.setAttribute(key, String(value));
  }
  if (text !== undefined) node.textContent = text;
  return node;
}

/** The width of a name in pixels. @param {string} text */
function textWidth(text) {
  measuringCanvas ??= document.createElement("canvas").getContext("2d");
  let width = measuredTexts.get(text);
  if (width === undefined && measuringCanvas) {
    measuringCanvas.font = "12px system-ui, sans-serif";
    width = measuringCanvas.measureText(text).width;
    measuredTexts.set(text, width);
  }
  return width ?? 7 * text.length;
}

/** Pixels as the path of a line. @param {Place[]} places */
function pathOf(places) {
  return places.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");
}

/** @param {Spec} spec @param {Frame} frame @returns {SVGElement[]} */
export function axesNodes(spec, frame) {
  const { left, right, top, bottom } = frame;
  return [
    svgNode("rect", { class: "acm-chart-plot", x: left, y: top, width: right - left, height: bottom - top }),
    ...tickNodes(spec, frame, "y"),
    ...tickNodes(spec, frame, "x"),
    ...titleNodes(spec, frame),
  ];
}

/**
 * Ticks and grid of one axis.
 * @param {Spec} spec @param {Frame} frame @param {"x" | "y"} axis @returns {SVGElement[]}
 */
function tickNodes(spec, frame, axis) {
  const across = axis === "x";
  const range = frame.view[axis];
  const room = across ? (frame.right - frame.left) / 90 : (frame.bottom - frame.top) / 44;
  const step = tickStep(range, room);
  const ticks =
    spec[axis].ticks?.filter(({ at }) => at >= range[0] && at <= range[1]) ??
    tickValues(range, room).map((at) => ({ at, label: tickText(at, step, !!spec[axis].percent) }));
  const ends = ticks.map(({ at, label }) => [
    frame[axis](at) - textWidth(label) / 2,
    frame[axis](at) + textWidth(label) / 2,
  ]);
  const crowded = (/** @type {number} */ every) =>
    ends.some(([left], i) => i >= every && !(i % every) && left < ends[i - every][1] + 6);
  let every = 1;
  while (across && every < ticks.length && crowded(every)) every += 1;
  return ticks.flatMap(({ at, label }, i) => {
    const place = frame[axis](at);
    const ends = across
      ? { x1: place, x2: place, y1: frame.top, y2: frame.bottom }
      : { x1: frame.left, x2: frame.right, y1: place, y2: place };
    const text = across
      ? { x: place, y: frame.bottom + 16, "text-anchor": "middle" }
      : { x: frame.left - 6, y: place + 4, "text-anchor": "end" };
    const line = svgNode("line", { class: "acm-chart-grid", ...ends });
    return i % every ? [line] : [line, svgNode("text", { class: "acm-chart-tick", ...text }, label)];
  });
}

/**
 * The titles of both axes, with which way is better.
 * @param {Spec} spec @param {Frame} frame @returns {SVGElement[]}
 */
function titleNodes({ x, y }, frame) {
  const down = frame.height - 8;
  const sides = { left: [frame.right, "end"], right: [frame.left, "start"] };
  const [at, anchor] = sides[/** @type {"left" | "right"} */ (x.better)] ?? [(frame.left + frame.right) / 2, "middle"];
  const nodes = [
    svgNode("text", { class: "acm-chart-title", x: 4, y: 14 }, y.label),
    svgNode("text", { class: "acm-chart-title", x: at, y: down, "text-anchor": anchor }, x.label),
  ];
  if (y.better) nodes[0].append(svgNode("tspan", { class: "acm-chart-better", dx: 10 }, ARROWS[y.better]));
  if (x.better) {
    const near = x.better === "left";
    const place = { x: near ? frame.left : frame.right, y: down, "text-anchor": near ? "start" : "end" };
    nodes.push(svgNode("text", { class: "acm-chart-better", ...place }, ARROWS[x.better]));
  }
  return nodes;
}

/**
 * Bands, bars, dots and lines, from the back to the front.
 * @param {Spec} spec @param {Frame} frame @returns {SVGElement[]}
 */
export function seriesNodes(spec, frame) {
  const { x, y } = frame;
  const bands = (spec.bands ?? []).map(({ name, points, family }) => {
    const above = points.map(([at, , high]) => /** @type {Place} */ ([x(at), y(high)]));
    const below = points.map(([at, low]) => /** @type {Place} */ ([x(at), y(low)])).reverse();
    return svgNode("path", {
      class: "acm-chart-band",
      "data-family": family,
      "data-name": name,
      d: pathOf([...above, ...below]) + "Z",
    });
  });
  const bars = (spec.bars ?? []).map((bar) => {
    const [left, right, base, end] = [x(bar.x0), x(bar.x1), y(0), y(bar.y)];
    const box = {
      x: Math.min(left, right),
      y: Math.min(base, end),
      width: Math.abs(right - left),
      height: Math.abs(base - end),
    };
    return svgNode("rect", { class: "acm-chart-bar", "data-family": bar.family, ...box });
  });
  const dots = (spec.dots ?? []).map(({ name, points, family }) => {
    const d = points.map(([at, value]) => `M${x(at).toFixed(1)},${y(value).toFixed(1)}h0`).join("");
    return svgNode("path", { class: "acm-chart-dots", "data-family": family, "data-name": name, d });
  });
  const lines = (spec.lines ?? []).map(({ name, points, family, dashed, faint }) => {
    const look = `acm-chart-line${dashed ? " acm-chart-dashed" : ""}${faint ? " acm-chart-faint" : ""}`;
    const d = pathOf(points.map(([at, value]) => [x(at), y(value)]));
    return svgNode("path", { class: look, "data-family": family, "data-name": name, d });
  });
  return [...bands, ...bars, ...dots, ...lines];
}

/** @typedef {import("./labels.js").Label & { text: string, family?: string }} Named */

/** The names beside points and lines. @param {Spec} spec @param {Frame} frame @returns {SVGElement[]} */
export function labelNodes(spec, frame) {
  const onPlot = (/** @type {Place} */ [x, y]) => withinFrame(frame, x, y);
  const points = (spec.points ?? []).map(({ x, y }) => /** @type {Place} */ ([frame.x(x), frame.y(y)]));
  const lines = (spec.lines ?? []).map((line) =>
    line.points.map(([x, y]) => /** @type {Place} */ ([frame.x(x), frame.y(y)])),
  );
  const wanted = wantedNames(spec, points, lines, onPlot);
  const marks = points.flatMap(([x, y]) => [
    [x, y],
    [x - 5, y],
    [x + 5, y],
    [x, y - 5],
    [x, y + 5],
  ]);
  const drawn = /** @type {Place[]} */ (
    [...marks, ...lines.flatMap((line) => alongLine(line))].filter((place) => onPlot(/** @type {Place} */ (place)))
  );
  return placeLabels(wanted, frame, drawn).flatMap((place, i) => (place ? nameNodes(wanted[i], place) : []));
}

/**
 * The names that there are, lines first, with their sizes.
 * @param {Spec} spec @param {Place[]} points @param {Place[][]} lines pixels of both
 * @param {(place: Place) => boolean} onPlot @returns {Named[]}
 */
function wantedNames(spec, points, lines, onPlot) {
  const ofLines = (spec.lines ?? []).flatMap(({ label, family }, i) => {
    const anchors = lines[i].filter(onPlot).reverse();
    return label && anchors.length ? [{ text: label, family, anchors, first: true }] : [];
  });
  const ofPoints = (spec.points ?? []).flatMap(({ label, name, family }, i) => {
    if (!label || !onPlot(points[i])) return [];
    return [
      { text: label === true ? name : String(label), family, anchors: [points[i]], first: name === spec.selected },
    ];
  });
  return [...ofLines, ...ofPoints].map((label) => ({ ...label, width: textWidth(label.text) + 4, height: 14 }));
}

/** A name, and a line to a mark that is far. @param {Named} label @param {import("./labels.js").Placed} place */
function nameNodes({ text, family, width }, place) {
  const look = { class: "acm-chart-name", "data-family": family, "text-anchor": "middle" };
  const name = svgNode("text", { ...look, x: place.x, y: place.y + 4 }, text);
  if (!place.far) return [name];
  const [x2, y2] = place.anchor;
  const x1 = place.x + Math.max(-width / 2, Math.min(width / 2, x2 - place.x));
  return [svgNode("line", { class: "acm-chart-leader", x1, y1: place.y, x2, y2 }), name];
}
