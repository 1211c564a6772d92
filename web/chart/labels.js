// Where the names of points and lines go: beside their marks, never over one another.

/** @typedef {{ left: number, top: number, right: number, bottom: number }} Box */
/** @typedef {[number, number]} Place */
/**
 * @typedef {{ width: number, height: number, anchors: Place[], first?: boolean }} Label
 *   anchors: marks that the name may stand beside, best first. first: placed before the others.
 */
/** @typedef {{ x: number, y: number, anchor: Place, far: boolean }} Placed the middle of the name, and its mark */

const DISTANCES = [4, 9, 17, 27, 39];
const DIRECTIONS = Array.from({ length: 12 }, (_, i) => [Math.cos((i * Math.PI) / 6), Math.sin((i * Math.PI) / 6)]);

/** @param {Box} a @param {Box} b */
export function boxesOverlap(a, b) {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

/** The box of a name whose middle is there. @param {number} x @param {number} y @param {Label} label @returns {Box} */
export function boxAround(x, y, { width, height }) {
  return { left: x - width / 2, right: x + width / 2, top: y - height / 2, bottom: y + height / 2 };
}

/**
 * The places around its marks that a name may take, each with what the way there costs.
 * @param {Label} label @returns {{ x: number, y: number, anchor: Place, cost: number }[]}
 */
function placesAround(label) {
  return label.anchors.flatMap((anchor, rank) =>
    DISTANCES.flatMap((distance) =>
      DIRECTIONS.map(([dx, dy]) => ({
        x: anchor[0] + dx * (distance + 5) + (Math.sign(Math.round(dx * 10)) * label.width) / 2,
        y: anchor[1] + dy * (distance + 5) + (Math.sign(Math.round(dy * 10)) * label.height) / 4,
        anchor,
        cost: distance + 3 * rank,
      })),
    ),
  );
}

/** @param {Box} box @param {Place[]} drawn */
function coveredMarks(box, drawn) {
  let count = 0;
  for (const [x, y] of drawn) if (x > box.left && x < box.right && y > box.top && y < box.bottom) count += 1;
  return count;
}

/**
 * Whether a name there would stand nearer to another name's mark than to its own.
 * @param {Box} box @param {Place} own @param {Place[]} marks
 */
function misleads(box, own, marks) {
  const away = (/** @type {Place} */ [x, y]) =>
    Math.hypot(Math.max(box.left - x, 0, x - box.right), Math.max(box.top - y, 0, y - box.bottom));
  const limit = away(own);
  return marks.some((mark) => (mark[0] !== own[0] || mark[1] !== own[1]) && away(mark) < limit);
}

/**
 * Each name's place; null where every place would cover another name or leave the frame.
 * @param {Label[]} labels @param {Box} frame
 * @param {Place[]} drawn marks and lines, as pixels that a name should not cover
 * @returns {(Placed | null)[]}
 */
export function placeLabels(labels, frame, drawn) {
  /** @type {Box[]} */
  const taken = [];
  /** @type {(Placed | null)[]} */
  const found = labels.map(() => null);
  const marks = labels.filter(({ anchors }) => anchors.length === 1).map(({ anchors }) => anchors[0]);
  const order = labels.map((_, i) => i).sort((a, b) => Number(!!labels[b].first) - Number(!!labels[a].first) || a - b);
  for (const i of order) {
    let best = null,
      least = Infinity;
    for (const place of placesAround(labels[i])) {
      if (place.cost >= least) continue;
      const box = boxAround(place.x, place.y, labels[i]);
      const outside =
        box.left < frame.left || box.right > frame.right || box.top < frame.top || box.bottom > frame.bottom;
      if (outside || taken.some((other) => boxesOverlap(box, other))) continue;
      const astray = labels[i].anchors.length === 1 && misleads(box, place.anchor, marks);
      const cost = place.cost + 12 * coveredMarks(box, drawn) + (astray ? 25 : 0);
      if (cost < least) [best, least] = [place, cost];
    }
    if (!best) continue;
    taken.push(boxAround(best.x, best.y, labels[i]));
    found[i] = { x: best.x, y: best.y, anchor: best.anchor, far: least > DISTANCES[1] + 9 };
  }
  return found;
}

/** Pixels along a line, a few apart. @param {Place[]} line @param {number} apart @returns {Place[]} */
export function alongLine(line, apart = 6) {
  return line.flatMap((/** @type {Place} */ [x, y], i) => {
    if (!i) return [/** @type {Place} */ ([x, y])];
    const [x0, y0] = line[i - 1];
    const count = Math.min(400, Math.ceil(Math.hypot(x - x0, y - y0) / apart));
    return Array.from(
      { length: count },
      (_, k) => /** @type {Place} */ ([x0 + ((x - x0) * (k + 1)) / count, y0 + ((y - y0) * (k + 1)) / count]),
    );
  });
}

/**
 * The names of the marks that lie so near to one that they hide it, itself included.
 * @param {Map<string, Place>} places @param {string} name @param {number} near
 */
export function pileOf(places, name, near = 9) {
  const [x, y] = places.get(name) ?? [NaN, NaN];
  return [...places].filter(([, [left, top]]) => Math.hypot(left - x, top - y) < near).map(([other]) => other);
}
