// Reads the models' answers: the final answer as the benchmark grades it, and the arithmetic of each line of working.

const ANSWER = /the answer is ([^.]*)\./g; // of acm/tasks/_abacus.yaml
const STEP = /\d+(?:,?[-+*/]\d+)+=\d+/g;

/**
 * The problem as the models read it, in lower case: they know no capitals.
 * @param {string} text
 * @returns {string}
 */
export function prompt(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean).join(" ");
  const asked = words.startsWith("question:") ? words : `question: ${words}`;
  return asked.endsWith("answer:") ? asked : `${asked} answer:`;
}

/**
 * The last answer of a response; "[invalid]", lm-eval's word, if there is none.
 * @param {string} response
 * @returns {string}
 */
export function answerOf(response) {
  return [...response.matchAll(ANSWER)].at(-1)?.[1].trim() ?? "[invalid]";
}

/**
 * A response in pieces, in order. A piece such as 17+4,-6=15 is a step; it is wrong if its arithmetic is. A comma reads
 * "and then".
 * @param {string} text
 * @returns {{ text: string, step: boolean, wrong: boolean }[]}
 */
export function steps(text) {
  const pieces = [];
  let end = 0;
  for (const match of text.matchAll(STEP)) {
    if (match.index > end) pieces.push({ text: text.slice(end, match.index), step: false, wrong: false });
    end = match.index + match[0].length;
    pieces.push({ text: match[0], step: true, wrong: !holds(match[0]) });
  }
  if (end < text.length) pieces.push({ text: text.slice(end), step: false, wrong: false });
  return pieces;
}

/**
 * Whether a step such as 17+4,-6=15 is right, calculated from left to right.
 * @param {string} step
 * @returns {boolean}
 */
function holds(step) {
  const [left, right] = step.split("=");
  let value = Number.parseInt(left, 10);
  for (const [, operation, digits] of left.matchAll(/([-+*/])(\d+)/g)) {
    const number = Number(digits);
    if (operation === "+") value += number;
    else if (operation === "-") value -= number;
    else if (operation === "*") value *= number;
    else value /= number;
  }
  return value === Number(right);
}
