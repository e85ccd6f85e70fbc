/* Runs the functions of separable.c on numbers that are the same everywhere, and writes what they give as floats. */
#include "separable.c"

#include "numbers.h"

enum { N = 2, H = 12, W = 18, C = 24, SIZE = N * H * W * C };

int main(void) {
    const float *x = numbers(SIZE), *g = numbers(SIZE), *taps = numbers(N * TAPS * C), *none = zeros(W * C);
    float *y = zeros(SIZE), *sums = zeros(N * TAPS * C), *of_bias = zeros(C), *of_noise = zeros(H * W);

    depthwise(x, taps, none, y, N, H, W, C);
    write_floats(y, SIZE);
    depthwise_taps(x, g, none, sums, N, H, W, C);
    write_floats(sums, N * TAPS * C);

    activate(y, numbers(C), numbers(H * W), 0.2f, N, H * W, C);
    write_floats(y, SIZE);
    float *before = zeros(SIZE);
    activate_backward(y, g, 0.2f, before, of_bias, of_noise, N, H * W, C);
    write_floats(before, SIZE);
    write_floats(of_bias, C);
    write_floats(of_noise, H * W);

    const float *bands = numbers(4L * SIZE), *scale = numbers(N * 4 * C);
    float *picture = zeros(4L * SIZE), *of_bands = zeros(4L * SIZE), *of_scale = zeros(N * 4 * C);
    inverse_haar(bands, scale, picture, N, H, W, C);
    write_floats(picture, 4L * SIZE);
    inverse_haar_backward(bands, scale, picture, of_bands, of_scale, N, H, W, C);
    write_floats(of_bands, 4L * SIZE);
    write_floats(of_scale, N * 4 * C);
    return 0;
}
