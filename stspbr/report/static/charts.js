// Line charts as inline SVG: a legend that hides and shows lines, a logarithmic scale, values at the pointer.
(() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg"; // a name, never fetched
  const MARGIN = { left: 58, right: 14, top: 10, bottom: 30 };
  const HEIGHT = 260;
  const COLOURS = 8;
  const DASHES = ["none", "7 4", "2 3"];
  const BORDERS = ["solid", "dashed", "dotted"];

  function node(name, attributes, parent, text) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  }

  function short(value) {
    const size = Math.abs(value);
    if (value === 0) return "0";
    if (size >= 1e5 || size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e");
    return String(Number(value.toPrecision(4)));
  }

  function linearTicks(low, high, count) {
    const raw = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
    const ticks = [];
    for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9; k++) ticks.push(Number((k * step).toPrecision(12)));
    return ticks;
  }

  function logTicks(low, high) {
    const first = Math.floor(Math.log10(low));
    const last = Math.ceil(Math.log10(high));
    const parts = Math.log10(high / low) <= 2.5 ? [1, 2, 5] : [1];
    const ticks = [];
    for (let power = first; power <= last; power++) for (const m of parts) ticks.push(m * 10 ** power);
    const inside = ticks.filter((tick) => tick >= low && tick <= high);
    const stride = Math.ceil(inside.length / 9);
    return inside.filter((tick, k) => k % stride === 0);
  }

  class Chart {
    constructor(figure, data) {
      this.figure = figure;
      this.data = data;
      this.hidden = new Set();
      this.choice = 0;
      this.box = figure.querySelector(".plot");
      this.legend = figure.querySelector(".legend");
      this.tip = figure.querySelector(".tip");
      this.log = figure.querySelector('[data-control="log"]');
      this.log.checked = Boolean(data.log);
      this.log.addEventListener("change", () => this.draw());
      const select = figure.querySelector("select");
      if (select) select.addEventListener("change", () => { this.choice = select.selectedIndex; this.renew(); });
      this.renew();
      new ResizeObserver(() => this.draw()).observe(this.box);
    }

    get series() { return this.data.choices[this.choice].series; }

    colour(k) { return `var(--series-${(k % COLOURS) + 1})`; }

    pattern(k) { return Math.floor(k / COLOURS) % 3; }

    renew() {
      this.legend.replaceChildren(...this.series.map((line, k) => {
        const button = document.createElement("button");
        button.type = "button";
        button.style.setProperty("--line-colour", this.colour(k));
        button.style.setProperty("--line-style", BORDERS[this.pattern(k)]);
        button.textContent = line.name;
        button.title = "hide or show";
        const show = () => button.setAttribute("aria-pressed", String(!this.hidden.has(line.name)));
        show();
        button.addEventListener("click", () => {
          if (!this.hidden.delete(line.name)) this.hidden.add(line.name);
          show();
          this.draw();
        });
        return button;
      }));
      this.draw();
    }

    draw() {
      const width = Math.max(240, this.box.clientWidth);
      const shown = this.series.map((line, k) => ({ ...line, k })).filter((line) => !this.hidden.has(line.name));
      const log = this.log.checked;
      const usable = (value) => Number.isFinite(value) && (!log || value > 0);
      const values = shown.flatMap((line) => line.values.filter(usable));
      const steps = shown.flatMap((line) => line.steps);
      const svg = node("svg", {
        width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": this.data.title,
      });
      this.box.querySelector("svg")?.remove();
      this.box.prepend(svg);
      this.scale = null;
      if (!values.length) {
        node("text", { x: width / 2, y: HEIGHT / 2, "text-anchor": "middle" }, svg, "nothing to show");
        return;
      }
      let [low, high] = [Math.min(...values), Math.max(...values)];
      if (log) [low, high] = [low / 1.1, high * 1.1];
      else {
        low = Math.min(0, low);
        high += (high - low || 1) * 0.04;
      }
      const [first, last] = [Math.min(...steps), Math.max(...steps)];
      const inner = { w: width - MARGIN.left - MARGIN.right, h: HEIGHT - MARGIN.top - MARGIN.bottom };
      const x = (step) => MARGIN.left + (inner.w * (step - first)) / (last - first || 1);
      const part = (v) => (log ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low));
      const y = (value) => MARGIN.top + inner.h * (1 - part(value));
      const grid = node("g", { class: "grid" }, svg);
      for (const tick of log ? logTicks(low, high) : linearTicks(low, high, 5)) {
        node("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick) }, grid);
        node("text", { x: MARGIN.left - 7, y: y(tick) + 4, "text-anchor": "end" }, grid, short(tick));
      }
      for (const tick of linearTicks(first, last, Math.max(3, Math.floor(inner.w / 90)))) {
        node("text", { x: x(tick), y: HEIGHT - 10, "text-anchor": "middle" }, grid, String(tick));
      }
      node("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: MARGIN.top + inner.h, y2: MARGIN.top + inner.h,
        class: "axis" }, grid);
      for (const line of shown) {
        let path = "";
        let open = false;
        line.steps.forEach((step, k) => {
          const value = line.values[k];
          if (usable(value)) path += `${open ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`;
          open = usable(value);
        });
        node("path", { d: path, class: "curve", style: `stroke: ${this.colour(line.k)}`,
          "stroke-dasharray": DASHES[this.pattern(line.k)] }, svg);
      }
      const cursor = node("line", { y1: MARGIN.top, y2: MARGIN.top + inner.h, class: "cursor", visibility: "hidden" }, svg);
      svg.addEventListener("pointermove", (event) => this.point(event, svg, shown, x, cursor));
      svg.addEventListener("pointerleave", () => {
        cursor.setAttribute("visibility", "hidden");
        this.tip.hidden = true;
      });
    }

    point(event, svg, shown, x, cursor) {
      const at = event.clientX - svg.getBoundingClientRect().left;
      const steps = [...new Set(shown.flatMap((line) => line.steps))];
      const step = steps.reduce((a, b) => (Math.abs(x(b) - at) < Math.abs(x(a) - at) ? b : a));
      cursor.setAttribute("x1", x(step));
      cursor.setAttribute("x2", x(step));
      cursor.setAttribute("visibility", "visible");
      const rows = shown.flatMap((line) => {
        const k = line.steps.indexOf(step);
        return k < 0 ? [] : [{ name: line.name, value: line.values[k], k: line.k }];
      }).sort((a, b) => b.value - a.value);
      const title = document.createElement("b");
      title.textContent = `step ${step}`;
      this.tip.replaceChildren(title, ...rows.map((row) => {
        const entry = document.createElement("span");
        entry.style.setProperty("--line-colour", this.colour(row.k));
        entry.style.setProperty("--line-style", BORDERS[this.pattern(row.k)]);
        entry.textContent = `${row.name}  ${short(row.value)}`;
        return entry;
      }));
      this.tip.hidden = false;
      const room = this.box.clientWidth - this.tip.offsetWidth - 8;
      this.tip.style.left = `${Math.max(0, Math.min(room, x(step) + (at > this.box.clientWidth / 2 ? -this.tip.offsetWidth - 12 : 12)))}px`;
    }
  }

  const source = document.getElementById("charts");
  const charts = source ? JSON.parse(source.textContent) : [];
  document.querySelectorAll("figure.chart").forEach((figure) => new Chart(figure, charts[Number(figure.dataset.chart)]));
})();
