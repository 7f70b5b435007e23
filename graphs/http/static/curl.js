// The request that draws the same image from a terminal, as a command for a POSIX shell.

/** Quotes any text as one word of the shell. */
export function shellQuote(text) {
  return /^[\w./:=@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** The value of curl's -F for a file: quotes protect ; and , in its name, a backslash protects quotes and backslashes. */
function fileField(name) {
  return `file=@"${name.replace(/["\\]/g, "\\$&")}"`;
}

/** The command for POST /graph. With a `key` it names a variable of the shell, never the key itself. */
export function graphCommand(url, fileName, parameters, key) {
  const fields = Object.entries(parameters).map(([name, value]) => `--form-string ${shellQuote(`${name}=${value}`)}`);
  return [`curl -f ${shellQuote(url)}`, ...authorization(key), `-F ${shellQuote(fileField(fileName))}`, ...fields, "-o picture.png"].join(" \\\n  ");
}

/** The command for POST /v1/images/generations. */
export function generationCommand(url, body, key) {
  const json = ["-H 'Content-Type: application/json'", `--data-raw ${shellQuote(JSON.stringify(body))}`];
  return [`curl -f ${shellQuote(url)}`, ...authorization(key), ...json].join(" \\\n  ") + " \\\n  | jq -r '.data[0].b64_json' | base64 -d > picture.png";
}

function authorization(key) {
  return key ? ['-H "Authorization: Bearer $SONOGRAPH_KEY"'] : [];
}
