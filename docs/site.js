// Code that scrolls is reached by keyboard, and the search has a name for screen readers.
document$.subscribe(() => {
  for (const code of document.querySelectorAll("pre > code")) code.tabIndex = 0;
  document.querySelector(".md-search").ariaLabel = "Search";
});
