// The same picture from a terminal, as a command for a POSIX shell.

/** One word for the shell, whatever is in it. */
export function quoted(text) {
  return /^[\w./:=@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** What curl's -F takes as a file's name: its quotes keep ; and , in it, its backslash those two. */
export function attached(name) {
  return `file=@"${name.replace(/["\\]/g, "\\$&")}"`;
}

/** `key`: whether one is needed; the command names a variable of the shell, not the key. */
export function drawing(url, fileName, parameters, key) {
  const fields = Object.entries(parameters).map(([name, value]) => `--form-string ${quoted(`${name}=${value}`)}`);
  return [`curl -f ${quoted(url)}`, ...bearer(key), `-F ${quoted(attached(fileName))}`, ...fields, "-o picture.png"].join(" \\\n  ");
}

export function redrawing(url, body, key) {
  const json = ["-H 'Content-Type: application/json'", `--data-raw ${quoted(JSON.stringify(body))}`];
  return [`curl -f ${quoted(url)}`, ...bearer(key), ...json].join(" \\\n  ") + " \\\n  | jq -r '.data[0].b64_json' | base64 -d > picture.png";
}

function bearer(key) {
  return key ? ['-H "Authorization: Bearer $SONOGRAPH_KEY"'] : [];
}
