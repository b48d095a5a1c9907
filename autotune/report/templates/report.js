"use strict";
// Draws the charts, brings out a lane in all of them, and sorts the table. Nothing else.

const specs = JSON.parse(document.getElementById("plots").textContent);
const views = [];
const buttons = [...document.querySelectorAll("[data-lane]")];
let pinned = "";

function show(lane) {
  for (const view of views) view.signal("highlight", lane).runAsync();
  for (const button of buttons) {
    button.setAttribute("aria-pressed", String(button.dataset.lane === pinned));
  }
}

async function draw(name) {
  // Vega gives its element a role: the image with the text alternative is the one around it.
  const element = document.getElementById(name).firstElementChild;
  const result = await window.vegaEmbed(element, specs[name], {
    mode: "vega-lite",
    renderer: "svg",
    actions: false,
    ast: true, // expressions are interpreted: the page's policy allows no eval
    defaultStyle: false,
    tooltip: { disableDefaultStyle: true },
  });
  views.push(result.view);
}

for (const button of buttons) {
  const lane = button.dataset.lane;
  button.addEventListener("click", () => {
    pinned = pinned === lane ? "" : lane;
    show(pinned);
  });
  button.addEventListener("mouseenter", () => show(lane));
  button.addEventListener("mouseleave", () => show(pinned));
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") show((pinned = ""));
});

const table = document.getElementById("candidates");

function compare(one, other) {
  const numbers = [Number(one), Number(other)];
  const both = one !== "" && other !== "" && !numbers.some(Number.isNaN);
  return both ? numbers[0] - numbers[1] : one.localeCompare(other);
}

function sort(heading, column) {
  const rising = heading.getAttribute("aria-sort") === "descending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const value = (row) => row.cells[column].dataset.v;
  const rows = [...table.tBodies[0].rows];
  rows.sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (a === "" || b === "") return (a === "") - (b === ""); // what is not known comes last
    return rising ? compare(a, b) : compare(b, a);
  });
  table.tBodies[0].append(...rows);
  const name = heading.textContent.trim();
  const way = rising ? "rising" : "falling";
  document.getElementById("sorted").textContent = `Sorted by ${name}, ${way}.`;
}

if (table) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => sort(heading, column));
  });
}

Promise.all(Object.keys(specs).map(draw)).then(() => {
  document.documentElement.dataset.drawn = "true";
});
