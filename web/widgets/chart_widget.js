// The chart of web/chart as a widget of Jupyter: Python gives the numbers, a pressed point goes back by its name.

import { drawChart } from "../chart/chart.js";
import { tellWhenGone } from "./kernel.js";

/** @typedef {import("../chart/spec.js").Spec} Spec */
/**
 * @typedef {{ get: (name: string) => any, set: (name: string, value: unknown) => void, save_changes: () => void,
 *   on: (event: string, handler: () => void) => void, off: (event: string, handler: () => void) => void }} WidgetModel
 */

/**
 * Draw the widget's `spec`, with the point `chosen` ringed. Where `pressable`, a pressed point
 * becomes `chosen`; pressed again, none is.
 * @param {{ model: WidgetModel, el: HTMLElement }} widget
 */
function renderChart({ model, el }) {
  const spec = () => /** @type {Spec} */ ({ ...model.get("spec"), selected: model.get("chosen") || null });
  const press = (/** @type {string} */ name) => {
    model.set("chosen", name === model.get("chosen") ? "" : name);
    model.save_changes();
  };
  /** @type {ReturnType<typeof drawChart> | null} */
  let chart = null;
  const update = () => {
    if (chart) chart.update(spec());
    else if (model.get("spec").x) chart = drawChart(el, spec(), model.get("pressable") ? { onPoint: press } : {});
  };
  update();
  model.on("change:spec", update);
  model.on("change:chosen", update);
  const end = tellWhenGone(model, el);
  return () => {
    end();
    model.off("change:spec", update);
    model.off("change:chosen", update);
    chart?.close();
  };
}

export default { render: renderChart };
