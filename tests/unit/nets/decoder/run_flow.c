/* Runs the functions of flow.c on numbers that are the same everywhere, and writes what they give as floats. */
#include "flow.c"

#include "numbers.h"

enum { N = 6, D = 16, H = 48, STEPS = 40 };

int main(void) {
    const int width[] = {D, H, D}, times = 2 * STEPS + 1;
    Flow f = {.step = 0.4f / STEPS, .layers = 2, .steps = STEPS, .rows = N, .width = {D, H, D}};
    for (int l = 0; l < f.layers; l++) {
        const int count = width[l] * width[l + 1];
        float *weight = zeros(count), *transposed = zeros(count);
        const float *given = numbers(count);
        for (int o = 0; o < width[l + 1]; o++)
            for (int i = 0; i < width[l]; i++) {
                const float w = 0.2f * given[o * width[l] + i];
                weight[(o / COLUMNS * width[l] + i) * COLUMNS + o % COLUMNS] = w;
                transposed[(i / COLUMNS * width[l + 1] + o) * COLUMNS + i % COLUMNS] = w;
            }
        f.weight[l] = weight, f.transposed[l] = transposed, f.bias[l] = numbers(width[l + 1]);
        f.gate[l] = numbers((long)times * N * width[l + 1]), f.shift[l] = numbers((long)times * N * width[l + 1]);
        f.of_gate[l] = zeros((long)times * N * width[l + 1]), f.of_shift[l] = zeros((long)times * N * width[l + 1]);
    }
    float *x = zeros((N + 4) * D), *g = zeros((N + 4) * D), *saved = zeros(flow_saved(&f, 1)), *scratch = zeros(flow_scratch(&f));
    memcpy(x, numbers(N * D), N * D * sizeof(float));
    const float *given = numbers(N * D);
    for (int i = 0; i < N * D; i++) g[i] = 100 * given[i];
    flow_forward(&f, x, saved, scratch, 1);
    flow_backward(&f, g, saved, scratch);
    write_floats(x, N * D);
    write_floats(g, N * D);
    for (int l = 0; l < f.layers; l++) {
        write_floats(f.of_gate[l], (long)times * N * width[l + 1]);
        write_floats(f.of_shift[l], (long)times * N * width[l + 1]);
    }
    return 0;
}
