// The dial: one λ for all layers, by hand or in motion, and the presets.

import { freshId } from "../chart/ids.js";
import { clamp, letSettle, make, makeButton, showNumber } from "./dom.js";
import { isPreset, presetsOf } from "./presets.js";
import { meanOf, sharedBy } from "./state.js";
import { createFinger } from "./touch.js";

const MOST = 1.2;
const TICKS = [0, 0.2, 0.4, 0.6, 0.8, 1, 1.2];
const STRIDE = 0.05;
const PAUSE = 260;
const PATIENCE = 2500;
const THUMB = 26; // pixels, as the style sheet has it

/**
 * @typedef {{ onValue: (value: number) => void, onSettled: () => void, onPreset: (preset: any) => void,
 *   onReset: () => void, onUndo: () => void, busy: () => boolean }} DialHooks
 * @param {any} data
 * @param {DialHooks} hooks
 */
export function createDial(data, hooks) {
  /** A move by hand stops the motion. @param {(given: any) => void} then @returns {(given?: any) => void} */
  const byHand = (then) => (given) => {
    player.stop();
    then(given);
  };
  const input = dialInput(
    byHand(() => hooks.onValue(Number(input.value))),
    hooks.onSettled,
  );
  const player = createPlayer(() => Number(input.value), hooks);
  const presets = createPresets(data, byHand(hooks.onPreset));
  const value = make("output", { class: "value", for: input.id });
  const saying = make("p", { class: "hint" });
  const undo = makeButton("Undo", () => hooks.onUndo(), { title: "Ctrl+Z", class: "quiet", "aria-disabled": "true" });
  const buttons = [
    undo,
    makeButton("Reset", byHand(hooks.onReset), { title: "back to the first λ, ACM’s", class: "quiet" }),
  ];
  const node = dialNode(input, player.button, [...buttons, value], [presets.node, saying]);
  return {
    node,
    /** @param {import("./state.js").State} state */
    show(state) {
      const shared = sharedBy(state, data.layers);
      player.follow(shared);
      showDial(input, value, shared, shared ?? meanOf(state, data.layers));
      saying.textContent = presets.show(state) || sayingOf(state, shared);
    },
    canUndo: (/** @type {boolean} */ can) => undo.setAttribute("aria-disabled", String(!can)),
    pause: player.stop,
    destroy: player.stop,
  };
}

/** @param {any} input @param {HTMLElement} play @param {HTMLElement[]} right @param {HTMLElement[]} below */
function dialNode(input, play, right, below) {
  const label = make(
    "label",
    { class: "caption", for: input.id },
    "λ ",
    make("small", {}, "how far from fast to slow"),
  );
  return make(
    "section",
    { class: "dial" },
    make("div", { class: "row" }, play, label, make("span", { class: "gap" }), ...right),
    make("div", { class: "track" }, input, dialScale()),
    make("datalist", { id: input.getAttribute("list") }, ...TICKS.map((tick) => make("option", { value: tick }))),
    ...below,
  );
}

/** @param {() => void} oninput @param {() => void} onSettled */
function dialInput(oninput, onSettled) {
  const list = freshId("ticks");
  const input = make("input", { type: "range", min: 0, max: MOST, step: 0.01, id: freshId("dial"), list, oninput });
  letSettle(input, onSettled);
  letScroll(input);
  return input;
}

function dialScale() {
  const marks = TICKS.map((tick) => {
    const text = tick === 0 ? "0 fast" : tick === 1 ? "1 slow" : tick.toFixed(1);
    const mark = make("span", { class: tick === 0 || tick === 1 ? "end" : "" }, text);
    mark.style.setProperty("--at", String(tick / MOST));
    return mark;
  });
  return make("div", { class: "scale", "aria-hidden": "true" }, ...marks);
}

/** @param {any} input @param {any} value @param {number | null} shared @param {number} shown λ, or its mean */
function showDial(input, value, shared, shown) {
  const mean = shared === null ? "mean " : "";
  input.value = String(shown);
  input.setAttribute("aria-valuetext", `${mean}λ ${showNumber(shown)}`);
  value.replaceChildren(...(mean ? [make("small", {}, mean)] : []), showNumber(shown));
}

/**
 * A finger that comes down on the track and goes up or down scrolls the page; λ stays.
 * @param {any} input the dial
 */
function letScroll(input) {
  const finger = createFinger();
  let before = "";
  const back = (/** @type {Event} */ event) => {
    if (!finger.waits()) return;
    input.value = before;
    event.stopImmediatePropagation();
  };
  for (const kind of ["input", "change"]) input.addEventListener(kind, back, { capture: true });
  input.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
    before = input.value;
    finger.down(event);
  });
  input.addEventListener("pointermove", finger.move);
  input.addEventListener("pointerup", (/** @type {PointerEvent} */ event) => {
    if (!finger.waits()) return;
    finger.end();
    const { left, width } = input.getBoundingClientRect();
    input.value = String(clamp((event.clientX - left - THUMB / 2) / (width - THUMB), 0, 1) * MOST);
    for (const kind of ["input", "change"]) input.dispatchEvent(new Event(kind));
  });
  input.addEventListener("pointercancel", () => {
    if (finger.waits()) input.value = before;
    finger.end();
  });
}

/** What the merge at hand is. @param {import("./state.js").State} state @param {number | null} shared */
function sayingOf(state, shared) {
  if (shared === null) return "The layers differ. Moving the dial gives all of them one λ again.";
  const number = showNumber(shared);
  return state.method === "ties"
    ? `TIES with λ ${number} in every layer`
    : `fast + ${number} · (slow − fast) in every layer`;
}

/** Where the motion begins. @param {number} value */
function beginningOf(value) {
  return value >= 1 - 1e-9 || value < STRIDE ? 0 : value;
}

/** Moves λ from 0 to 1; each answer is shown to its end. @param {() => number} current @param {DialHooks} hooks */
function createPlayer(current, hooks) {
  const now = { timer: 0, since: 0, last: 0, differ: false }; // differ: the layers' λ
  const name = () => {
    button.textContent = now.timer ? "❚❚" : "▶";
    button.setAttribute("aria-label", now.timer ? "pause" : "play λ from 0 to 1");
  };
  const stop = () => {
    clearTimeout(now.timer);
    now.timer = 0;
    name();
  };
  const end = () => {
    stop();
    hooks.onSettled();
  };
  /** @param {number} value */
  function step(value) {
    now.last = Math.min(1, Math.round(value * 100) / 100);
    hooks.onValue(now.last);
    now.since = performance.now();
    now.timer = window.setTimeout(() => wait(value), PAUSE);
    name();
  }
  /** @param {number} value */
  function wait(value) {
    const patient = performance.now() - now.since < PATIENCE;
    if (hooks.busy() && patient) now.timer = window.setTimeout(() => wait(value), 40);
    else if (value < 1 - 1e-9) step(Math.min(1, value + STRIDE));
    else end();
  }
  const begin = () => step(now.differ ? 0 : beginningOf(current()));
  const button = makeButton("▶", () => (now.timer ? end() : begin()), { class: "play" });
  name();
  /** Whoever sets another λ stops the motion. @param {number | null} shared */
  const follow = (shared) => {
    now.differ = shared === null;
    if (now.timer && (shared === null || Math.abs(shared - now.last) > 1e-6)) stop();
  };
  return { button, stop, follow };
}

/** @param {any} data @param {(preset: any) => void} onPreset */
function createPresets(data, onPreset) {
  const all = presetsOf(data);
  const buttons = all.map((preset) =>
    makeButton(preset.title, () => onPreset(preset), { title: preset.hint, "aria-pressed": "false", class: "chip" }),
  );
  return {
    node: make("div", { class: "presets", role: "group", "aria-label": "presets" }, ...buttons),
    /** Gives what the preset at hand is; nothing for none. @param {import("./state.js").State} state */
    show(state) {
      const pressed = all.map((preset) => isPreset(state, preset, data.layers));
      buttons.forEach((button, k) => button.setAttribute("aria-pressed", String(pressed[k])));
      return all[pressed.indexOf(true)]?.hint ?? "";
    },
  };
}
