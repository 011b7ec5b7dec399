// What static/viewer.js uses of three.js; everything else is left out of three.min.js.
export {
  Box3,
  Color,
  DataTexture,
  EquirectangularReflectionMapping,
  LinearFilter,
  LinearToneMapping,
  Mesh,
  MeshBasicMaterial,
  MeshNormalMaterial,
  MeshStandardMaterial,
  PerspectiveCamera,
  REVISION,
  Scene,
  ShaderMaterial,
  Sphere,
  Texture,
  Vector3,
  WebGLRenderer,
} from "three";
export { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
export { GLTFLoader } from "three/examples/jsm/loaders/GLTFLoader.js";
export { HDRLoader } from "three/examples/jsm/loaders/HDRLoader.js";
