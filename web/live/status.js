// One line on what goes on: loading, merging, answering, how fast.

import { make } from "./dom.js";

const MEGABYTE = 1e6;

export function createStatus() {
  const bar = make("progress", { hidden: true, max: 1, value: 0, "aria-label": "loading the models" });
  const text = make("span", {}, "The two models (5.2 MB) load in a moment, or at your first move.");
  const said = make("p", { class: "unseen", role: "status" });
  const node = make(
    "div",
    { class: "status" },
    make("span", { class: "light", "aria-hidden": "true" }),
    bar,
    text,
    said,
  );

  /** @param {string} kind @param {any} detail */
  function show(kind, detail) {
    node.dataset.kind = kind;
    node.setAttribute("aria-busy", String(kind !== "ready" && kind !== "failed"));
    bar.hidden = kind !== "loading";
    if (kind === "loading") {
      bar.value = detail.loaded / detail.total;
      text.textContent = `loading ${megabytes(detail.loaded)} of ${megabytes(detail.total)} MB`;
    } else if (kind === "merging") text.textContent = "merging";
    else if (kind === "answering" || kind === "measuring") text.textContent = kind;
    else if (kind === "failed") text.textContent = `It did not work: ${detail}`;
    else text.textContent = readiness(detail);
    if (kind === "failed") text.setAttribute("role", "alert");
    else text.removeAttribute("role");
  }

  return {
    node,
    show,
    say: (/** @type {string} */ sentence) => {
      said.textContent = sentence;
    },
  };
}

/** @param {{ took: number, pace: number }} at */
function readiness(at) {
  const pace = at.pace ? ` · ${at.pace.toFixed(1)} ms a token` : "";
  return at.took ? `merged in ${Math.max(1, Math.round(at.took))} ms${pace}` : "ready";
}

/** @param {number} bytes */
function megabytes(bytes) {
  return (bytes / MEGABYTE).toFixed(1);
}
