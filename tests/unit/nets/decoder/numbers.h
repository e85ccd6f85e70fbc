/* Numbers that are the same everywhere, for programs that run the decoders' functions, and how they write floats. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static float number(void) { /* in [-1, 1), of 24 bits */
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

static float *zeros(long count) { return calloc((size_t)count, sizeof(float)); }

static float *numbers(long count) {
    float *x = zeros(count);
    for (long i = 0; i < count; i++) x[i] = number();
    return x;
}

static void write_floats(const float *x, long count) { fwrite(x, sizeof(float), (size_t)count, stdout); }
