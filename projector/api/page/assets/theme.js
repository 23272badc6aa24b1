// Sets the theme that the reader chose, before the first paint; the default is that of the system.
(() => {
  const chosen = localStorage.getItem("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
})();
