// Light or dark, before anything is painted: as chosen on this page before, else as the system prefers.
let chosen = null;
try {
  chosen = localStorage.getItem("splitvote-theme");
} catch {
  // storage may be forbidden on file:// pages; the choice then lasts as long as the page
}
const preferred = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;

function applyTheme() {
  root.dataset.theme = chosen ?? (preferred.matches ? "dark" : "light");
  document.dispatchEvent(new CustomEvent("theme"));
}

applyTheme();
preferred.addEventListener("change", applyTheme);
addEventListener("beforeprint", () => {
  root.dataset.theme = "light";
  document.dispatchEvent(new CustomEvent("theme"));
});
addEventListener("afterprint", applyTheme);
addEventListener("DOMContentLoaded", () => {
  document.getElementById("theme").addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("splitvote-theme", chosen);
    } catch {
      // see above
    }
    applyTheme();
  });
});
