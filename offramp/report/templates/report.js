(() => {
  "use strict";
  const root = document.documentElement;
  const dark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
  });

  const chart = document.getElementById("memory-chart");
  if (chart) {
    const { left, stepWidth, steps, live } = JSON.parse(
      document.getElementById("memory-data").textContent);
    const cursor = chart.querySelector(".cursor");
    const reading = document.getElementById("memory-reading");
    const idle = reading.textContent;
    chart.addEventListener("mousemove", (event) => {
      const box = chart.getBoundingClientRect();
      const x = (event.clientX - box.left) * chart.viewBox.baseVal.width / box.width;
      const step = Math.floor((x - left) / stepWidth);
      if (step < 0 || step >= steps.length) { return; }
      const middle = left + (step + 0.5) * stepWidth;
      cursor.setAttribute("x1", middle);
      cursor.setAttribute("x2", middle);
      cursor.style.visibility = "visible";
      reading.textContent =
        `step ${step + 1}, ${steps[step]}: ${live[step].toLocaleString("en")} bytes alive`;
    });
    chart.addEventListener("mouseleave", () => {
      cursor.style.visibility = "hidden";
      reading.textContent = idle;
    });
  }
  root.dataset.ready = "yes";
})();
