// The points of a chart: buttons for mouse, keyboard and screen reader, with a hint.

import { ownKeys } from "./keys.js";
import { pileOf } from "./labels.js";
import { svgNode } from "./paint.js";
import { markerPath, withinFrame } from "./spec.js";

/** @typedef {import("./spec.js").Spec} Spec */
/** @typedef {import("./spec.js").Point} Point */
/** @typedef {import("./spec.js").Frame} Frame */
/** @typedef {import("./spec.js").Place} Place */
/**
 * @typedef {{ layer: SVGElement, hint: HTMLElement, nodes: Map<string, SVGElement>, spec: Spec, frame: Frame,
 *   onPoint?: (name: string) => void }} Points
 */

/**
 * Put the points where they are now; a point that stays keeps its element, and so the focus.
 * @param {Points} points
 */
export function placePoints(points) {
  const { layer, nodes, spec, frame } = points;
  const wanted = spec.points ?? [];
  const kept = new Set(wanted.map(({ name }) => name));
  for (const [name, node] of nodes) {
    if (!kept.has(name)) (node.remove(), nodes.delete(name));
  }
  const home = wanted.find(({ name }) => name === spec.selected) ?? wanted.find((point) => isSeen(point, frame));
  for (const point of wanted) {
    let node = nodes.get(point.name);
    if (!node) nodes.set(point.name, (node = newPoint(points, point.name)));
    dressPoint(node, point, points, point === home);
  }
  const told = points.hint.dataset.name;
  if (told !== undefined && !points.hint.hidden) kept.has(told) ? showHint(points, told) : hideHint(points);
}

/** @param {Point} point @param {Frame} frame */
function isSeen(point, frame) {
  return withinFrame(frame, frame.x(point.x), frame.y(point.y));
}

/** @param {Points} points @param {string} name @returns {SVGElement} */
function newPoint(points, name) {
  const node = ownKeys(svgNode("g", { class: "acm-chart-point", "data-name": name }));
  node.append(
    svgNode("path", { class: "acm-chart-ends" }),
    svgNode("circle", { class: "acm-chart-ring", r: 11 }),
    svgNode("path", { class: "acm-chart-mark" }),
  );
  node.addEventListener("pointerenter", () => showHint(points, name));
  node.addEventListener("focus", () => showHint(points, name));
  node.addEventListener("pointerleave", () => document.activeElement !== node && hideHint(points));
  node.addEventListener("blur", () => hideHint(points));
  node.addEventListener("click", () => pressPoint(points, name));
  node.addEventListener("keydown", (event) => pressKey(points, name, /** @type {KeyboardEvent} */ (event)));
  points.layer.append(node);
  return node;
}

/**
 * Give a point's element what the spec says of it.
 * @param {SVGElement} node @param {Point} point @param {Points} points @param {boolean} home
 */
function dressPoint(node, point, { spec, frame, onPoint }, home) {
  const [x, y] = [frame.x(point.x), frame.y(point.y)];
  const chosen = point.name === spec.selected;
  node.setAttribute("transform", `translate(${x.toFixed(1)},${y.toFixed(1)})`);
  node.toggleAttribute("hidden", !withinFrame(frame, x, y));
  node.setAttribute("data-family", point.family ?? "");
  const acts = onPoint && !point.idle;
  node.setAttribute("role", acts ? "button" : "img");
  node.setAttribute("tabindex", home ? "0" : "-1");
  node.setAttribute("aria-label", (point.hint ?? point.name).split("\n").join(", "));
  if (acts && "selected" in spec) node.setAttribute("aria-pressed", String(chosen));
  node.classList.toggle("acm-chart-chosen", chosen);
  node.classList.toggle("acm-chart-hollow", !!point.hollow);
  const ends = [];
  const across = (/** @type {number} */ value) => Math.max(frame.left, Math.min(frame.right, frame.x(value))) - x;
  const up = (/** @type {number} */ value) => Math.max(frame.top, Math.min(frame.bottom, frame.y(value))) - y;
  const { xLow, xHigh, yLow, yHigh } = point;
  if (typeof xLow === "number" && typeof xHigh === "number") ends.push(`M${across(xLow)},0H${across(xHigh)}`);
  if (typeof yLow === "number" && typeof yHigh === "number") ends.push(`M0,${up(yLow)}V${up(yHigh)}`);
  node.children[0].setAttribute("d", ends.join("") || "M0,0");
  node.children[2].setAttribute("d", markerPath(point));
}

/** Where each point that is seen lies. @param {Points} points @returns {Map<string, Place>} */
function seenPlaces({ spec, frame }) {
  const seen = (spec.points ?? []).filter((point) => isSeen(point, frame));
  return new Map(seen.map(({ name, x, y }) => [name, /** @type {Place} */ ([frame.x(x), frame.y(y)])]));
}

/** Choose a point; pressed again, the next of its pile. @param {Points} points @param {string} name */
function pressPoint(points, name) {
  const idle = (points.spec.points ?? []).filter((point) => point.idle).map((point) => point.name);
  const pile = pileOf(seenPlaces(points), name).filter((other) => !idle.includes(other));
  const place = pile.indexOf(points.spec.selected ?? "");
  const chosen = place < 0 && !idle.includes(name) ? name : pile[(place + 1) % pile.length];
  if (chosen !== undefined) points.onPoint?.(chosen);
}

/**
 * Enter and space choose; arrows go to the next point that way; Escape hides the hint.
 * @param {Points} points @param {string} name @param {KeyboardEvent} event
 */
function pressKey(points, name, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const way = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, -1], ArrowDown: [1, 1] }[event.key];
  if (event.key === "Enter" || event.key === " ") pressPoint(points, name);
  else if (event.key === "Escape") hideHint(points);
  else if (way) nextPoint(points, name, way[0], way[1]);
  else return;
  event.preventDefault();
  event.stopPropagation();
}

/**
 * Focus the next point along an axis.
 * @param {Points} points @param {string} name @param {number} axis @param {number} step
 */
function nextPoint(points, name, axis, step) {
  const order = [...seenPlaces(points)].sort(([, a], [, b]) => a[axis] - b[axis] || a[1 - axis] - b[1 - axis]);
  const next = order[order.findIndex(([other]) => other === name) + step];
  if (!next) return;
  for (const node of points.nodes.values()) node.setAttribute("tabindex", "-1");
  const node = points.nodes.get(next[0]);
  node?.setAttribute("tabindex", "0");
  node?.focus();
}

/** Show what a point tells, beside it. @param {Points} points @param {string} name */
function showHint(points, name) {
  const { hint, frame, spec, onPoint } = points;
  const point = spec.points?.find((other) => other.name === name);
  if (!point) return;
  const others =
    onPoint && "selected" in spec ? pileOf(seenPlaces(points), name).filter((other) => other !== name) : [];
  const more = others.length ? `\npress again for ${others.join(", ")}` : "";
  hint.textContent = (point.hint ?? name) + more;
  hint.dataset.name = name;
  hint.hidden = false;
  const [x, y] = [frame.x(point.x), frame.y(point.y)];
  const left = Math.max(2, Math.min(frame.width - hint.offsetWidth - 2, x - hint.offsetWidth / 2));
  const above = y - hint.offsetHeight - 14;
  hint.style.left = `${left}px`;
  hint.style.top = `${above < 0 ? y + 14 : above}px`;
}

/** @param {Points} points */
export function hideHint({ hint }) {
  hint.hidden = true;
}
