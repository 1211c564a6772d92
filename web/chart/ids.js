// Ids of elements.

/** An id that no other element of this page has, also none of another widget of a notebook. @param {string} stem */
export function freshId(stem) {
  return `acm-${stem}-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
}
