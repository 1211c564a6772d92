// The problem: typed by the reader, or drawn.

import { freshId } from "../chart/ids.js";
import { make, makeButton } from "./dom.js";
import { bare, goldOf, KNOWN, seeded, shortened, wordProblem } from "./problems.js";
import { LONGEST } from "./state.js";

const DONE = 300;
const UNSURE = 1800;
const UNCHECKED =
  "Not checked: the page reads only the sentences and numbers listed under “What can they read?”, " +
  "and the models know only those.";

/**
 * @param {(question: string) => void} onQuestion
 */
export function createQuestion(onQuestion) {
  const typed = createTyped(onQuestion);
  const { box } = typed;
  const random = seeded(Math.floor(Math.random() * 4294967296));
  const draw = () => typed.put(wordProblem(random, Number(steps.value)).question);
  const steps = stepsOfNext(draw);
  const note = make("p", { class: "note", role: "alert" });
  const { panel, opener } = createHelp();
  const label = make(
    "label",
    { class: "caption", for: box.id },
    "The problem ",
    make("small", {}, "type your own, or draw one"),
  );
  const buttons = make(
    "div",
    { class: "buttons" },
    makeButton("Another problem", draw, { class: "primary" }),
    make("label", { class: "unseen", for: steps.id }, "steps of the next problem"),
    steps,
  );
  return {
    node: make("section", { class: "question" }, make("div", { class: "row" }, box, buttons), note, panel),
    caption: make("div", { class: "row wrap" }, label, opener),
    show: typed.show,
    takePending: typed.takePending,
    /** What is to be said of a problem. @param {string[]} words that the models never saw @param {string} question */
    remark(words, question) {
      note.textContent = words.length ? refusal(words) : goldOf(question) === null ? UNCHECKED : "";
      note.classList.toggle("mild", !words.length);
    },
    destroy: typed.rest,
  };
}

/** The box to type in, and when it tells what was typed. @param {(question: string) => void} onQuestion */
function createTyped(onQuestion) {
  const box = problemBox();
  let timer = 0;
  const rest = () => {
    clearTimeout(timer);
    timer = 0;
  };
  const tell = () => {
    rest();
    const question = bare(box.value);
    if (question) onQuestion(question);
  };
  /** @param {string} text */
  const put = (text) => {
    box.value = text;
    fitToText(box);
    tell();
  };
  box.addEventListener("input", () => {
    fitToText(box);
    rest();
    timer = window.setTimeout(tell, /\?\s*$/.test(box.value) ? DONE : UNSURE); // when the reader seems to be done
  });
  whenEntered(box, tell);
  /** Another problem takes the place of this one, but not of one that is being typed. @param {string} question */
  const show = (question) => {
    const typing = timer || (box === document.activeElement && !bare(box.value));
    if (!typing && bare(box.value) !== question) box.value = question;
    fitToText(box);
  };
  /** What was typed and not told yet, once the reader has left the box; else nothing. */
  const takePending = () => {
    if (!timer || box === document.activeElement) return "";
    rest();
    return bare(box.value);
  };
  return { box, rest, put, show, takePending };
}

function problemBox() {
  return make("textarea", {
    id: freshId("question"),
    rows: 2,
    maxlength: LONGEST,
    spellcheck: "false",
    autocapitalize: "off",
    autocomplete: "off",
  });
}

/** @param {any} box @param {() => void} then */
function whenEntered(box, then) {
  box.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    then();
  });
}

/** As tall as its text, where the style sheet cannot say so. @param {any} box */
function fitToText(box) {
  if (CSS.supports("field-sizing", "content")) return;
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight + 2}px`;
}

/** @param {() => void} onchange */
function stepsOfNext(onchange) {
  const options = [1, 2, 3, 4, 5, 6].map((n) => make("option", { value: n }, `of ${n} step${n > 1 ? "s" : ""}`));
  const steps = make("select", { id: freshId("steps"), onchange }, ...options);
  steps.value = "3";
  return steps;
}

/** What the models can read, and the button that shows it. */
function createHelp() {
  const panel = help();
  const opener = makeButton(
    "What can they read?",
    () => {
      panel.hidden = !panel.hidden;
      opener.setAttribute("aria-expanded", String(!panel.hidden));
    },
    { class: "quiet", "aria-expanded": "false", "aria-controls": panel.id },
  );
  return { panel, opener };
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
