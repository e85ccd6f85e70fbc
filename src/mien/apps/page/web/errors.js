// What a damaged or foreign file says of itself.

export class StreamError extends Error {}

/** Throws the StreamError `sentence` unless `condition`. */
export function check(condition, sentence) {
  if (!condition) throw new StreamError(sentence);
}
