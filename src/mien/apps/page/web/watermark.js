// The invisible mark of a stream, as `mien page` writes it: one period of the field of media/watermark.py, as halves.

import { check } from "./errors.js";
import { halves } from "./half.js";

/** {field, flat, slope, most}: `bytes` of the field, a square, and the page's numbers for the gain. */
export function readMark(bytes, { flat, slope, most }) {
  const field = halves(bytes);
  check(field.length > 0 && Number.isInteger(Math.sqrt(field.length)), "the stream's mark is damaged");
  return { field, flat, slope, most };
}
