// Small helpers that build the component's elements. Text always goes in by textContent.

import { freshId } from "../chart/ids.js";
import { ownKeys } from "../chart/keys.js";

const FOCUSED = "button, input, select, textarea, summary, [tabindex]";

/**
 * An element with attributes, listeners and children.
 * @param {string} tag
 * @param {Record<string, any>} [attributes] a function is a listener of the event after "on"; null leaves out
 * @param {...(Node | string | null)} children
 * @returns {any}
 */
export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(made, name, value);
  if (made.matches(FOCUSED)) ownKeys(made);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** @param {any} target @param {string} name @param {any} value */
function setAttribute(target, name, value) {
  if (typeof value === "function") target.addEventListener(name.slice(2), value);
  else if (value === true) target.setAttribute(name, "");
  else if (value !== null && value !== false) target.setAttribute(name, String(value));
}

/**
 * A button.
 * @param {string} text
 * @param {(event: Event) => void} onPress
 * @param {Record<string, any>} [attributes]
 */
export function makeButton(text, onPress, attributes = {}) {
  return make("button", { type: "button", onclick: onPress, ...attributes }, text);
}

/**
 * A group of radio buttons that look like one control.
 * @param {string} legend
 * @param {[string, string][]} choices value and text
 * @param {(value: string) => void} onChoice
 * @returns {{ node: HTMLElement, choose: (value: string) => void }}
 */
export function makeChoice(legend, choices, onChoice) {
  const name = freshId("choice");
  const inputs = choices.map(([value]) =>
    make("input", { type: "radio", name, value, onchange: () => onChoice(value) }),
  );
  const labels = choices.map(([, text], k) => make("label", {}, inputs[k], make("span", {}, text)));
  const node = make("fieldset", { class: "choice" }, make("legend", {}, legend), ...labels);
  return {
    node,
    choose: (value) =>
      inputs.forEach((input) => {
        input.checked = input.value === value;
      }),
  };
}

/**
 * Lets a slider settle: when a pointer is lifted, or when it is left; after keys the model waits for a rest.
 * @param {any} input @param {() => void} onSettled
 */
export function letSettle(input, onSettled) {
  let keyed = false;
  input.addEventListener("keydown", () => (keyed = true));
  input.addEventListener("pointerdown", () => (keyed = false));
  input.addEventListener("change", () => keyed || onSettled());
  input.addEventListener("blur", onSettled);
}

/** λ as text: two digits, and a real minus sign. @param {number} value */
export function showNumber(value, digits = 2) {
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? `−${text}` : text;
}

/** A number in [low, high]. @param {number} value @param {number} low @param {number} high */
export function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}
