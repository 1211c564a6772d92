// The problem: typed by the reader, or drawn.

import { freshId } from "../chart/ids.js";
import { make, makeButton } from "./dom.js";
import { bare, KNOWN, seeded, shortened, wordProblem } from "./problems.js";
import { LONGEST } from "./state.js";

const DONE = 300;
const UNSURE = 1800;

/**
 * @param {(question: string) => void} onQuestion
 */
export function createQuestion(onQuestion) {
  const box = make("textarea", {
    id: freshId("question"),
    rows: 2,
    maxlength: LONGEST,
    spellcheck: "false",
    autocapitalize: "off",
    autocomplete: "off",
    oninput: () => {
      fit();
      later();
    },
    onkeydown: onKey,
  });
  const steps = make(
    "select",
    { id: freshId("steps"), onchange: draw },
    ...[1, 2, 3, 4, 5, 6].map((n) => make("option", { value: n }, `of ${n} step${n > 1 ? "s" : ""}`)),
  );
  steps.value = "3";
  const note = make("p", { class: "note", role: "alert" });
  const random = seeded(Math.floor(Math.random() * 4294967296));
  let timer = 0;

  /** As tall as its text, where the style sheet cannot say so. */
  function fit() {
    if (CSS.supports("field-sizing", "content")) return;
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight + 2}px`;
  }

  function rest() {
    clearTimeout(timer);
    timer = 0;
  }

  function tell() {
    rest();
    const question = bare(box.value);
    if (question) onQuestion(question);
  }

  /** Asks when the reader seems to be done. */
  function later() {
    rest();
    timer = window.setTimeout(tell, /\?\s*$/.test(box.value) ? DONE : UNSURE);
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    tell();
  }

  function draw() {
    box.value = wordProblem(random, Number(steps.value)).question;
    fit();
    tell();
  }

  const panel = help();
  const opener = makeButton(
    "What can they read?",
    () => {
      panel.hidden = !panel.hidden;
      opener.setAttribute("aria-expanded", String(!panel.hidden));
    },
    { class: "quiet", "aria-expanded": "false", "aria-controls": panel.id },
  );
  const caption = make(
    "div",
    { class: "row wrap" },
    make("label", { class: "caption", for: box.id }, "The problem ", make("small", {}, "type your own, or draw one")),
    opener,
  );
  const node = make(
    "section",
    { class: "question" },
    make(
      "div",
      { class: "row" },
      box,
      make(
        "div",
        { class: "buttons" },
        makeButton("Another problem", draw, { class: "primary" }),
        make("label", { class: "unseen", for: steps.id }, "steps of the next problem"),
        steps,
      ),
    ),
    note,
    panel,
  );
  return {
    node,
    caption,
    /** Another problem takes the place of this one, but not of one that is being typed. @param {string} question */
    show(question) {
      const typing = timer || (box === document.activeElement && !bare(box.value));
      if (!typing && bare(box.value) !== question) box.value = question;
      fit();
    },
    /** What was typed and not told yet, once the reader has left the box; else nothing. */
    takePending() {
      if (!timer || box === document.activeElement) return "";
      rest();
      return bare(box.value);
    },
    /** @param {string[]} words */
    unknown(words) {
      note.textContent = words.length ? refusal(words) : "";
    },
    destroy: rest,
  };
}

/** @param {string[]} words */
function refusal(words) {
  const named = words.map((word) => `“${shortened(word.trim())}”`).join(", ");
  return `Not answered: the models never saw ${named}. Press “What can they read?” for the words that they know.`;
}

function help() {
  return make(
    "div",
    { class: "help", id: freshId("help"), hidden: true },
    make(
      "p",
      {},
      "They know ",
      make("code", {}, "mia has 12 eggs. … how many eggs are left?"),
      ` with ${KNOWN.names.join(", ")}; ${KNOWN.things.join(", ")}; whole numbers from 1 to 99; and these sentences: `,
      make("code", {}, KNOWN.sentences.join(" ")),
      " They have never seen anything else.",
    ),
  );
}
