/* Runs the functions of mobile.c on numbers that are the same everywhere, and writes what they give as floats. */
#include "mobile.c"

#include <stdio.h>
#include <stdlib.h>

enum { SIDE = 16, IN = 8, MIDDLE = 32, OUT = 16 };

static float number(void) { /* in [-1, 1), of 24 bits */
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

static float *space_of(long count) { return calloc((size_t)count, sizeof(float)); }

static float *numbers(long count) {
    float *x = space_of(count);
    for (long i = 0; i < count; i++) x[i] = number();
    return x;
}

static void write_floats(const float *x, long count) { fwrite(x, sizeof(float), (size_t)count, stdout); }

static Layer layer(int inputs, int outputs, float slope) {
    return (Layer){.taps = numbers(9L * inputs), .weight = numbers((long)outputs * inputs), .bias = numbers(outputs),
                   .noise = numbers(SIDE * SIDE), .slope = slope, .C = inputs, .O = outputs};
}

static void run(const Block *b) {
    int64_t share = SIDE; /* all rows, for one thread */
    block(b, &share, 1, 0, space_of(block_size(b)));
}

int main(void) {
    Block b = {.x = numbers(4L * IN * SIDE * SIDE / 4), .up = numbers(4 * IN), .first = layer(IN, MIDDLE, 0.2f),
               .second = layer(MIDDLE, OUT, 0.2f), .y = space_of((long)OUT * SIDE * SIDE), .H = SIDE, .W = SIDE};
    run(&b);
    write_floats(b.y, (long)OUT * SIDE * SIDE);

    Block whole = {.x = b.y, .first = layer(OUT, MIDDLE, 0.2f), .second = layer(MIDDLE, OUT, 0.2f),
                   .image = layer(OUT, COLUMNS, 1.0f), .picture = space_of(12L * SIDE * SIDE), .H = SIDE, .W = SIDE};
    whole.image.taps = whole.image.noise = 0;
    run(&whole);
    write_floats(whole.picture, 12L * SIDE * SIDE);

    enum { COUNT = 12 * SIDE * SIDE };
    uint8_t bytes[COUNT];
    float shades[COUNT];
    for (int i = 0; i < COUNT; i++) shades[i] = 1.2f * number();
    to_bytes(shades, bytes, COUNT);
    for (int i = 0; i < COUNT; i++) shades[i] = bytes[i];
    write_floats(shades, COUNT);

    Layer dense = layer(MIDDLE, OUT, 0.2f);
    float *y = space_of((long)OUT * SIDE * SIDE);
    int32_t next = 0;
    panels_of(&dense, numbers((long)MIDDLE * SIDE * SIDE), MIDDLE, SIDE * SIDE, y, &next);
    write_floats(y, (long)OUT * SIDE * SIDE);
    return 0;
}
