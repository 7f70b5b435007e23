// Errors in words for a person: those of the service, of the network and of the browser.

/** Why there is no picture, and a remedy. `code`: the service's code of the problem, where it sent one. */
export class UserFacingError extends Error {
  constructor(title, detail, code = "") {
    super(detail);
    this.title = title;
    this.detail = detail;
    this.code = code;
  }
}

/** From RFC 9457 problem details, or from the error object of an OpenAI route. */
export function problemError(problem, status = 0, retryAfterS = null) {
  const { title, detail, code } = problem.error ? { detail: problem.error.message, code: problem.error.code } : problem;
  const retry = retryAfterS && !/try again/i.test(detail) ? ` Try again in ${retryAfterS} s.` : "";
  return new UserFacingError(
    title || "There is no picture",
    detail ? sentence(detail) + retry : `The service answered with status ${status} and no reason.${retry || " Try again."}`,
    code,
  );
}

export function connectionLost() {
  return new UserFacingError(
    "The connection was cut",
    "The service stopped in the middle of the picture, or the network did. Try again.",
    "cut",
  );
}

export function networkError() {
  return new UserFacingError(
    navigator.onLine ? "The service does not answer" : "No network",
    navigator.onLine
      ? "Nothing came back from this page’s service: it may be down, or the network is cut. Try again in a moment."
      : "This device is not connected. Connect it, and try again.",
    "network",
  );
}

function sentence(text) {
  const trimmed = text.trim();
  return trimmed.charAt(0).toUpperCase() + trimmed.slice(1) + (/[.!?]$/.test(trimmed) ? "" : ".");
}
