/* Runs the functions of residual.c on numbers that are the same everywhere, and writes what they give as floats. */
#include "residual.c"

#include "numbers.h"

static void run(int h, int w, int c, int e, int o, int kernel, int stride) {
    const Block b = {
        .expand = c == e ? 0 : numbers((long)padded(e) * c), .expand_bias = numbers(e),
        .taps = numbers((long)kernel * kernel * e), .taps_bias = numbers(e),
        .project = numbers((long)padded(o) * e), .project_bias = numbers(o),
        .project_back = numbers((long)padded(e) * o), .expand_back = numbers((long)padded(c) * e),
        .channels = c, .inner = e, .outputs = o, .kernel = kernel, .stride = stride, .shortcut = stride == 1 && c == o,
    };
    const long out = (long)((h + stride - 1) / stride) * ((w + stride - 1) / stride);
    float *y = zeros(out * o), *of_x = zeros((long)h * w * c), *scratch = zeros(residual_scratch(&b, w));
    signed char *expanded = malloc((size_t)h * w * e), *filtered = malloc((size_t)out * e);
    residual(&b, numbers((long)h * w * c), y, expanded, filtered, scratch, h, w);
    write_floats(y, out * o);
    residual_back(&b, y, expanded, filtered, of_x, scratch, h, w);
    write_floats(of_x, (long)h * w * c);
}

int main(void) {
    run(9, 16, 32, 32, 16, 3, 1);
    run(10, 24, 16, 96, 24, 3, 2);
    run(7, 8, 24, 144, 24, 5, 1);
    run(9, 16, 24, 144, 40, 5, 2);
    return 0;
}
