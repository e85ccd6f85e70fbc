/* Runs the functions of synthesis.c on numbers that are the same everywhere, and writes what they give as floats. */
#include "synthesis.c"

#include "numbers.h"

enum { SIDE = 16, IN = 16, OUT = 24, PADDED = 32 };

static float *map(int side, int channels) { /* with a border of zeros */
    float *x = zeros((long)(side + 2) * (side + 2) * channels);
    for (int h = 1; h <= side; h++)
        for (int i = channels; i < (side + 1) * channels; i++) x[(long)h * (side + 2) * channels + i] = number();
    return x;
}

static Layer layer(int side, int inputs, int outputs, int out_side) {
    return (Layer){
        .x = map(side, inputs), .weight = numbers(36L * PADDED * inputs), .style = numbers(inputs),
        .scale = numbers(outputs), .bias = numbers(outputs), .noise = numbers((long)out_side * out_side),
        .border = numbers(6L * PADDED * inputs), .y = zeros((long)(out_side + 2) * (out_side + 2) * outputs),
        .spread = zeros((long)(out_side + 2) * (out_side + 1) * outputs), .scratch = zeros(scratch_size(inputs)),
        .clamp = 40.0f, .H = side, .W = side, .C = inputs, .O = outputs, .first = 0, .last = side / 4,
        .x_lines = side + 2, .y_lines = out_side + 2, .spread_lines = out_side + 2};
}

int main(void) {
    Layer plain = layer(SIDE, IN, OUT, SIDE);
    plain.rgb_weight = numbers(3 * OUT), plain.rgb = numbers(3L * SIDE * SIDE);
    convolution_layer(&plain);
    write_floats(plain.y, (long)(SIDE + 2) * (SIDE + 2) * OUT);
    write_floats(plain.rgb, 3L * SIDE * SIDE);

    Layer up = layer(SIDE, IN, OUT, 2 * SIDE);
    spreading_layer(&up);
    filtering_layer(&up);
    write_floats(up.y, (2L * SIDE + 2) * (2 * SIDE + 2) * OUT);

    Layer next = layer(2 * SIDE, OUT, IN, 2 * SIDE);
    next.rgb_weight = numbers(3 * IN), next.rgb = numbers(12L * SIDE * SIDE);
    up.y = next.x = 0;
    block(&up, &next, zeros(block_size(2 * SIDE, OUT)));
    write_floats(next.y, (2L * SIDE + 2) * (2 * SIDE + 2) * IN);

    float *rgb = zeros(12L * SIDE * SIDE);
    upsample_rgb(plain.rgb, numbers(3), rgb, SIDE, SIDE, 0, SIDE);
    write_floats(rgb, 12L * SIDE * SIDE);

    enum { COUNT = 1000 };
    uint8_t bytes[COUNT];
    float shades[COUNT];
    for (int i = 0; i < COUNT; i++) shades[i] = 1.2f * number();
    to_bytes(shades, bytes, COUNT);
    for (int i = 0; i < COUNT; i++) shades[i] = bytes[i];
    write_floats(shades, COUNT);
    return 0;
}
