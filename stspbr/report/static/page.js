// Pictures open large on a click, and the navigation marks the section in view.
(() => {
  "use strict";
  const dialog = document.getElementById("large");
  const image = dialog.querySelector("img");
  const caption = dialog.querySelector("p");
  for (const button of document.querySelectorAll("button.picture")) {
    button.addEventListener("click", () => {
      const small = button.querySelector("img");
      image.src = small.src;
      image.alt = caption.textContent = small.alt;
      dialog.showModal();
    });
  }
  dialog.addEventListener("click", () => dialog.close());

  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const inView = new Set();
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) inView[entry.isIntersecting ? "add" : "delete"](entry.target.id);
    const first = [...links.keys()].find((id) => inView.has(id));
    for (const [id, link] of links) {
      if (id === first) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-80px 0px -40% 0px" });
  for (const id of links.keys()) {
    const section = document.getElementById(id);
    if (section) watch.observe(section);
  }
})();
