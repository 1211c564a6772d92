// The dial: one λ for all layers, by hand or in motion, and the presets.

import { freshId } from "../chart/ids.js";
import { clamp, letSettle, make, makeButton, showNumber } from "./dom.js";
import { isPreset, presetsOf } from "./presets.js";
import { meanOf, sharedBy } from "./state.js";
import { createFinger } from "./touch.js";

const MOST = 1.2;
const STRIDE = 0.05;
const PAUSE = 260;
const PATIENCE = 2500;
const THUMB = 26; // pixels, as the style sheet has it

/**
 * @param {any} data
 * @param {{ onValue: (value: number) => void, onSettled: () => void, onPreset: (preset: any) => void,
 *   onReset: () => void, onUndo: () => void, busy: () => boolean }} hooks
 */
export function createDial(data, hooks) {
  const list = freshId("ticks");
  const input = make("input", {
    type: "range",
    min: 0,
    max: MOST,
    step: 0.01,
    id: freshId("dial"),
    list,
    oninput: () => {
      player.stop();
      hooks.onValue(Number(input.value));
    },
  });
  letSettle(input, hooks.onSettled);
  letScroll(input);
  const value = make("output", { class: "value", for: input.id });
  const saying = make("p", { class: "hint" });
  const undo = makeButton("Undo", () => hooks.onUndo(), { title: "Ctrl+Z", class: "quiet", "aria-disabled": "true" });
  const player = createPlayer(() => Number(input.value), hooks);
  const ticks = [0, 0.2, 0.4, 0.6, 0.8, 1, 1.2];
  const scale = make(
    "div",
    { class: "scale", "aria-hidden": "true" },
    ...ticks.map((tick) => {
      const text = tick === 0 ? "0 fast" : tick === 1 ? "1 slow" : tick.toFixed(1);
      const mark = make("span", { class: tick === 0 || tick === 1 ? "end" : "" }, text);
      mark.style.setProperty("--at", String(tick / MOST));
      return mark;
    }),
  );
  const presets = createPresets(data, (preset) => {
    player.stop();
    hooks.onPreset(preset);
  });
  const node = make(
    "section",
    { class: "dial" },
    make(
      "div",
      { class: "row" },
      player.button,
      make("label", { class: "caption", for: input.id }, "λ ", make("small", {}, "how far from fast to slow")),
      make("span", { class: "gap" }),
      undo,
      makeButton(
        "Reset",
        () => {
          player.stop();
          hooks.onReset();
        },
        { class: "quiet" },
      ),
      value,
    ),
    make("div", { class: "track" }, input, scale),
    make("datalist", { id: list }, ...ticks.map((tick) => make("option", { value: tick }))),
    presets.node,
    saying,
  );
  return {
    node,
    /** @param {import("./state.js").State} state */
    show(state) {
      const shared = sharedBy(state, data.layers);
      player.follow(shared);
      const shown = shared ?? meanOf(state, data.layers);
      input.value = String(shown);
      input.setAttribute("aria-valuetext", `${shared === null ? "mean " : ""}λ ${showNumber(shown)}`);
      value.replaceChildren(...(shared === null ? [make("small", {}, "mean ")] : []), showNumber(shown));
      saying.textContent = presets.show(state) || sayingOf(state, shared);
    },
    canUndo: (/** @type {boolean} */ can) => undo.setAttribute("aria-disabled", String(!can)),
    pause: player.stop,
    destroy: player.stop,
  };
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

/** Moves λ from 0 to 1; each answer is shown to its end. @param {() => number} current @param {any} hooks */
function createPlayer(current, hooks) {
  let timer = 0;
  let since = 0;
  let last = 0;
  const button = makeButton("▶", toggle, { class: "play", "aria-label": "play λ from 0 to 1" });

  function name() {
    button.textContent = timer ? "❚❚" : "▶";
    button.setAttribute("aria-label", timer ? "pause" : "play λ from 0 to 1");
  }

  function stop() {
    clearTimeout(timer);
    timer = 0;
    name();
  }

  function toggle() {
    if (timer) {
      stop();
      hooks.onSettled();
      return;
    }
    const first = current() >= 1 - 1e-9 || current() < STRIDE ? 0 : current();
    step(first);
  }

  /** @param {number} value */
  function step(value) {
    last = Math.min(1, Math.round(value * 100) / 100);
    hooks.onValue(last);
    since = performance.now();
    timer = window.setTimeout(() => wait(value), PAUSE);
    name();
  }

  /** @param {number} value */
  function wait(value) {
    if (hooks.busy() && performance.now() - since < PATIENCE) timer = window.setTimeout(() => wait(value), 40);
    else if (value + STRIDE <= 1 + 1e-9) step(value + STRIDE);
    else {
      stop();
      hooks.onSettled();
    }
  }
  /** Whoever sets another λ stops the motion. @param {number | null} shared */
  function follow(shared) {
    if (timer && (shared === null || Math.abs(shared - last) > 1e-6)) stop();
  }
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
