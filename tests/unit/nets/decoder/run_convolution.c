/* Runs the functions of convolution.c on numbers that are the same everywhere, and writes what they give as floats. */
#include "convolution.c"

#include "numbers.h"

enum { N = 3, H = 9, W = 14, A = 22, B = 28 };

static void run(int n, int h, int w, int step, int border) {
    const int tall = step * (h - 1) + SIDE - 2 * border, wide = step * (w - 1) + SIDE - 2 * border;
    const float *a = numbers((long)n * h * w * A), *b = numbers((long)n * tall * wide * B);
    float *out = zeros((long)A * B * TAPS), *scratch = zeros(convolution_weights_scratch(n, h, w, A, B, step));
    convolution_weights(a, b, out, scratch, n, h, w, A, tall, wide, B, step, border, TAPS * B, 1, B);
    write_floats(out, (long)A * B * TAPS);
}

int main(void) {
    run(N, H, W, 1, 1);
    run(N, H, W, 2, 0);
    run(1, 5 * H, 5 * W, 1, 1);
    return 0;
}
