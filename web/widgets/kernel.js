// Says in a widget of Jupyter that its kernel is gone.

const GONE =
  "The kernel was restarted, so what you set here does not reach Python: run the cell above this output again.";

/**
 * One sentence on top of the widget once it is cut off from its kernel; of an explorer, in its first chart alone.
 * @param {import("./chart_widget.js").WidgetModel} model @param {HTMLElement} el
 * @returns {() => void} ends it
 */
export function tellWhenGone(model, el) {
  const say = () => {
    const place = el.closest(".acm-explorer") ?? el;
    if (place.querySelector(".acm-gone")) return;
    const note = document.createElement("p");
    note.className = "acm-gone";
    note.setAttribute("role", "alert");
    note.textContent = GONE;
    el.prepend(note);
  };
  model.on("comm_live_update", say); // of ipywidgets: after the start it comes with a restart alone
  return () => model.off("comm_live_update", say);
}
