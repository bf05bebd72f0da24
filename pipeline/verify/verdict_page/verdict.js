// The theme follows the system and the printer; a box hides the layers that agree.

const root = document.documentElement;
const darkness = matchMedia("(prefers-color-scheme: dark)");
const only = document.getElementById("only");

function setTheme(printing = false) {
  root.dataset.theme = darkness.matches && !printing ? "dark" : "light";
}

function filter() {
  for (const row of document.querySelectorAll("#layers tbody tr"))
    row.hidden = only.checked && row.dataset.differs !== "yes";
}

setTheme();
darkness.addEventListener("change", () => setTheme());
addEventListener("beforeprint", () => setTheme(true));
addEventListener("afterprint", () => setTheme());
only.addEventListener("change", filter);
only.parentElement.hidden = !document.querySelector('#layers tr[data-differs="yes"]');
filter(); // a browser may restore the box when the page is loaded again
