// Cameras as frusta around the object, with their images: for the page of `stspbr capture check`.
(() => {
  "use strict";
  const T = window.stspbrThree;
  const FIELD_OF_VIEW = 40;
  const COLOURS = { train: 0x3b82f6, test: 0xf08c28, noted: 0xd6287c };
  const AXES = [[[1, 0, 0], 0xd23c3c], [[0, 1, 0], 0x3ca046], [[0, 0, 1], 0x3c64dc]];

  function embedded(id) {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent.trim()), (c) => c.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  }

  function lines(numbers, colour) {
    const geometry = new T.BufferGeometry();
    geometry.setAttribute("position", new T.Float32BufferAttribute(numbers, 3));
    return new T.LineSegments(geometry, new T.LineBasicMaterial({ color: colour }));
  }

  // The image in the frustum's base: corners clockwise from the top left, as the data have them.
  function card(camera, redraw) {
    const [, a, b, c, d] = camera.points;
    const geometry = new T.BufferGeometry();
    geometry.setAttribute("position", new T.Float32BufferAttribute([...a, ...b, ...c, ...d], 3));
    geometry.setAttribute("uv", new T.Float32BufferAttribute([0, 1, 1, 1, 1, 0, 0, 0], 2));
    geometry.setIndex([0, 2, 1, 0, 3, 2]);
    const material = new T.MeshBasicMaterial({ color: 0x8a929c, side: T.DoubleSide });
    if (camera.picture) {
      const image = new Image();
      const loaded = new Promise((done) => { image.onload = image.onerror = done; });
      image.src = camera.picture;
      camera.loaded = loaded.then(() => {
        if (!image.naturalWidth) return;
        material.map = new T.Texture(image);
        material.map.colorSpace = T.SRGBColorSpace;
        material.map.needsUpdate = true;
        material.color.set(0xffffff);
        material.needsUpdate = true;
        redraw();
      });
    }
    return new T.Mesh(geometry, material);
  }

  function frustum(camera) {
    const [eye, a, b, c, d] = camera.points;
    const numbers = [];
    for (const corner of [a, b, c, d]) numbers.push(...eye, ...corner);
    for (const [from, to] of [[a, b], [b, c], [c, d], [d, a]]) numbers.push(...from, ...to);
    // a notch over the top edge marks the upper side of the image
    const middle = a.map((v, k) => (v + b[k]) / 2);
    const tip = middle.map((v, k) => v + 0.3 * (v - (c[k] + d[k]) / 2));
    numbers.push(...a, ...tip, ...b, ...tip);
    return lines(numbers, COLOURS[camera.noted ? "noted" : camera.split] || COLOURS.train);
  }

  function rings(centre, radius) {
    const numbers = [];
    const steps = 72;
    for (const [i, j] of [[0, 2], [0, 1], [1, 2]]) {
      for (let k = 0; k < steps; k++) {
        for (const angle of [k, k + 1].map((n) => (2 * Math.PI * n) / steps)) {
          const point = [...centre];
          point[i] += radius * Math.cos(angle);
          point[j] += radius * Math.sin(angle);
          numbers.push(...point);
        }
      }
    }
    return lines(numbers, 0x9aa3ad);
  }

  class View {
    constructor(element) {
      this.element = element;
      this.figure = element.querySelector("figure");
      this.canvas = element.querySelector("canvas");
      this.ink = this.canvas.getContext("2d"); // drawn offscreen and copied: the picture can be read again
      this.data = embedded(element.dataset.views);
      this.gl = new T.WebGLRenderer({ antialias: true, alpha: true });
      this.gl.setClearColor(0x000000, 0);
      this.scene = new T.Scene();
      this.camera = new T.PerspectiveCamera(FIELD_OF_VIEW, 1, 0.01, 100);
      this.waiting = false;
      this.build();
      this.connect();
      this.reset();
    }

    build() {
      const { centre, radius, points, cameras } = this.data;
      const redraw = () => this.refresh();
      this.parts = cameras.map((camera) => {
        const group = new T.Group();
        const outline = frustum(camera);
        const image = card(camera, redraw);
        group.add(outline, image);
        this.scene.add(group);
        image.userData = { camera };
        return { camera, group, outline, image };
      });
      const geometry = new T.BufferGeometry();
      geometry.setAttribute("position", new T.Float32BufferAttribute(points, 3));
      this.points = new T.Points(geometry, new T.PointsMaterial({ color: 0x7d8794, size: radius / 40 }));
      this.scene.add(this.points);
      this.guides = new T.Group();
      this.guides.add(rings(centre, radius));
      for (const [axis, colour] of AXES) {
        this.guides.add(lines([...centre, ...centre.map((v, k) => v + 1.4 * radius * axis[k])], colour));
      }
      this.scene.add(this.guides);
      this.centre = new T.Vector3(...centre);
      this.reach = Math.max(radius, ...cameras.flatMap((camera) => camera.points.map(
        (point) => new T.Vector3(...point).distanceTo(this.centre))));
      this.controls = new T.OrbitControls(this.camera, this.canvas);
      this.controls.enableZoom = false; // the wheel scrolls the page until the view is clicked
      this.controls.addEventListener("change", redraw);
    }

    connect() {
      this.boxes = Object.fromEntries(
        [...this.element.querySelectorAll("[data-show]")].map((box) => [box.dataset.show, box]));
      for (const box of Object.values(this.boxes)) box.addEventListener("change", () => this.refresh());
      this.element.querySelector("[data-control=reset]").addEventListener("click", () => this.reset());
      let pressed = null;
      this.canvas.addEventListener("pointerdown", (event) => {
        this.controls.enableZoom = true;
        pressed = [event.clientX, event.clientY];
      }, { capture: true });
      this.canvas.addEventListener("pointerleave", () => { this.controls.enableZoom = false; });
      this.canvas.addEventListener("pointerup", (event) => {
        if (pressed && Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) < 4) {
          const box = this.canvas.getBoundingClientRect();
          this.pick((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
        }
        pressed = null;
      });
      new ResizeObserver(() => this.refresh()).observe(this.element);
    }

    reset() {
      const away = new T.Vector3(0.75, 0.6, 1.0).normalize().multiplyScalar(3.1 * this.reach);
      this.look({ position: away.add(this.centre).toArray(), target: this.centre.toArray() });
    }

    look({ position, target }) {
      this.camera.near = this.reach / 100;
      this.camera.far = this.reach * 100;
      this.camera.position.set(...position);
      this.controls.target.set(...target);
      this.controls.update();
      this.refresh();
    }

    // What is under a place of the canvas (0 … 1 from its top left): its name and image below the view.
    pick(x, y) {
      const ray = new T.Raycaster();
      ray.setFromCamera(new T.Vector2(2 * x - 1, 1 - 2 * y), this.camera);
      const shown = this.parts.filter((part) => part.group.visible).map((part) => part.image);
      const hit = ray.intersectObjects(shown, false)[0];
      const chosen = hit ? hit.object.userData.camera : null;
      for (const { camera, outline } of this.parts) {
        const usual = COLOURS[camera.noted ? "noted" : camera.split] || COLOURS.train;
        outline.material.color.set(camera === chosen ? 0x20c060 : usual);
      }
      const image = this.figure.querySelector("img");
      image.hidden = !(chosen && chosen.picture);
      if (!image.hidden) image.src = chosen.picture;
      const kind = chosen && (chosen.split === "test" ? "held out" : "training");
      this.figure.querySelector("output").textContent = chosen ? `${chosen.name} (${kind})` : "";
      this.refresh();
      return chosen && chosen.name;
    }

    refresh() {
      if (this.waiting) return;
      this.waiting = true;
      requestAnimationFrame(() => {
        this.waiting = false;
        this.draw();
      });
    }

    draw() {
      const on = (name) => this.boxes[name].checked;
      for (const { camera, group, image } of this.parts) {
        group.visible = on(camera.split === "test" ? "test" : "train");
        image.visible = on("pictures");
      }
      this.points.visible = on("points");
      this.guides.visible = on("sphere");
      const ratio = Math.min(window.devicePixelRatio || 1, 2);
      const width = Math.round(this.canvas.clientWidth * ratio);
      const height = Math.round(this.canvas.clientHeight * ratio);
      if (width === 0 || height === 0) return;
      if (this.canvas.width !== width || this.canvas.height !== height) {
        this.canvas.width = width;
        this.canvas.height = height;
        this.gl.setSize(width, height, false);
      }
      this.camera.aspect = width / height;
      const half = Math.tan((FIELD_OF_VIEW * Math.PI) / 360) / Math.min(1, this.camera.aspect);
      this.camera.fov = (360 / Math.PI) * Math.atan(half);
      this.camera.updateProjectionMatrix();
      this.gl.render(this.scene, this.camera);
      this.ink.clearRect(0, 0, width, height);
      this.ink.drawImage(this.gl.domElement, 0, 0);
    }
  }

  for (const element of document.querySelectorAll(".frusta")) {
    const figure = element.querySelector("figure");
    if (!document.createElement("canvas").getContext("webgl2")) {
      figure.dataset.state = "failed";
      figure.textContent = "This browser has no WebGL 2, which the 3D view needs; see cameras.png instead.";
      continue;
    }
    const view = new View(element);
    element.stspbr = view; // for scripts: look({position, target}), pick(x, y)
    Promise.all(view.data.cameras.map((camera) => camera.loaded)).then(() => {
      view.draw();
      figure.dataset.state = "ready";
    });
  }
})();
