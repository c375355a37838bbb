"use strict";
(() => {
  const PAGE = 100;
  const PREFIXES = { p: 1e-12, n: 1e-9, u: 1e-6, "µ": 1e-6, m: 1e-3, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15 };
  const byId = (id) => document.getElementById(id);
  const table = byId("table");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row, place) => ({
    row,
    place,
    words: row.textContent.toLowerCase(),
    cells: Array.from(row.cells, (cell) => ({
      text: cell.textContent.toLowerCase(),
      value: cell.dataset.v === undefined ? null : Number(cell.dataset.v),
    })),
  }));
  const heads = Array.from(table.querySelectorAll("th"));
  const inputs = Array.from(table.querySelectorAll(".column-filters input"));
  let shown = PAGE;
  let sorted = { column: -1, down: false };

  // "<50ms", ">= 1.5 k", "=16", or any part of the text
  function condition(text) {
    const found = /^\s*(<=|>=|<|>|=)\s*(-?[\d.]+(?:e[+-]?\d+)?)\s*([%a-zµ]*)/i.exec(text);
    if (!found) {
      const word = text.trim().toLowerCase();
      return (cell) => cell.text.includes(word);
    }
    const unit = found[3];
    // a single letter is a unit of its own, unless it can only be a prefix
    const prefixed = unit.length > 1 || "kGTpnuµ".includes(unit || " ");
    const scale = unit === "%" ? 0.01 : prefixed ? (PREFIXES[unit[0]] ?? 1) : unit === "m" || unit === "M" ? PREFIXES[unit] : 1;
    const limit = Number(found[2]) * scale;
    const near = (value) => Math.abs(value - limit) <= 1e-9 * Math.max(Math.abs(value), Math.abs(limit));
    const tests = {
      "<": (value) => value < limit && !near(value),
      "<=": (value) => value < limit || near(value),
      ">": (value) => value > limit && !near(value),
      ">=": (value) => value > limit || near(value),
      "=": near,
    };
    return (cell) => cell.value !== null && tests[found[1]](cell.value);
  }

  function matching() {
    const word = byId("search").value.trim().toLowerCase();
    const asked = inputs
      .map((input, column) => ({ column, text: input.value }))
      .filter(({ text }) => text.trim())
      .map(({ column, text }) => ({ column, holds: condition(text) }));
    return rows.filter(({ row, words, cells }) =>
      words.includes(word) &&
      !(byId("only-usable").checked && row.hasAttribute("data-unusable")) &&
      !(byId("only-front").checked && !row.hasAttribute("data-front")) &&
      asked.every(({ column, holds }) => holds(cells[column])));
  }

  function compare(one, other) {
    const a = one.cells[sorted.column];
    const b = other.cells[sorted.column];
    const sign = sorted.down ? -1 : 1;
    const numeric = a.value !== null || b.value !== null || a.text === "-" || b.text === "-";
    if (numeric && (a.value === null || b.value === null)) {
      // what is absent comes last either way
      return (a.value === null) - (b.value === null) || one.place - other.place;
    }
    const order = numeric ? a.value - b.value : a.text.localeCompare(b.text, "en", { numeric: true });
    return sign * order || one.place - other.place;
  }

  function draw() {
    const found = matching();
    if (sorted.column >= 0) found.sort(compare);
    body.replaceChildren(...found.slice(0, shown).map(({ row }) => row));
    byId("more").hidden = found.length <= shown;
    byId("count").textContent = `${found.length} of ${rows.length} rows`;
  }

  function sortBy(column) {
    sorted = { column, down: sorted.column === column && !sorted.down };
    heads.forEach((head, place) => {
      if (place === column) head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    draw();
  }

  function reset() {
    byId("filters").reset();
    inputs.forEach((input) => { input.value = ""; });
    shown = PAGE;
    draw();
  }

  const filtered = () => { shown = PAGE; draw(); };
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sortBy(column)));
  inputs.forEach((input) => input.addEventListener("input", filtered));
  ["search", "only-usable", "only-front"].forEach((id) => byId(id).addEventListener("input", filtered));
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("show-all").addEventListener("click", reset);
  byId("more").addEventListener("click", () => { shown += 5 * PAGE; draw(); });
  // all rows are printed that the style sheet lets through, whatever page is shown
  window.addEventListener("beforeprint", () => { shown = Math.max(shown, PAGE); draw(); });

  const button = byId("theme");
  const dark = () => document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    name();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);

  name();
  [button, byId("filters"), table.querySelector(".column-filters")].forEach((part) => { part.hidden = false; });
  draw();
})();
