// The 3D view: one or several baked models under their lights, side by side, with one camera for all.
//
// One WebGL renderer draws all views of a page and copies them to their canvases: browsers allow few WebGL contexts,
// and a comparison may have many runs.
(() => {
  "use strict";
  const T = window.stspbrThree;
  const FIELD_OF_VIEW = 30;
  // Our lights have −Z in the middle of the map, three.js's have +X there; both turn the same way.
  const LIGHT_TURN = Math.PI / 2;
  const CHANNELS = { roughness: [0, 1, 0], metallic: [0, 0, 1] };

  let shared = null;

  function renderer() {
    if (shared === null) {
      shared = new T.WebGLRenderer({ antialias: true, alpha: true });
      shared.toneMapping = T.LinearToneMapping; // exposure and clipping only, as the pictures of this page
      shared.setClearColor(0x000000, 0);
    }
    return shared;
  }

  function embeddedBytes(id) {
    const text = atob(document.getElementById(id).textContent.trim());
    const bytes = new Uint8Array(text.length);
    for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
    return bytes.buffer;
  }

  function readLight(id) {
    const found = new T.HDRLoader().parse(embeddedBytes(id));
    const texture = new T.DataTexture(found.data, found.width, found.height);
    Object.assign(texture, {
      type: found.type,
      colorSpace: found.colorSpace,
      mapping: T.EquirectangularReflectionMapping,
      minFilter: T.LinearFilter,
      magFilter: T.LinearFilter,
      flipY: true,
      needsUpdate: true,
    });
    return texture;
  }

  // One channel of the material, its stored value as a grey that is not encoded again.
  function channelMaterial(source, kind) {
    const map = source[`${kind}Map`] || (kind === "metallic" ? source.metalnessMap : null);
    const factor = kind === "metallic" ? source.metalness : source.roughness;
    return new T.ShaderMaterial({
      side: source.side,
      uniforms: {
        map: { value: map },
        textured: { value: map ? 1 : 0 },
        factor: { value: factor },
        channel: { value: new T.Vector3(...CHANNELS[kind]) },
      },
      vertexShader: `
        varying vec2 place;
        void main() {
          place = uv;
          gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
        }`,
      fragmentShader: `
        uniform sampler2D map;
        uniform float textured;
        uniform float factor;
        uniform vec3 channel;
        varying vec2 place;
        void main() {
          float stored = textured > 0.5 ? dot(texture2D(map, place).rgb, channel) : 1.0;
          gl_FragColor = vec4(vec3(factor * stored), 1.0);
        }`,
    });
  }

  function materialsOf(source) {
    return {
      shading: source,
      albedo: new T.MeshBasicMaterial({
        map: source.map, color: source.color, side: source.side, toneMapped: false,
      }),
      roughness: channelMaterial(source, "roughness"),
      metallic: channelMaterial(source, "metallic"),
      normal: new T.MeshNormalMaterial({
        normalMap: source.normalMap, normalScale: source.normalScale, side: source.side,
      }),
      wireframe: new T.MeshStandardMaterial({
        color: 0x9aa3ad, roughness: 0.9, metalness: 0, side: source.side,
        polygonOffset: true, polygonOffsetFactor: 1, polygonOffsetUnits: 1,
      }),
    };
  }

  // About the middle of the box, as narrow as the vertices allow.
  function boundingSphere(scene, meshes) {
    const sphere = new T.Sphere();
    new T.Box3().setFromObject(scene).getCenter(sphere.center);
    const point = new T.Vector3();
    sphere.radius = 0;
    for (const mesh of meshes) {
      const positions = mesh.geometry.attributes.position;
      for (let k = 0; k < positions.count; k++) {
        point.fromBufferAttribute(positions, k).applyMatrix4(mesh.matrixWorld);
        sphere.radius = Math.max(sphere.radius, point.distanceTo(sphere.center));
      }
    }
    return sphere;
  }

  class View {
    constructor(group, figure) {
      this.group = group;
      this.figure = figure;
      this.canvas = figure.querySelector("canvas");
      this.ink = this.canvas.getContext("2d");
      this.scene = new T.Scene();
      this.camera = new T.PerspectiveCamera(FIELD_OF_VIEW, 1, 0.01, 100);
      this.parts = [];
      this.ready = false;
    }

    async load() {
      const { glb, light } = this.figure.dataset;
      const model = await new T.GLTFLoader().parseAsync(embeddedBytes(glb), "");
      const meshes = [];
      model.scene.traverse((node) => node.isMesh && meshes.push(node));
      for (const mesh of meshes) {
        const lines = new T.Mesh(
          mesh.geometry, new T.MeshBasicMaterial({
            color: 0x10151b, wireframe: true, toneMapped: false, transparent: true, opacity: 0.3,
          }));
        lines.visible = false;
        mesh.add(lines);
        this.parts.push({ mesh, lines, materials: materialsOf(mesh.material) });
      }
      this.scene.add(model.scene);
      this.sphere = boundingSphere(model.scene, meshes);
      if (!(this.sphere.radius > 0)) throw new Error("the model has no extent");
      if (light) this.light = readLight(light);
      this.controls = new T.OrbitControls(this.camera, this.canvas);
      this.controls.enableZoom = false; // the wheel scrolls the page until the view is clicked
      this.canvas.addEventListener("pointerdown", () => { this.controls.enableZoom = true; }, { capture: true });
      this.canvas.addEventListener("pointerleave", () => { this.controls.enableZoom = false; });
      this.controls.addEventListener("change", () => this.group.moved(this));
      this.ready = true;
      this.place(this.group.pose);
    }

    // A pose is in units of the model's bounding sphere, so that models of any size can share it.
    pose() {
      const { center, radius } = this.sphere;
      const relative = (point) => point.clone().sub(center).divideScalar(radius).toArray();
      return { position: relative(this.camera.position), target: relative(this.controls.target) };
    }

    place({ position, target }) {
      const { center, radius } = this.sphere;
      const absolute = (numbers) => new T.Vector3(...numbers).multiplyScalar(radius).add(center);
      this.camera.near = radius / 50;
      this.camera.far = radius * 200;
      this.camera.position.copy(absolute(position));
      this.controls.target.copy(absolute(target));
      this.controls.update();
    }

    draw() {
      const { mode, exposure, rotation, background } = this.group.state;
      const scale = Math.min(window.devicePixelRatio || 1, 2);
      const width = Math.round(this.canvas.clientWidth * scale);
      const height = Math.round(this.canvas.clientHeight * scale);
      if (!this.ready || width === 0 || height === 0) return;
      if (this.canvas.width !== width || this.canvas.height !== height) {
        this.canvas.width = width;
        this.canvas.height = height;
      }
      for (const { mesh, lines, materials } of this.parts) {
        mesh.material = materials[mode];
        lines.visible = mode === "wireframe";
      }
      this.scene.environment = this.light || null;
      this.scene.background = background && this.light ? this.light : null;
      const turn = LIGHT_TURN + (rotation * Math.PI) / 180;
      this.scene.environmentRotation.set(0, turn, 0);
      this.scene.backgroundRotation.set(0, turn, 0);
      this.camera.aspect = width / height;
      // On a narrow canvas the field of view is that of the width: the model stays whole.
      const half = Math.tan((FIELD_OF_VIEW * Math.PI) / 360) / Math.min(1, this.camera.aspect);
      this.camera.fov = (360 / Math.PI) * Math.atan(half);
      this.camera.updateProjectionMatrix();
      const gl = renderer();
      const size = gl.domElement;
      if (size.width !== width || size.height !== height) gl.setSize(width, height, false);
      gl.toneMappingExposure = 2 ** exposure;
      gl.render(this.scene, this.camera);
      this.ink.clearRect(0, 0, width, height);
      this.ink.drawImage(gl.domElement, 0, 0);
    }
  }

  class Group {
    constructor(element) {
      this.element = element;
      this.state = { mode: "shading", exposure: 0, rotation: 0, background: false };
      this.pose = Group.start();
      this.views = [...element.querySelectorAll("figure[data-glb]")].map((figure) => new View(this, figure));
      this.waiting = false;
      this.connect();
      new ResizeObserver(() => this.refresh()).observe(element);
    }

    static start() {
      const [azimuth, elevation, distance] = [0.55, 0.3, 4.1];
      const flat = Math.cos(elevation) * distance;
      return {
        position: [Math.sin(azimuth) * flat, Math.sin(elevation) * distance, Math.cos(azimuth) * flat],
        target: [0, 0, 0],
      };
    }

    connect() {
      const control = (name) => this.element.querySelector(`[data-control="${name}"]`);
      for (const button of this.element.querySelectorAll("[data-mode]")) {
        button.addEventListener("click", () => this.set({ mode: button.dataset.mode }));
      }
      control("background").addEventListener("change", (event) => this.set({ background: event.target.checked }));
      for (const name of ["exposure", "rotation"]) {
        control(name).addEventListener("input", (event) => this.set({ [name]: Number(event.target.value) }));
      }
      control("reset").addEventListener("click", () => {
        this.look(Group.start());
        this.set({ exposure: 0, rotation: 0 });
      });
    }

    set(changes) {
      Object.assign(this.state, changes);
      for (const button of this.element.querySelectorAll("[data-mode]")) {
        button.setAttribute("aria-pressed", String(button.dataset.mode === this.state.mode));
      }
      for (const name of ["exposure", "rotation"]) {
        this.element.querySelector(`[data-control="${name}"]`).value = this.state[name];
      }
      const { exposure, rotation } = this.state;
      this.element.querySelector('[data-shows="exposure"]').textContent = `${exposure > 0 ? "+" : ""}${exposure} EV`;
      this.element.querySelector('[data-shows="rotation"]').textContent = `${rotation}°`;
      this.refresh();
    }

    look(pose) {
      this.pose = pose;
      for (const view of this.views) if (view.ready) view.place(pose);
      this.refresh();
    }

    moved(view) {
      if (this.moving) return;
      this.moving = true;
      this.pose = view.pose();
      for (const other of this.views) if (other !== view && other.ready) other.place(this.pose);
      this.moving = false;
      this.refresh();
    }

    refresh() {
      if (this.waiting) return;
      this.waiting = true;
      requestAnimationFrame(() => {
        this.waiting = false;
        for (const view of this.views) view.draw();
      });
    }

    async load() {
      for (const view of this.views) {
        try {
          await view.load();
          view.draw();
          view.figure.dataset.state = "ready";
        } catch (error) {
          fail(view.figure, `The model could not be shown: ${error.message}`);
        }
      }
      this.set({});
    }
  }

  function fail(figure, text) {
    figure.dataset.state = "failed";
    const note = document.createElement("p");
    note.className = "absent";
    note.textContent = text;
    figure.querySelector("canvas").replaceWith(note);
  }

  function start(element) {
    if (!document.createElement("canvas").getContext("webgl2")) {
      for (const figure of element.querySelectorAll("figure[data-glb]")) {
        fail(figure, "This browser has no WebGL 2, which the 3D view needs.");
      }
      return;
    }
    const group = new Group(element);
    element.stspbr = group; // for scripts: look({position, target}), set({mode, …})
    // Reading the models takes a moment: wait until they are scrolled near.
    const near = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      near.disconnect();
      group.load();
    }, { rootMargin: "400px" });
    near.observe(element);
  }

  document.querySelectorAll(".viewers").forEach(start);
})();
