// What a chart is told, and where its values lie on the screen.

import { linearScale } from "./scale.js";

/** @typedef {import("./scale.js").Range} Range */
/** @typedef {import("./labels.js").Place} Place */
/**
 * @typedef {{ label: string, range: Range, better?: "left" | "right" | "up" | "down" | null, percent?: boolean,
 *   ticks?: { at: number, label: string }[] }} Axis ticks: of an axis of categories
 * @typedef {{ name: string, points: Place[], family?: string, dashed?: boolean, faint?: boolean, label?: string }} Line
 * @typedef {{ name: string, points: [number, number, number][], family?: string }} Band points: x, low, high
 * @typedef {{ x0: number, x1: number, y: number, family?: string }} Bar from 0 to y
 * @typedef {{ name: string, points: Place[], family?: string }} Dots marks without names
 * @typedef {{ name: string, x: number, y: number, xLow?: number | null, xHigh?: number | null, yLow?: number | null,
 *   yHigh?: number | null, family?: string, marker?: string, hint?: string, label?: boolean | string,
 *   hollow?: boolean, idle?: boolean }} Point label: whether its name, or which text, stands beside it; idle: to press
 *   it does nothing
 * @typedef {{ family: string, label: string, marker?: string, kind?: "point" | "line" | "band",
 *   hollow?: boolean }} Key of the legend
 * @typedef {{ label: string, height?: number, x: Axis, y: Axis, lines?: Line[], bands?: Band[], bars?: Bar[],
 *   dots?: Dots[], points?: Point[], legend?: Key[], selected?: string | null, zoomable?: boolean }} Spec
 * @typedef {{ x: Range, y: Range }} View
 * @typedef {{ width: number, height: number, left: number, top: number, right: number, bottom: number,
 *   x: (value: number) => number, y: (value: number) => number, view: View }} Frame
 */

/** The marker of each family of methods, as in the figures of the report. @type {Record<string, string>} */
const FAMILY_MARKERS = {
  parent: "square",
  frontier: "dot",
  baseline: "circle",
  acm: "diamond",
  control: "triangle",
  own: "star",
};

/** Outlines of the markers about (0, 0). @type {Record<string, string>} */
const MARKER_PATHS = {
  dot: "M3.2,0A3.2,3.2 0 1 1 -3.2,0A3.2,3.2 0 1 1 3.2,0Z",
  circle: "M5,0A5,5 0 1 1 -5,0A5,5 0 1 1 5,0Z",
  square: "M-4.6,-4.6H4.6V4.6H-4.6Z",
  diamond: "M0,-6.2L6.2,0L0,6.2L-6.2,0Z",
  triangle: "M0,-5.8L5.6,4.4H-5.6Z",
  down: "M0,5.8L5.6,-4.4H-5.6Z",
  star: "M0,-8L2.1,-2.7L7.6,-2.5L3.3,1L4.7,6.5L0,3.4L-4.7,6.5L-3.3,1L-7.6,-2.5L-2.1,-2.7Z",
};

/** The outline of a point's or a key's marker. @param {{ marker?: string, family?: string }} mark */
export function markerPath({ marker, family }) {
  return MARKER_PATHS[marker ?? FAMILY_MARKERS[family ?? ""] ?? "circle"] ?? MARKER_PATHS.circle;
}

/**
 * Where a chart of this size has its axes.
 * @param {Spec} spec @param {View} view @param {number} width @returns {Frame}
 */
export function frameOf(spec, view, width) {
  const height = spec.height ?? 360;
  const box = { left: 46, top: 26, right: Math.max(60, width - 12), bottom: height - (spec.x.ticks ? 46 : 44) };
  const x = linearScale(view.x, [box.left, box.right]),
    y = linearScale(view.y, [box.bottom, box.top]);
  return { width, height, ...box, x, y, view };
}

/** Whether a place lies on the picture, its edges included. @param {Frame} frame @param {number} x @param {number} y */
export function withinFrame(frame, x, y) {
  return x >= frame.left - 1 && x <= frame.right + 1 && y >= frame.top - 1 && y <= frame.bottom + 1;
}

/** @param {Spec} spec @returns {View} */
export function homeView(spec) {
  return { x: [...spec.x.range], y: [...spec.y.range] };
}
