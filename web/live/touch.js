// Tells a finger that sets a value from one that scrolls the page.

const SIDEWAYS = 8; // pixels

/**
 * Follows one finger. Until it moves sideways or is lifted where it came down, it may be on its way down the page.
 * Mouse and pen never wait.
 */
export function createFinger() {
  /** @type {PointerEvent | null} */
  let start = null;
  return {
    waits: () => start !== null,
    /** Where the finger came down, while it waits. */
    start: () => start,
    /** @param {PointerEvent} event */
    down(event) {
      start = event.pointerType === "touch" ? event : null;
    },
    /** @param {PointerEvent} event */
    move(event) {
      if (start && Math.abs(event.clientX - start.clientX) >= SIDEWAYS) start = null;
    },
    end() {
      start = null;
    },
  };
}
