// Reads N unindexed corners from stdin as float32: 3N positions, 3N normals, 2N texture coordinates.
// Writes 4N float32: MikkTSpace's tangents and signs, one a corner, as the package gives them.
const fs = require("fs");
const { generateTangents } = require("mikktspace");

const bytes = fs.readFileSync(0);
const all = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
const count = all.length / 8;
const tangents = generateTangents(
  all.slice(0, 3 * count), all.slice(3 * count, 6 * count), all.slice(6 * count));
process.stdout.write(Buffer.from(tangents.buffer, tangents.byteOffset, tangents.byteLength));
