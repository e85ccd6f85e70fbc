/* What synthesis.c needs of the C library's <math.h>, as instructions of WebAssembly. */
#pragma once
#define INFINITY __builtin_inff()
static inline float rintf(float x) { return __builtin_rintf(x); }
