"use strict";
const words = new Intl.Collator(undefined, { numeric: true });

function sort(button) {
  const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
  const up = head.getAttribute("aria-sort") !== "ascending", sign = up ? 1 : -1;
  const numbers = head.classList.contains("number");
  const rows = Array.from(body.rows, (row) => {
    const cell = row.cells[head.cellIndex];
    if ("missing" in cell.dataset) return [null, row];
    return [numbers ? Number(cell.dataset.value) : cell.textContent, row];
  });
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);  // missing ones stay last, up or down
    return sign * (numbers ? a - b : words.compare(a, b));
  });
  body.append(...rows.map(([, row]) => row));
  for (const other of head.parentNode.cells) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
}

function copier(block) {
  const button = document.createElement("button"), text = block.querySelector("pre").textContent;
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy: " + block.querySelector("p").textContent);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(block.querySelector("pre"));
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  block.querySelector("p").append(button);
}

function reachable() {  // what scrolls must take the focus, so that arrow keys scroll it
  for (const box of document.querySelectorAll(".scroll")) {
    const more = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    if (more) box.tabIndex = 0; else box.removeAttribute("tabindex");
  }
}

for (const button of document.querySelectorAll("thead button")) button.addEventListener("click", () => sort(button));
document.querySelectorAll(".code").forEach(copier);
addEventListener("resize", reachable);
reachable();
