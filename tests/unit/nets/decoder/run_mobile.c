/* Runs the functions of mobile.c on numbers that are the same everywhere, and writes what they give as floats. */
#include "mobile.c"

#include "numbers.h"

enum { SIDE = 16, IN = 8, MIDDLE = 32, OUT = 16 };

static Layer layer(int inputs, int outputs, float slope) {
    return (Layer){.taps = numbers(9L * inputs), .weight = numbers((long)outputs * inputs), .bias = numbers(outputs),
                   .noise = numbers(SIDE * SIDE), .slope = slope, .C = inputs, .O = outputs};
}

static void run(const Block *b) {
    int64_t share = SIDE; /* all rows, for one thread */
    block(b, &share, 1, 0, zeros(block_size(b)));
}

int main(void) {
    Block b = {.x = numbers(4L * IN * SIDE * SIDE / 4), .up = numbers(4 * IN), .first = layer(IN, MIDDLE, 0.2f),
               .second = layer(MIDDLE, OUT, 0.2f), .y = zeros((long)OUT * SIDE * SIDE), .H = SIDE, .W = SIDE};
    run(&b);
    write_floats(b.y, (long)OUT * SIDE * SIDE);

    Block whole = {.x = b.y, .first = layer(OUT, MIDDLE, 0.2f), .second = layer(MIDDLE, OUT, 0.2f),
                   .image = layer(OUT, COLUMNS, 1.0f), .picture = zeros(12L * SIDE * SIDE), .H = SIDE, .W = SIDE};
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
    float *y = zeros((long)OUT * SIDE * SIDE);
    int32_t next = 0;
    panels_of(&dense, numbers((long)MIDDLE * SIDE * SIDE), MIDDLE, SIDE * SIDE, y, &next);
    write_floats(y, (long)OUT * SIDE * SIDE);
    return 0;
}
