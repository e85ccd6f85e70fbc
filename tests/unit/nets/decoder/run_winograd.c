/* Runs the functions of winograd.c on numbers that are the same everywhere, and writes what they give as floats. */
#include "winograd.c"

#include "numbers.h"

enum { TAPS = 9 };

static void run(int n, int h, int w, int c, int o) {
    const int padded = (o + COLUMNS - 1) / COLUMNS * COLUMNS;
    const float *x = numbers((long)n * h * w * c), *weight = numbers((long)o * c * TAPS), *bias = numbers(o);
    float *transformed = zeros(36L * padded * c), *y = zeros((long)n * h * w * o);
    transform_weight(weight, transformed, o, c, (long)TAPS * c, 1, 3L * c, c);
    convolution(x, transformed, bias, y, zeros(convolution_scratch(c, o)), n, h, w, c, o);
    write_floats(y, (long)n * h * w * o);
    float *learned = zeros((long)o * c * TAPS);
    winograd_weights(x, y, learned, zeros(winograd_weights_scratch(c, o)), n, h, w, c, o, (long)TAPS * c, 1, 3L * c, c);
    write_floats(learned, (long)o * c * TAPS);
}

int main(void) {
    run(2, 9, 14, 24, 40);
    run(1, 32, 20, 136, 16);
    run(3, 4, 3, 8, 72);
    return 0;
}
