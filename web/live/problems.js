// Draws arithmetic word problems as abacus/problems.py does, and reads their answer out of the text.

/** @type {Record<string, string>} */
const SUBJECTS = {
  tom: "he",
  ben: "he",
  max: "he",
  leo: "he",
  sam: "he",
  anna: "she",
  mia: "she",
  nora: "she",
  lucy: "she",
  eva: "she",
};
const THINGS = ["apples", "books", "coins", "eggs", "figs", "kites", "nuts", "pears", "shells", "toys"];
/** @type {Record<string, string[]>} */
const TOLD = {
  "+": ["buys # more", "finds # more", "wins # more"],
  "-": ["sells #", "loses #", "gives away #"],
  "*": ["doubles them"],
  "/": ["sells half"],
};
const LARGEST = 99;
/** @type {Record<string, number>} */
const CHANCE = { "+": 0.35, "-": 0.35, "*": 0.15, "/": 0.15 };

/** What the models can read, for people. */
export const KNOWN = {
  names: Object.keys(SUBJECTS),
  things: THINGS,
  sentences: Object.values(TOLD)
    .flat()
    .map((told) => `he ${told.replace("#", "12")}.`),
};

/**
 * Numbers in [0, 1), the same for the same seed (mulberry32).
 * @param {number} seed
 * @returns {() => number}
 */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** @param {string} op @param {number} value @param {number} number */
function applyStep(op, value, number) {
  if (op === "+") return value + number;
  if (op === "-") return value - number;
  return op === "*" ? value * number : value / number;
}

/** @template T @param {() => number} random @param {T[]} list @returns {T} */
function pick(random, list) {
  return list[Math.floor(random() * list.length)];
}

/** An integer from low to high, both included. @param {() => number} random @param {number} low @param {number} high */
function integer(random, low, high) {
  return low + Math.floor(random() * (high - low + 1));
}

/** One operation whose result is a whole number from 1 to 99. @param {() => number} random @param {number} value */
function drawOperation(random, value) {
  for (;;) {
    let left = random();
    const op = Object.keys(CHANCE).find((name) => (left -= CHANCE[name]) < 0) ?? "/";
    const number = "*/".includes(op) ? 2 : integer(random, 2, 40);
    const after = applyStep(op, value, number);
    if (after >= 1 && after <= LARGEST && Number.isInteger(after)) {
      return { after, told: pick(random, TOLD[op]).replace("#", String(number)) };
    }
  }
}

/**
 * A story of so many operations on numbers from 1 to 99.
 * @param {() => number} random
 * @param {number} steps
 * @returns {{ question: string, gold: string }} the question without "question:" and "answer:"
 */
export function wordProblem(random, steps) {
  const name = pick(random, Object.keys(SUBJECTS));
  const things = pick(random, THINGS);
  const start = integer(random, 2, 60);
  const sentences = [`${name} has ${start} ${things}.`];
  let value = start;
  for (let step = 0; step < steps; step += 1) {
    const drawn = drawOperation(random, value);
    value = drawn.after;
    sentences.push(`${SUBJECTS[name]} ${drawn.told}.`);
  }
  return { question: `${sentences.join(" ")} how many ${things} are left?`, gold: String(value) };
}

const OPENING = /^([a-z]+) has (\d+) ([a-z]+)\.((?: [^.?]+\.)*) how many \3 are left\?$/;
const SAID = [
  ["+", /^ (?:he|she) (?:buys|finds|wins) (\d+) more$/],
  ["-", /^ (?:he|she) (?:sells|loses|gives away) (\d+)$/],
  ["*", /^ (?:he|she) doubles them$/],
  ["/", /^ (?:he|she) sells half$/],
];

/**
 * What a word problem tells; null where the text is no such problem.
 * @param {string} question
 */
function storyOf(question) {
  const found = OPENING.exec(bare(question));
  if (!found) return null;
  const [, name, start, things, told] = found;
  const steps = [];
  for (const sentence of told.split(".").slice(0, -1)) {
    const said = SAID.find(([, pattern]) => /** @type {RegExp} */ (pattern).test(sentence));
    if (!said) return null;
    const [op, pattern] = /** @type {[string, RegExp]} */ (said);
    steps.push({ op, number: Number(pattern.exec(sentence)?.[1] ?? 2) });
  }
  return { name, start: Number(start), things, steps };
}

/**
 * The answer of a word problem, read from its text. Null where the text is no such problem, or leaves the numbers that
 * the models have met (whole numbers from 1 to 99).
 * @param {string} question
 * @returns {string | null}
 */
export function goldOf(question) {
  const story = storyOf(question);
  const met = (/** @type {number} */ number) => Number.isInteger(number) && number >= 1 && number <= LARGEST;
  if (!story || !met(story.start)) return null;
  let value = story.start;
  for (const { op, number } of story.steps) {
    value = applyStep(op, value, number);
    if (!met(number) || !met(value)) return null;
  }
  return String(value);
}

/** @type {Record<string, string>} */
const OPERATIONS_SHOWN = { "+": "+", "-": "−", "*": "×", "/": "÷" };

/**
 * A problem in few words, such as "nora: 17 shells +4 −6"; the first words of any other text.
 * @param {string} question
 */
export function problemName(question) {
  const story = storyOf(question);
  if (!story) return shortened(bare(question));
  const { name, start, things, steps } = story;
  return [`${name}: ${start} ${things}`, ...steps.map(({ op, number }) => `${OPERATIONS_SHOWN[op]}${number}`)].join(
    " ",
  );
}

const LONGEST_SHOWN = 30; // letters

/** @param {string} text */
export function shortened(text) {
  return text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN)}…` : text;
}

/** A question in small letters, with single spaces, without "question:" and "answer:". @param {string} question */
export function bare(question) {
  return question
    .toLowerCase()
    .replace(/\s+/g, " ")
    .trim()
    .replace(/^question: ?/, "")
    .replace(/ ?answer:$/, "");
}
