"use strict";
const wait = 1000 * Number(document.body.dataset.every);
async function refresh() {
  try {
    const answer = await fetch("/", { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ["main", "read"]) document.getElementById(id).replaceWith(page.getElementById(id));
    document.title = page.title;
    document.body.classList.remove("lost");
  } catch {
    if (!document.body.classList.contains("lost")) {
      document.body.classList.add("lost");
      document.getElementById("read").textContent += " · the board has ended, these are the last values";
    }
  }
  setTimeout(refresh, wait);
}
setTimeout(refresh, wait);
