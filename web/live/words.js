// The words of the component, explained where they appear, for who meets them first.

import { make } from "./dom.js";
import { isBlock } from "./state.js";

/**
 * Text that folds away.
 * @param {string} summary
 * @param {...(string | Node)} paragraphs
 * @returns {HTMLElement}
 */
export function makeFold(summary, ...paragraphs) {
  const shown = paragraphs.map((text) => (typeof text === "string" ? make("p", {}, text) : text));
  return make("details", { class: "help" }, make("summary", {}, summary), ...shown);
}

/** An example of tokens, and how many they are. */
export const EXAMPLE = { text: "59-22=37.", tokens: 9 };

/** Of the dial and the answers. */
export function wordsOfTheDial() {
  return makeFold(
    "What do λ and token mean?",
    "λ (lambda) is a number that you set. A model is a long list of numbers, its weights. " +
      "λ says where each weight of the merge lies between fast’s and slow’s. " +
      "0 is fast, 1 is slow, 0.5 is halfway. Above 1, the merge goes past slow.",
    "A model has layers. Each layer may have a λ of its own; the dial then shows the mean of all.",
    "A token is a piece of text: the models write one at a time. " +
      "Here it is a digit, a sign, a word or a part of a word. " +
      `“${EXAMPLE.text}” has ${EXAMPLE.tokens} tokens. Fewer tokens are a shorter answer, and less to compute.`,
    "In an answer, a comma between two operations reads “and then”. A wrong step is red, with a cross. " +
      "The model may notice it at the check and correct it.",
  );
}

const HATCHED = "The stronger a cell’s colour, the larger its λ. Hatched is below 0: away from slow.";

/** Of the strip. @param {string[]} layers */
export function wordsOfTheLayers(layers) {
  const blocks = layers.filter(isBlock);
  const terms = [
    ["emb", "The embedding turns each token into numbers. In recipes its name is embed."],
    [
      `${blocks[0]} to ${blocks[blocks.length - 1]}`,
      `${blocks.length} blocks work on these numbers, one after the other. Each block has two parts. ` +
        "att (attention) looks back at earlier tokens; mlp (multilayer perceptron) works on each token alone. " +
        "In recipes block 0 has the parts 0.attention and 0.mlp.",
    ],
    ["norm", "The last normalization brings the numbers to one scale."],
    ["head", "The head gives each token that may come next a score; the highest is written. In recipes: lm_head."],
  ].filter(([short]) => short !== "head" || layers.includes("lm_head"));
  const list = terms.flatMap(([term, text]) => [make("dt", {}, term), make("dd", {}, text)]);
  return makeFold(
    "What are these layers?",
    "A token passes through them from left to right.",
    make("dl", {}, ...list),
    HATCHED,
  );
}

/** Of the chart. @param {string} against the recorded merge @param {number} slow mean tokens of the slow model */
export function wordsOfTheChart(against, slow) {
  return makeFold(
    "How to read this chart",
    "Each point is a merge. The higher it lies, the more of its answers are right. " +
      "The further right, the shorter they are: " +
      `at 40 % they have 40 % fewer tokens than slow’s, whose mean is ${slow.toFixed(0)}.`,
    "The grey line is one λ for all layers, from slow on the left to fast on the right. " +
      "The report calls it the frontier. " +
      `To give each layer a λ of its own, as ${against} does, is worth it only above that line.`,
    "A 95 % interval (the band, and the thin lines at points) shows how much the choice of the problems may matter. " +
      "A hollow point stands for another merge, since yours was not measured: every layer has the mean of your λ.",
    "Press a point to go to its merge. With the keyboard: Tab to the chart, arrows to the next point, Enter.",
    "The reduction is the mean of those of the three kinds of problems, as in the report’s figure.",
  );
}
