// Tables: a click on a title sorts, and the table of all plans is filtered. No library, no network.
(function () {
  "use strict";
  const make = (tag, attributes, ...content) => {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    node.append(...content);
    return node;
  };

  // -- sorting: numbers by their value, texts by their letters, and empty cells last
  const keyOf = (row, index) => {
    const cell = row.cells[index];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    const text = cell.textContent.trim();
    const number = cell.classList.contains("number") ? parseFloat(text) : NaN;  // of "+0.01 [-0.02, +0.04]" it is the first
    return Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  };
  function sort(table, index, title) {
    const down = title.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    title.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => [keyOf(row, index), row]);
    keyed.sort(([a], [b]) => (a === "") - (b === "") || (down ? -1 : 1) * compare(a, b));
    body.append(...keyed.map(([, row]) => row));
  }
  for (const table of document.querySelectorAll("table")) {
    if (table.tBodies[0].rows.length < 2) continue;
    [...table.tHead.rows[0].cells].forEach((title, index) => {
      const button = make("button", { type: "button" }, ...title.childNodes);
      button.addEventListener("click", () => sort(table, index, title));
      title.append(button);
    });
  }

  // -- filtering by a word and by the column that the table names
  for (const table of document.querySelectorAll("table[data-filter]")) {
    const rows = [...table.tBodies[0].rows];
    // A plan is drawn with blanks between its parts. So it is found as it is typed, as JSON, and without any blanks.
    const textOf = (row) => {
      const plans = [...row.cells].flatMap((cell) => [cell.dataset.typed || "", cell.dataset.text || ""]);
      const text = [row.textContent, ...plans].join("\n").toLowerCase();
      return text + "\n" + text.replace(/[^\S\n]+/g, "");
    };
    const texts = new Map(rows.map((row) => [row, textOf(row)]));
    const index = [...table.tHead.rows[0].cells].findIndex((title) => title.textContent === table.dataset.filter);
    const kinds = [...new Set(rows.map((row) => row.cells[index].textContent))].sort();
    const words = make("input", { type: "search", placeholder: "module, slot, reason ...", "aria-label": "filter" });
    const list = make("select", { "aria-label": table.dataset.filter }, make("option", { value: "" }, "any"),
      ...kinds.map((kind) => make("option", { value: kind }, kind)));
    const count = make("span", { role: "status" });
    const update = () => {
      const wanted = words.value.toLowerCase().split(/\s+/);
      let shown = 0;
      for (const row of rows) {
        row.hidden = !wanted.every((word) => texts.get(row).includes(word)) ||
          (list.value !== "" && row.cells[index].textContent !== list.value);
        shown += !row.hidden;
      }
      count.textContent = shown + " of " + rows.length + " plans";
    };
    words.addEventListener("input", update);
    list.addEventListener("change", update);
    const controls = make("div", { class: "controls" }, make("label", {}, "filter ", words),
      make("label", {}, table.dataset.filter + " ", list), count);
    if (rows.length > 1) table.parentNode.before(controls);
    update();
  }

  // A folded table is opened in print, because paper cannot be clicked.
  addEventListener("beforeprint", () => {
    for (const folded of document.querySelectorAll("details:not([open])")) {
      folded.open = true;
      folded.dataset.folded = "";
    }
  });
  addEventListener("afterprint", () => {
    for (const folded of document.querySelectorAll("details[data-folded]")) {
      folded.open = false;
      delete folded.dataset.folded;
    }
  });
})();
