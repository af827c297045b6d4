"use strict";
// A click on a head sorts the table: first the largest numbers, or names from A; a second click turns it round.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.addEventListener("click", () => {
    const body = table.tBodies[0];
    const words = head.classList.contains("text");
    const before = head.getAttribute("aria-sort");
    const up = before ? before === "descending" : words;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (words) return up ? x.localeCompare(y) : y.localeCompare(x);
      if (x === "" || y === "") return (x === "") - (y === ""); // what was not measured comes last
      return up ? x - y : y - x;
    });
    body.append(...rows);
  }));
}

// A click on a class brings its curves to the front.
for (const row of document.querySelectorAll("tr[data-class]")) {
  row.addEventListener("click", () => {
    const panel = row.closest("[data-kind]");
    const chosen = !row.classList.contains("chosen");
    for (const old of panel.querySelectorAll(".chosen")) old.classList.remove("chosen");
    if (!chosen) return;
    row.classList.add("chosen");
    for (const line of panel.querySelectorAll(`g[data-class="${row.dataset.class}"]`)) {
      line.classList.add("chosen");
      line.parentNode.append(line);
    }
    for (const name of panel.querySelectorAll(".chosen-name")) name.textContent = row.cells[0].textContent;
  });
}

// Boxes or masks.
for (const button of document.querySelectorAll(".tabs button")) {
  button.addEventListener("click", () => {
    for (const other of button.parentNode.children) other.setAttribute("aria-selected", other === button);
    for (const panel of document.querySelectorAll("[data-kind]")) panel.hidden = panel.dataset.kind !== button.dataset.show;
  });
}
