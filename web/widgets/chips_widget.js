// A choice as a row of buttons: of several that are on or off, or of one.

import { ownKeys } from "../chart/keys.js";
import { svgNode } from "../chart/paint.js";
import { markerPath } from "../chart/spec.js";

/** @typedef {import("./chart_widget.js").WidgetModel} WidgetModel */
/** @typedef {{ name: string, label?: string, family?: string, hint?: string }} Chip */

/** Draw the chips, and tell the model what is chosen. @param {{ model: WidgetModel, el: HTMLElement }} widget */
function renderChips({ model, el }) {
  const choose = (/** @type {string[]} */ names) => {
    const options = /** @type {Chip[]} */ (model.get("options"));
    model.set(
      "value",
      options.map(({ name }) => name).filter((name) => names.includes(name)),
    );
    model.save_changes();
  };
  const draw = () => drawChips(el, model, choose);
  for (const name of ["options", "value", "disabled"]) model.on(`change:${name}`, draw);
  draw();
}

/**
 * Draw what the model says; a button that stays keeps its element, and so the focus.
 * @param {HTMLElement} el @param {WidgetModel} model @param {(names: string[]) => void} choose
 */
function drawChips(el, model, choose) {
  const [options, value, single] = [
    /** @type {Chip[]} */ (model.get("options")),
    model.get("value"),
    model.get("single"),
  ];
  const key = JSON.stringify(options);
  if (el.dataset.options !== key) {
    el.dataset.options = key;
    el.classList.add("acm-chart", "acm-chips");
    el.setAttribute("role", single ? "radiogroup" : "group");
    el.setAttribute("aria-label", model.get("label"));
    const title = document.createElement("span");
    title.className = "acm-chips-title";
    title.textContent = model.get("label");
    const ways = [
      ["all", options.map(({ name }) => name)],
      ["none", []],
    ];
    const both = ways.map(([text, names]) =>
      quickButton(`${text}`, model, () => choose(/** @type {string[]} */ (names))),
    );
    el.replaceChildren(title, ...options.map((chip) => chipButton(chip, model, choose)), ...(single ? [] : both));
  }
  for (const button of el.querySelectorAll("button")) {
    button.disabled = !!model.get("disabled");
    if (button.dataset.name === undefined) continue;
    const on = value.includes(button.dataset.name);
    button.setAttribute(single ? "aria-checked" : "aria-pressed", String(on));
    if (single) button.tabIndex = on ? 0 : -1;
  }
}

/** @param {string} text @param {WidgetModel} model @param {() => void} handler @returns {HTMLButtonElement} */
function quickButton(text, model, handler) {
  const button = ownKeys(document.createElement("button"));
  button.type = "button";
  button.className = "acm-chips-quick";
  button.textContent = text;
  button.setAttribute("aria-label", `${model.get("label")}: ${text}`);
  button.addEventListener("click", handler);
  return button;
}

/**
 * @param {Chip} chip @param {WidgetModel} model @param {(names: string[]) => void} choose
 * @returns {HTMLButtonElement}
 */
function chipButton({ name, label, family, hint }, model, choose) {
  const button = ownKeys(document.createElement("button"));
  const single = model.get("single");
  button.type = "button";
  button.dataset.name = name;
  if (hint) button.title = hint;
  if (single) button.setAttribute("role", "radio");
  if (family) {
    const picture = svgNode("svg", { width: 14, height: 14, viewBox: "-8 -8 16 16", "aria-hidden": "true" });
    picture.append(svgNode("path", { class: "acm-chart-mark", d: markerPath({ family }), "data-family": family }));
    button.append(picture);
  }
  button.append(label ?? name);
  button.addEventListener("click", () => {
    const value = /** @type {string[]} */ (model.get("value"));
    choose(single ? [name] : value.includes(name) ? value.filter((other) => other !== name) : [...value, name]);
  });
  if (single) button.addEventListener("keydown", (event) => moveChoice(button, event));
  return button;
}

/**
 * Arrows go to the next chip and choose it, as in a group of radio buttons.
 * @param {HTMLButtonElement} button @param {KeyboardEvent} event
 */
function moveChoice(button, event) {
  const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!by) return;
  event.preventDefault();
  const all = [...(button.parentElement?.querySelectorAll("button") ?? [])];
  const next = all[(all.indexOf(button) + by + all.length) % all.length];
  next.focus();
  next.click();
}

export default { render: renderChips };
