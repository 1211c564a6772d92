// The strip of layers: λ as a heat map, to be painted with a brush or set cell by cell.

import { freshId } from "../chart/ids.js";
import { clamp, make, makeButton, makeChoice, showNumber } from "./dom.js";
import { coefficientOf, HIGHEST, keysOf, LOWEST, tidy } from "./state.js";
import { createFinger } from "./touch.js";
import { wordsOfTheLayers } from "./words.js";

const NUDGE = 0.05;
const HOW =
  "The brush holds a λ. Drag over layers to give it to them, or tap one. " +
  "With the keyboard: go to a layer and press ↑ or ↓, or Enter for the brush’s λ.";
/** @type {[string, string][]} */
const MODES_SHOWN = [
  ["one", "all layers"],
  ["layer", "each layer"],
  ["part", "each part"],
];
/** @type {Record<string, string>} */
const NAMES = { embed: "embedding", norm: "last norm", lm_head: "head" };
/** @type {Record<string, string>} */
const SHORT = { embed: "emb", norm: "norm", lm_head: "head" };

/**
 * @param {string[]} layers
 * @param {{ onPaint: (changes: Record<string, number>) => void, onSettled: () => void,
 *   onMode: (mode: string) => void }} hooks
 */
export function createStrip(layers, hooks) {
  const brush = createBrush();
  const mode = makeChoice("λ for", MODES_SHOWN, hooks.onMode);
  const grid = make("div", { class: "cells", role: "group", "aria-label": "λ of each layer" });
  /** @type {Map<string, any>} */
  let cells = new Map();
  let built = "";
  /** @param {KeyboardEvent} event @param {string} key */
  const onKey = (event, key) => {
    const move = moveOf(event, Number(cells.get(key).getAttribute("aria-valuenow")), brush.value());
    if (!move) return;
    event.preventDefault();
    if (move.to !== undefined) hooks.onPaint({ [key]: tidy(clamp(move.to, LOWEST, HIGHEST)) });
    const keys = [...cells.keys()];
    if (move.step) cells.get(keys[clamp(keys.indexOf(key) + move.step, 0, keys.length - 1)]).focus();
  };
  /** @param {import("./state.js").State} state */
  const show = (state) => {
    const kind = state.mode === "part" ? "part" : "layer";
    if (built !== kind) cells = fillGrid(grid, layers, kind, onKey, hooks.onSettled);
    built = kind;
    mode.choose(state.mode);
    for (const [key, cell] of cells) paint(cell, key, coefficientOf(state, key));
  };
  letPaint(grid, (/** @type {string} */ key) => hooks.onPaint({ [key]: brush.value() }), hooks.onSettled);
  const node = make(
    "section",
    { class: "strip" },
    make("h2", {}, "Layer by layer"),
    make("p", { class: "lead" }, HOW),
    make("div", { class: "row wrap" }, brush.node, mode.node),
    grid,
    palette(brush.set),
    wordsOfTheLayers(layers),
  );
  return { node, show };
}

/**
 * What a key asks for: λ that the cell goes to, or a step to another cell.
 * @param {KeyboardEvent} event @param {number} value of the cell @param {number} brush
 * @returns {{ to?: number, step?: number } | undefined}
 */
function moveOf({ key, ctrlKey, altKey, metaKey, shiftKey }, value, brush) {
  if (ctrlKey || altKey || metaKey || shiftKey) return undefined;
  return /** @type {Record<string, { to?: number, step?: number }>} */ ({
    ArrowUp: { to: value + NUDGE },
    ArrowDown: { to: value - NUDGE },
    PageUp: { to: value + 5 * NUDGE },
    PageDown: { to: value - 5 * NUDGE },
    Home: { to: LOWEST },
    End: { to: HIGHEST },
    " ": { to: brush },
    Enter: { to: brush },
    ArrowLeft: { step: -1 },
    ArrowRight: { step: 1 },
  })[key];
}

function createBrush() {
  const input = make("input", {
    type: "range",
    min: LOWEST,
    max: HIGHEST,
    step: NUDGE,
    value: 1,
    id: freshId("brush"),
    oninput: show,
  });
  const text = make("output", { for: input.id, class: "value" });
  const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
  function show() {
    tint(swatch, Number(input.value));
    text.textContent = showNumber(Number(input.value));
    input.setAttribute("aria-valuetext", text.textContent);
  }
  show();
  /** @param {number} value */
  function set(value) {
    input.value = String(value);
    show();
  }
  const node = make("div", { class: "brush" }, swatch, make("label", { for: input.id }, "brush"), input, text);
  return { node, set, value: () => Number(input.value) };
}

/**
 * Builds the cells; a block has two in mode "part".
 * @param {HTMLElement} grid @param {string[]} layers @param {string} kind
 * @param {(event: KeyboardEvent, key: string) => void} onKey @param {() => void} onblur
 * @returns {Map<string, any>}
 */
function fillGrid(grid, layers, kind, onKey, onblur) {
  const cells = new Map(keysOf(kind, layers).map((key) => [key, makeCell(key, onKey, onblur)]));
  const columns = layers.map((layer) => {
    const name = make("span", { class: "name", "aria-hidden": "true" }, SHORT[layer] ?? layer);
    const own = [...cells].filter(([key]) => key.split(".")[0] === layer).map(([, cell]) => cell);
    return make("div", { class: "column" }, name, ...own);
  });
  grid.classList.toggle("parts", kind === "part");
  grid.replaceChildren(...(kind === "part" ? [namesOfRows()] : []), ...columns);
  return cells;
}

/** @param {string} key @param {(event: KeyboardEvent, key: string) => void} onKey @param {() => void} onblur */
function makeCell(key, onKey, onblur) {
  const attributes = {
    class: "cell",
    role: "slider",
    tabindex: 0,
    "data-key": key,
    "aria-label": nameOf(key),
    "aria-valuemin": LOWEST,
    "aria-valuemax": HIGHEST,
    onkeydown: (/** @type {KeyboardEvent} */ event) => onKey(event, key),
    onblur,
  };
  return make("div", attributes, make("span", { class: "swatch" }), make("span", { class: "number" }));
}

function namesOfRows() {
  const names = [make("span", { class: "name" }, ""), make("span", {}, "att"), make("span", {}, "mlp")];
  return make("div", { class: "column rows", "aria-hidden": "true" }, ...names);
}

/** What a screen reader calls a cell. @param {string} key */
function nameOf(key) {
  const [layer, part] = key.split(".");
  return `λ of ${NAMES[layer] ?? `block ${layer}`}${part ? `, ${part}` : ""}`;
}

/** @param {any} cell @param {string} key @param {number} value */
function paint(cell, key, value) {
  cell.setAttribute("aria-valuenow", String(Number(value.toFixed(4))));
  cell.setAttribute("aria-valuetext", showNumber(value));
  cell.title = `${nameOf(key)}: ${showNumber(value)}`;
  const [sign, digits] = showNumber(value).split(/(?=\d)(.*)/);
  const zero = make("span", { class: "zero" }, digits[0]);
  cell.lastChild.replaceChildren(...(digits[0] === "0" ? [sign, zero, digits.slice(1)] : [sign, digits]));
  tint(cell.firstChild, value);
}

/** The colour of λ: the more, the stronger; below 0 hatched. @param {any} swatch @param {number} value */
function tint(swatch, value) {
  swatch.style.setProperty(
    "--strength",
    `${Math.round(100 * Math.min(1, Math.abs(value) / (value < 0 ? 0.5 : 1.25)))}%`,
  );
  swatch.classList.toggle("below", value < 0);
}

/**
 * Dragging over cells paints them, by mouse, pen or finger. A finger that goes up or down scrolls the page.
 * @param {HTMLElement} grid @param {(key: string) => void} onCell @param {() => void} onEnd
 */
function letPaint(grid, onCell, onEnd) {
  const finger = createFinger();
  let last = "";
  /** @param {PointerEvent} event */
  function touch(event) {
    const key = keyUnder(grid, event);
    if (!key || key === last) return;
    last = key;
    onCell(key);
  }
  grid.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !(event.target instanceof Element && event.target.closest("[data-key]"))) return;
    grid.setPointerCapture(event.pointerId);
    last = "";
    finger.down(event);
    if (!finger.waits()) touch(event);
  });
  grid.addEventListener("pointermove", (event) => {
    if (!grid.hasPointerCapture(event.pointerId)) return;
    const start = finger.start();
    finger.move(event);
    if (finger.waits()) return;
    if (start) touch(start);
    touch(event);
  });
  grid.addEventListener("pointerup", (event) => finger.waits() && touch(event));
  for (const kind of ["pointerup", "pointercancel"]) {
    grid.addEventListener(kind, () => {
      if (last) onEnd();
      last = "";
      finger.end();
    });
  }
}

/**
 * The key of the cell under a pointer, or of the one where the event began.
 * @param {HTMLElement} grid @param {PointerEvent} event
 */
function keyUnder(grid, { clientX, clientY, target }) {
  const under = document.elementFromPoint(clientX, clientY)?.closest("[data-key]");
  const cell = under ?? (target instanceof Element ? target.closest("[data-key]") : null);
  return cell && grid.contains(cell) ? cell.getAttribute("data-key") : null;
}

/** The colours, each a button that fills the brush. @param {(value: number) => void} onValue */
function palette(onValue) {
  const stops = [-0.5, -0.25, 0, 0.25, 0.5, 0.75, 1, 1.25].map((value) => {
    const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
    tint(swatch, value);
    const button = makeButton("", () => onValue(value), { "aria-label": `brush ${showNumber(value)}`, class: "stop" });
    button.append(swatch, showNumber(value));
    return button;
  });
  return make("div", { class: "palette", role: "group", "aria-label": "values for the brush" }, ...stops);
}
