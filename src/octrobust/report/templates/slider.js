// The two pictures stand side by side; with this they lie on one another, and the slider parts them.
document.documentElement.classList.add("live");
for (const slider of document.querySelectorAll(".pair input")) {
  const show = () => {
    slider.parentElement.style.setProperty("--at", `${slider.value}%`);
    slider.setAttribute("aria-valuetext",
      `before on the left ${slider.value} %, after on the other ${100 - slider.value} %`);
  };
  slider.hidden = false;
  slider.addEventListener("input", show);
  show();
}
