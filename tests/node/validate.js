// Usage: node validate.js FILE…
// Prints one JSON list: for each glTF file its issues as the Khronos validator reports them.
const fs = require("fs");
const path = require("path");
const validator = require("gltf-validator");

const NAMES = ["error", "warning", "info", "hint"];

async function issuesOf(file) {
  const report = await validator.validateBytes(new Uint8Array(fs.readFileSync(file)), {
    uri: path.basename(file),
    maxIssues: 0,
    externalResourceFunction: (uri) =>
      fs.promises.readFile(path.join(path.dirname(file), decodeURIComponent(uri))).then((data) => new Uint8Array(data)),
  });
  return report.issues.messages.map(({ severity, code, message, pointer }) => ({
    severity: NAMES[severity], code, message, pointer,
  }));
}

Promise.all(process.argv.slice(2).map(issuesOf)).then(
  (all) => process.stdout.write(JSON.stringify(all)),
  (error) => {
    process.stderr.write(`${error}\n`);
    process.exit(1);
  },
);
