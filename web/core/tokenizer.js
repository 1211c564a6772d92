// Qwen2's tokenizer from its tokenizer.json: text is split into words and digits, then byte pairs are joined by rank.

// The splitting rule of tokenizer.json, which names its cases with (?i:…), and the same rule as JavaScript has it.
const RULE =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" +
  "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const SPACE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"; // Unicode's, unlike \s
const WORDS = new RegExp(
  "'(?:[sSſ]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" +
    `| ?[^${SPACE}\\p{L}\\p{N}]+[\\r\\n]*|[${SPACE}]*[\\r\\n]+|[${SPACE}]+(?![^${SPACE}])|[${SPACE}]+`,
  "gu",
);
const SIGNS = new Set(" 0123456789.,?:+-*/="); // single characters that the models have met

/**
 * @typedef {{
 *   encode: (text: string) => number[], decode: (tokens: number[]) => string, unknown: (text: string) => string[],
 *   size: number,
 * }} Tokenizer
 */

/**
 * @param {any} json tokenizer.json
 * @returns {Tokenizer}
 * @throws {Error} for a tokenizer of another kind
 */
export function makeTokenizer(json) {
  const rule = json?.pre_tokenizer?.pretokenizers?.[0]?.pattern?.Regex;
  if (json?.model?.type !== "BPE" || rule !== RULE) {
    throw new Error("The tokenizer is not Qwen2's; the page knows no other.");
  }
  const ids = new Map(Object.entries(json.model.vocab));
  /** @type {string[][]} */
  const merges = json.model.merges;
  const ranks = new Map(merges.map((pair, i) => [pair.join(" "), i]));
  const special = new Map(json.added_tokens.map((/** @type {any} */ token) => [token.content, token.id]));
  const characters = byteCharacters();
  const bytes = new Map(characters.map((character, byte) => [character, byte]));
  const names = new Map([...ids].map(([name, id]) => [id, name]));
  const split = new RegExp(`(${[...special.keys()].map((s) => s.replace(/[^\w]/g, "\\$&")).join("|")})`);

  /** @param {string} word @returns {number[]} */
  const wordTokens = (word) => {
    const parts = [...new TextEncoder().encode(word)].map((byte) => characters[byte]);
    return joinPairs(parts, ranks).map((part) => ids.get(part));
  };
  /** @param {string} text @returns {string[]} */
  const words = (text) => text.normalize("NFC").match(WORDS) ?? [];
  return {
    encode: (text) =>
      text.split(split).flatMap((part) => (special.has(part) ? [special.get(part)] : words(part).flatMap(wordTokens))),
    decode: (tokens) => {
      const plain = tokens.filter((id) => ![...special.values()].includes(id));
      const shown = plain.flatMap((id) => [...(names.get(id) ?? "")]);
      return new TextDecoder("utf-8", { ignoreBOM: true }).decode(
        Uint8Array.from(shown, (character) => bytes.get(character) ?? 0),
      );
    },
    unknown: (text) => strangeWords(words(text), wordTokens),
    size: Math.max(...names.keys(), ...special.values()) + 1,
  };
}

/** Words that are not one token each. @param {string[]} words @param {(word: string) => number[]} wordTokens */
function strangeWords(words, wordTokens) {
  const strange = words.filter((word) => wordTokens(word).length > 1 || (word.length === 1 && !SIGNS.has(word)));
  return [...new Set(strange.map((word) => word.trim() || "line break"))];
}

/**
 * Join the neighbours whose pair has the lowest rank, again and again.
 * @param {string[]} parts
 * @param {Map<string, number>} ranks
 * @returns {string[]}
 */
function joinPairs(parts, ranks) {
  for (;;) {
    let best = Infinity;
    let place = -1;
    for (let i = 0; i + 1 < parts.length; i++) {
      const rank = ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity;
      if (rank < best) [best, place] = [rank, i];
    }
    if (place < 0) return parts;
    parts = [...parts.slice(0, place), parts[place] + parts[place + 1], ...parts.slice(place + 2)];
  }
}

/**
 * The character that stands for each byte in a byte-level vocabulary: itself if it can be printed, else one from 256
 * on.
 * @returns {string[]}
 */
function byteCharacters() {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printed = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    return String.fromCodePoint(printed ? byte : next++);
  });
}
