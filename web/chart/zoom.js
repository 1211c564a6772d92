// Zoom and pan of a chart: wheel, drag, buttons and keys.

import { movedRange } from "./scale.js";
import { homeView, withinFrame } from "./spec.js";

/** @typedef {import("./spec.js").View} View */
/** @typedef {import("./spec.js").Spec} Spec */
/** @typedef {import("./spec.js").Frame} Frame */
/** @typedef {{ spec: Spec, frame: Frame, view: View | null }} Zoomed view: null at home */
/** @typedef {{ factor?: number, about?: [number, number], by?: [number, number] }} Move by: shares of the span */

/** @type {Record<string, Move>} */
const ZOOM_KEYS = {
  "+": { factor: 0.8 },
  "=": { factor: 0.8 },
  "-": { factor: 1.25 },
  "−": { factor: 1.25 },
  ArrowLeft: { by: [-0.1, 0] },
  ArrowRight: { by: [0.1, 0] },
  ArrowUp: { by: [0, 0.1] },
  ArrowDown: { by: [0, -0.1] },
};

/** The view after a move. @param {Zoomed} chart @param {Move} move @returns {View} */
export function movedView({ spec, view }, { factor, about, by = [0, 0] }) {
  const home = homeView(spec),
    now = view ?? home;
  return {
    x: movedRange(now.x, home.x, { factor, about: about?.[0], by: by[0] }),
    y: movedRange(now.y, home.y, { factor, about: about?.[1], by: by[1] }),
  };
}

/** What a key asks for: a move, "home", or null. @param {string} key @returns {Move | "home" | null} */
export function keyMove(key) {
  return key === "0" ? "home" : (ZOOM_KEYS[key] ?? null);
}

/** The value under a pixel. @param {Frame} frame @param {number} x @param {number} y @returns {[number, number]} */
function valueAt({ left, right, top, bottom, view }, x, y) {
  const across = (x - left) / (right - left),
    up = (bottom - y) / (bottom - top);
  return [view.x[0] + across * (view.x[1] - view.x[0]), view.y[0] + up * (view.y[1] - view.y[0])];
}

/**
 * Listen to wheel, drag and keys. The wheel zooms with Ctrl or while the chart has the focus; else the page scrolls.
 * @param {SVGSVGElement} svg @param {Zoomed} chart @param {(view: View | null) => void} show
 */
export function watchZoom(svg, chart, show) {
  svg.addEventListener("keydown", (event) => {
    const move = chart.spec.zoomable && !event.ctrlKey && !event.metaKey ? keyMove(event.key) : null;
    if (!move) return;
    event.preventDefault();
    event.stopPropagation();
    show(move === "home" ? null : movedView(chart, move));
  });
  svg.addEventListener(
    "wheel",
    (event) => {
      if (!chart.spec.zoomable || !(event.ctrlKey || svg.contains(document.activeElement))) return;
      event.preventDefault();
      const box = svg.getBoundingClientRect();
      const about = valueAt(chart.frame, event.clientX - box.left, event.clientY - box.top);
      show(movedView(chart, { factor: Math.exp(Math.max(-0.5, Math.min(0.5, event.deltaY / 300))), about }));
    },
    { passive: false },
  );
  watchDrag(svg, chart, show);
}

/** @param {SVGSVGElement} svg @param {Zoomed} chart @param {(view: View | null) => void} show */
function watchDrag(svg, chart, show) {
  /** @type {{ x: number, y: number } | null} */
  let last = null;
  svg.addEventListener("pointerdown", (event) => {
    const onPoint = event.target instanceof Element && event.target.closest(".acm-chart-point");
    const box = svg.getBoundingClientRect();
    const inside = withinFrame(chart.frame, event.clientX - box.left, event.clientY - box.top);
    if (!chart.spec.zoomable || event.button || onPoint || !inside) return;
    last = { x: event.clientX, y: event.clientY };
    svg.setPointerCapture(event.pointerId);
    svg.classList.add("acm-chart-dragged");
  });
  svg.addEventListener("pointermove", (event) => {
    if (!last) return;
    const { left, right, top, bottom } = chart.frame;
    const by = /** @type {[number, number]} */ ([
      (last.x - event.clientX) / (right - left),
      (event.clientY - last.y) / (bottom - top),
    ]);
    last = { x: event.clientX, y: event.clientY };
    show(movedView(chart, { by }));
  });
  for (const end of ["pointerup", "pointercancel"]) {
    svg.addEventListener(end, () => {
      last = null;
      svg.classList.remove("acm-chart-dragged");
    });
  }
}
