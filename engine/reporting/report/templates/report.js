"use strict";
// Sorting, tabs, the cursor of the curves, the overlays, the theme. Without it the page shows all but these.
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const root = document.documentElement;

// Theme: as the system says, light, dark.
const themes = ["auto", "light", "dark"];
function setTheme(theme) {
  root.dataset.theme = theme;
  document.getElementById("theme").textContent = `Theme: ${theme}`;
}
document.getElementById("theme").addEventListener("click", () => {
  setTheme(themes[(themes.indexOf(root.dataset.theme || "auto") + 1) % themes.length]);
});

// Tables: a click on a heading sorts; numbers from the greatest, words from A; what is missing stays last.
function sortBy(table, heading) {
  const column = heading.cellIndex, body = table.tBodies[0];
  const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const rows = [...body.rows], keys = rows.map(key).filter(text => text !== "");
  const numeric = keys.every(text => !isNaN(text));
  const before = heading.getAttribute("aria-sort");
  const descending = before ? before === "ascending" : numeric;
  const compare = (a, b) => numeric ? a - b : a.localeCompare(b, undefined, { numeric: true });
  rows.sort((a, b) => {
    const [left, right] = [key(a), key(b)];
    if (left === "" || right === "") return (left === "") - (right === "");
    return descending ? compare(right, left) : compare(left, right);
  });
  all("th[aria-sort]", table.tHead).forEach(other => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  body.append(...rows);
}
all("table.sortable thead th button").forEach(button =>
  button.addEventListener("click", () => sortBy(button.closest("table"), button.closest("th"))));

// Tabs: one run at a time; arrows go from tab to tab.
function select(tab, focus) {
  for (const other of all("[role=tab]", tab.parentElement)) {
    other.setAttribute("aria-selected", other === tab);
    other.tabIndex = other === tab ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = other !== tab;
  }
  if (focus) tab.focus();
  anchor();
}
function anchor() { // the links at the top lead into the run that is shown
  all("[data-anchor]").forEach(heading => heading.removeAttribute("id"));
  for (const link of all("[data-part]")) {
    const heading = all(`.run:not([hidden]) [data-anchor=${link.dataset.part}]`)[0];
    link.parentElement.hidden = !heading;
    if (heading) heading.id = link.dataset.part;
  }
}
for (const list of all("[role=tablist]")) {
  const tabs = all("[role=tab]", list);
  list.hidden = false;
  tabs.forEach((tab, place) => {
    tab.addEventListener("click", () => select(tab, false));
    tab.addEventListener("keydown", event => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) { select(tabs[(place + step + tabs.length) % tabs.length], true); event.preventDefault(); }
    });
  });
  select(tabs[0], false);
}
anchor();

// Curves: the values at the step under the pointer.
for (const chart of all("[data-chart]")) {
  const { frame, limits, lines } = JSON.parse(chart.dataset.chart);
  const [left, top, right, bottom] = frame, svg = chart.querySelector("svg");
  const cursor = document.createElement("div"), readout = document.createElement("div");
  cursor.className = "cursor";
  readout.className = "readout";
  const hide = () => { cursor.remove(); readout.remove(); };
  chart.addEventListener("pointerleave", hide);
  chart.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), within = chart.getBoundingClientRect();
    const share = ((event.clientX - box.left) / box.width - left) / (right - left);
    if (share < 0 || share > 1) return hide();
    const step = limits[0] + share * (limits[1] - limits[0]);
    const nearest = points => points.reduce((a, b) => Math.abs(b[0] - step) < Math.abs(a[0] - step) ? b : a);
    const read = lines.filter(line => line.points.length).map(line => [line, nearest(line.points)]);
    readout.replaceChildren(`step ${read[0][1][0]}`, ...read.map(([line, [at, value]]) => {
      const row = document.createElement("div"), dot = document.createElement("i");
      dot.className = "dot";
      dot.style.setProperty("--c", `var(--series-${line.place % 8 + 1})`);
      row.append(dot, lines.length > 1 ? `${line.name}  ` : "", value === null ? "none" : String(value));
      return row;
    }));
    const x = box.left - within.left + box.width * (left + share * (right - left));
    Object.assign(cursor.style, { left: `${x}px`, top: `${svg.offsetTop ?? 0}px` });
    cursor.style.top = `${box.top - within.top + box.height * top}px`;
    cursor.style.height = `${box.height * (bottom - top)}px`;
    readout.style.top = cursor.style.top;
    readout.style.left = share < .5 ? `${x + 10}px` : "auto";
    readout.style.right = share < .5 ? "auto" : `${within.width - x + 10}px`;
    chart.append(cursor, readout);
  });
}

// Overlays: one view for all images, one image enlarged.
const dialog = document.getElementById("enlarged"), views = all("button[data-view]", dialog).map(b => b.dataset.view);
function show(view) {
  root.dataset.view = view;
  all("button[data-view]").forEach(button => button.setAttribute("aria-pressed", button.dataset.view === view));
}
all("button[data-view]").forEach(button => button.addEventListener("click", () => show(button.dataset.view)));
all("input[type=range]").forEach(range => range.addEventListener("input", () => {
  root.style.setProperty("--opacity", range.value / 100);
  all("input[type=range]").forEach(other => { other.value = range.value; });
}));
let enlarged = null;
const stages = () => all(".run:not([hidden]) figure > .stage");
function enlarge(stage) {
  enlarged = stage;
  const copy = document.createElement("div");
  copy.className = "stage";
  copy.style.cssText = stage.style.cssText;
  copy.append(...[...stage.children].map(image => image.cloneNode()));
  dialog.querySelector(".place").replaceChildren(copy);
  dialog.querySelector(".caption").textContent =
    all("figcaption span", stage.parentElement).map(span => span.textContent).join("   ");
  if (!dialog.open) dialog.showModal();
}
function move(step) {
  const list = stages(), place = list.indexOf(enlarged ?? document.activeElement);
  const next = list[(place + step + list.length) % list.length];
  if (dialog.open) enlarge(next); else next.focus();
}
all("figure > .stage").forEach(stage => stage.addEventListener("click", () => enlarge(stage)));
all("[data-step]", dialog).forEach(button => button.addEventListener("click", () => move(Number(button.dataset.step))));
dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => { const stage = enlarged; enlarged = null; stage.focus(); });
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
  const view = views[Number(event.key) - 1];
  if (view) show(view);
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step && (dialog.open || event.target.matches("figure > .stage"))) { move(step); event.preventDefault(); }
});
