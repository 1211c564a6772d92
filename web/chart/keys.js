// Keys pressed in an element are its own.

/**
 * JupyterLab runs no shortcut of the notebook where this element has the focus.
 * @template {Element} T @param {T} node @returns {T} the element
 */
export function ownKeys(node) {
  node.setAttribute("data-lm-suppress-shortcuts", "true");
  return node;
}
