// The interactive front: choose axes, filter, read a plan's whole row. No library, no network.
(function () {
  "use strict";
  const root = document.getElementById("explorer");
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  document.documentElement.classList.add("scripted");
  const NS = "http://www.w3.org/2000/svg";
  const KINDS = Object.entries(data.kinds);
  const make = (tag, attributes, text) => {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const draw = (tag, attributes, text) => {
    const node = document.createElementNS(NS, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const short = (value, digits = 4) => {
    if (typeof value !== "number") return String(value);
    const size = Math.abs(value);
    for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (size >= unit) return +(value / unit).toPrecision(digits) + letter;
    }
    return String(+value.toPrecision(digits));
  };
  // Ticks that are close together beside their size need more digits to differ.
  const named = (values) => {
    const power = (value) => Math.floor(Math.log10(value) + 1e-9);
    const step = Math.min(...values.slice(1).map((value, i) => value - values[i]));
    const digits = power(Math.max(...values.map(Math.abs))) - power(step) + 1;
    return values.map((value) => [value, short(value, Math.min(Math.max(digits, 4) || 4, 15))]);
  };

  // -- controls
  const controls = make("div", { class: "controls" });
  const select = (label, options, chosen) => {
    const box = make("label", {}, label + " ");
    const list = make("select", { "aria-label": label });
    for (const [value, text] of options) {
      const option = make("option", { value }, text);
      option.selected = value === chosen;
      list.append(option);
    }
    list.addEventListener("change", update);
    box.append(list);
    controls.append(box);
    return list;
  };
  const tick = (label, checked) => {
    const box = make("label", {});
    const input = make("input", { type: "checkbox" });
    input.checked = checked;
    input.addEventListener("change", update);
    box.append(input, " " + label);
    controls.append(box);
    return input;
  };
  const axes = data.axes.map((name) => [name, name]);
  const every = (key) => [...new Set(data.points.flatMap((point) => point[key]))].sort().map((name) => [name, name]);
  const chosenX = select("across", axes, data.x);
  const chosenY = select("up", axes, data.y);
  const chosenModule = select("with module", [["", "any"], ...every("modules")], "");
  const chosenProperty = select("with property", [["", "any"], ...every("properties")], "");
  const logarithmic = tick("log scale across", false);
  const comparedOnly = tick("compared plans only", false);
  const frontOnly = tick("front only", false);
  const count = make("p", { class: "soft", role: "status" });
  const legend = make("div", { class: "legend" });
  // On a narrow screen the picture is narrow too, because text that shrinks with it could not be read.
  const WIDTH = Math.max(340, Math.min(720, root.clientWidth));
  const picture = draw("svg", { viewBox: "0 0 " + WIDTH + " 420", role: "group", "aria-label": "plans" });
  const details = make("div", { class: "details", "aria-live": "polite" });
  root.append(controls, legend, picture, count, details);

  // -- the picture
  const LEFT = 70, RIGHT = WIDTH - 20, TOP = 15, BOTTOM = 370;
  function ticks(low, high, log, most) {
    if (log) {
      const found = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
        for (const digit of [1, 2, 5]) {
          const value = digit * 10 ** power;
          if (value >= low && value <= high) found.push(value);
        }
      }
      return found.length > 1 ? found : [low, high];
    }
    const rough = (high - low) / most;
    const power = 10 ** Math.floor(Math.log10(rough));
    // Where few ticks have room, a step between 5 and 10 keeps at least three.
    const step = (most > 4 ? [1, 2, 5, 10] : [1, 2, 4, 5, 8, 10]).map((digit) => digit * power)
      .find((each) => each >= rough);
    // Whole multiples, and not a sum of steps, whose rounding errors would write 0 as 1.388e-17.
    const found = [];
    for (let count = Math.ceil(low / step - 1e-9); count * step <= high + step * 1e-9; count++) {
      found.push(+(count * step).toPrecision(12));
    }
    return found;
  }
  function scale(values, from, to, log) {
    let low = Math.min(...values), high = Math.max(...values);
    if (log) {
      const margin = Math.max((high / low) ** 0.05, 1.01);
      low /= margin;
      high *= margin;
      const place = (v) => from + ((Math.log(v) - Math.log(low)) / (Math.log(high) - Math.log(low))) * (to - from);
      return { low, high, place };
    }
    const margin = (high - low) * 0.06 || Math.abs(high) * 0.05 || 1;
    low -= margin;
    high += margin;
    return { low, high, place: (v) => from + ((v - low) / (high - low)) * (to - from) };
  }
  function dominates(a, b, signs, x, y) {
    const first = [a.row[x] * signs[0], a.row[y] * signs[1]], second = [b.row[x] * signs[0], b.row[y] * signs[1]];
    return first[0] <= second[0] && first[1] <= second[1] && (first[0] < second[0] || first[1] < second[1]);
  }
  // Whether the front of these two axes is the front of the run.
  const isFrontOf = (x, y) => data.objectives.length === 2 && data.objectives.includes(x) && data.objectives.includes(y);
  function update() {
    const x = chosenX.value, y = chosenY.value;
    const shown = data.points.filter((point) =>
      point.state === "complete" && point.row[x] !== undefined && point.row[y] !== undefined &&
      (!chosenModule.value || point.modules.includes(chosenModule.value)) &&
      (!chosenProperty.value || point.properties.includes(chosenProperty.value)) &&
      (!comparedOnly.checked || point.kind !== "other") &&
      (!frontOnly.checked || point.kind === "front" || point.kind === "bare"));
    const all = data.points.filter((point) => point.state === "complete").length;
    count.textContent = shown.length + " of " + all + " finished plans shown. " +
      (data.points.length - all) + " were rejected or failed. Point at a plan, or tab to it, to read its row." +
      (x !== y && !isFrontOf(x, y) ? " " + data.note : "");
    picture.replaceChildren();
    if (!shown.length) {
      picture.append(draw("text", { x: WIDTH / 2, y: 200, "text-anchor": "middle" }, "no plan passes these filters"));
      return;
    }
    const log = logarithmic.checked && shown.every((point) => point.row[x] > 0);
    const across = scale(shown.map((point) => point.row[x]), LEFT, RIGHT, log);
    const bars = y === data.y;
    const heights = shown.flatMap((point) => [point.row[y], ...(bars && point.low !== null ? [point.low, point.high] : [])]);
    const up = scale(heights, BOTTOM, TOP, false);
    for (const [value, text] of named(ticks(across.low, across.high, log, WIDTH > 500 ? 5 : 4))) {
      const at = across.place(value);
      picture.append(draw("line", { x1: at, x2: at, y1: TOP, y2: BOTTOM, class: "grid" }),
        draw("text", { x: at, y: BOTTOM + 18, "text-anchor": "middle" }, text));
    }
    for (const [value, text] of named(ticks(up.low, up.high, false, 5))) {
      const at = up.place(value);
      picture.append(draw("line", { x1: LEFT, x2: RIGHT, y1: at, y2: at, class: "grid" }),
        draw("text", { x: LEFT - 8, y: at + 4, "text-anchor": "end" }, text));
    }
    const bare = bars && shown.some((point) => point.low !== null) && shown.find((point) => point.kind === "bare");
    if (bare) {
      const at = up.place(bare.row[y]);
      picture.append(draw("line", { x1: LEFT, x2: RIGHT, y1: at, y2: at, class: "level" }));
    }
    picture.append(
      draw("text", { x: (LEFT + RIGHT) / 2, y: 408, "text-anchor": "middle", class: "axis" }, x + (log ? " (log)" : "")),
      draw("text", { x: 14, y: (TOP + BOTTOM) / 2, "text-anchor": "middle", class: "axis",
        transform: "rotate(-90 14 " + (TOP + BOTTOM) / 2 + ")" }, y));
    const signs = [x, y].map((name) => (data.directions[name] === "maximize" ? -1 : 1));
    const feasible = shown.filter((point) => point.feasible);
    const compared = feasible.some((point) => point.several) ? feasible.filter((point) => point.kind !== "other") : feasible;
    const edge = compared.filter((point) => !compared.some((other) => dominates(other, point, signs, x, y)))
      .sort((a, b) => a.row[x] - b.row[x]);
    if (x !== y) {
      const path = edge.map((point, i) => {
        const [px, py] = [across.place(point.row[x]), up.place(point.row[y])];
        return i ? "H" + px.toFixed(1) + "V" + py.toFixed(1) : "M" + px.toFixed(1) + "," + py.toFixed(1);
      }).join("");
      picture.append(draw("path", { d: path, class: "edge" }));
    }
    const rank = { other: 0, finalist: 1, front: 2, bare: 3 };
    for (const point of [...shown].sort((a, b) => rank[a.kind] - rank[b.kind])) {
      const [px, py] = [across.place(point.row[x]), up.place(point.row[y])];
      const group = draw("g", { class: "point " + point.kind, tabindex: 0, role: "button",
        "aria-label": "trial " + point.number + ": " + (point.plan === "{}" ? "bare backbone" : point.plan) });
      const bar = bars && point.low !== null ? [up.place(point.low), up.place(point.high)] : null;
      group.append(...marks(point.kind, px, py, bar));
      for (const event of ["mouseenter", "focus", "click"]) group.addEventListener(event, () => show(point, group));
      picture.append(group);
    }
    legend.replaceChildren(...KINDS.filter(([kind]) => shown.some((point) => point.kind === kind)).map(([kind, text]) => {
      const barred = bars && shown.some((point) => point.kind === kind && point.low !== null);
      const key = draw("svg", { viewBox: "0 0 16 22", width: 16, height: 22, class: "point " + kind });
      key.append(...marks(kind, 8, 11, barred ? [1, 21] : null));
      const item = make("span", {});
      item.append(key, text);
      return item;
    }));
  }
  // The marks of a point, which are those of its kind in the legend too. `bar` is the ends of its error bar, or null.
  function marks(kind, px, py, bar) {
    const mark = kind === "bare"
      ? draw("rect", { x: px - 5, y: py - 5, width: 10, height: 10, transform: "rotate(45 " + px + " " + py + ")" })
      : draw("circle", { cx: px, cy: py, r: 5 });
    return bar ? [draw("line", { x1: px, x2: px, y1: bar[0], y2: bar[1] }), mark] : [mark];
  }

  // -- the row: the cells of the table of all plans, so that both have the same digits and intervals
  const titles = [...document.querySelectorAll("table[data-filter] th")].map((title) => title.textContent);
  function show(point, group) {
    for (const other of picture.querySelectorAll(".chosen")) other.classList.remove("chosen");
    group.classList.add("chosen");
    const head = make("p", {});
    const copy = make("button", { type: "button" }, "copy plan");
    copy.addEventListener("click", () => {
      if (navigator.clipboard) navigator.clipboard.writeText(point.plan).then(() => { copy.textContent = "copied"; });
    });
    const list = make("dl", {});
    const row = document.querySelector('table[data-filter] tr[data-trial="' + point.number + '"]');
    [...row.cells].forEach((cell, i) => {
      const copied = [...cell.childNodes].map((node) => node.cloneNode(true));
      if (titles[i] === "plan") head.append(...copied, " ");
      else if (copied.length) {
        const value = make("dd", {});
        value.append(...copied);
        list.append(make("dt", {}, titles[i]), value);
      }
    });
    head.append(copy);
    details.replaceChildren(head, list);
  }
  update();
})();
