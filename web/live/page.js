// The page around the component: the models of this site, the address as the state, a link to copy.

import { startEngine } from "../core/client.js";
import { makeButton } from "./dom.js";
import { loadModels } from "./loading.js";
import { mount } from "./playground.js";
import { fromHash, toHash } from "./state.js";

/** @type {{ data: any, worker: string, config: any, tokenizer: any, names: string[], bytes: number[] }} */
const handed = /** @type {any} */ (globalThis).acmLive;
const { layers } = handed.data;

/** @param {(loaded: number, total: number) => void} onProgress */
async function startOnPage(onProgress) {
  const [fast, slow] = await loadModels({ ...handed, folder: "live" }, onProgress);
  const engine = startEngine(handed.worker);
  await engine.load({ fast, slow, config: handed.config, tokenizer: handed.tokenizer });
  return engine;
}

/** The theme that was chosen on another page of the site. */
function takeTheme() {
  try {
    const mode = localStorage.getItem("mode");
    if (mode === "light" || mode === "dark") document.documentElement.dataset.theme = mode;
  } catch {
    /* no storage: the system's theme */
  }
}

/** A button that copies the address, which holds the state. @param {() => string} hashOf */
function copyButton(hashOf) {
  const button = makeButton(
    "Copy link",
    async () => {
      history.replaceState(null, "", hashOf());
      try {
        await navigator.clipboard.writeText(location.href);
        button.textContent = "Copied";
      } catch {
        button.textContent = "It is in the address bar";
      }
      setTimeout(() => {
        button.textContent = "Copy link";
      }, 2000);
    },
    { class: "quiet", "aria-live": "polite" },
  );
  return button;
}

function startPage() {
  const root = /** @type {HTMLElement} */ (document.querySelector("#playground"));
  const live = mount(root, {
    start: startOnPage,
    data: handed.data,
    state: fromHash(location.hash, layers),
    onChange: (state) => history.replaceState(null, "", toHash(state, layers)),
  });
  root.querySelector(".status")?.append(copyButton(() => toHash(live.get(), layers)));
  const write = () => history.replaceState(null, "", toHash(live.get(), layers));
  if (fromHash(location.hash, layers)) write();
  window.addEventListener("hashchange", () => {
    const state = fromHash(location.hash, layers);
    if (!state) return;
    live.set(state);
    write();
  });
  letSkip(root);
}

/** The link past the head of the page moves the focus, and leaves the address alone. @param {HTMLElement} root */
function letSkip(root) {
  root.tabIndex = -1;
  document.querySelector(".skip")?.addEventListener("click", (event) => {
    event.preventDefault();
    root.focus();
    root.scrollIntoView();
  });
}

takeTheme();
startPage();
