/* A 3x3 convolution of stride 1 by Winograd's F(4x4, 3x3), on a CPU: its result, and, with the weight's taps mirrored and
 * its inputs and outputs exchanged, the gradient for what it convolved.
 *
 * Feature maps are float [N][H][W][C], without a border, of any height and width.
 */
#include "winograd.h"


/* Eight numbers at so many floats from each other. */
static inline v8 gathered(const float *w, long step) {
    return (v8){w[0], w[step], w[2 * step], w[3 * step], w[4 * step], w[5 * step], w[6 * step], w[7 * step]};
}

/* Three taps of a line to six numbers. */
static inline void weight_line(const v8 *w, long step, v8 *t, long out) {
    v8 even = (w[0] + w[2 * step]) * (1.0f / 6), middle = w[step] * (1.0f / 6);
    v8 far = w[0] * (1.0f / 24) + w[2 * step] * (1.0f / 6), between = w[step] * (1.0f / 12);
    t[0] = 0.25f * w[0];
    t[out] = -even - middle;
    t[2 * out] = middle - even;
    t[3 * out] = far + between;
    t[4 * out] = far - between;
    t[5 * out] = w[2 * step];
}

/* to [36][N / 16][C][16], N = O or the next multiple of 16, from the weight of output o, input c and tap (y, x) at
 * w[o * to_o + c * to_c + y * to_y + x * to_x]. O and C are multiples of 8; outputs that are missing to N are 0.
 *
 * Eight inputs at a time: each of the 36 matrices is written in stretches of 512 bytes. */
void transform_weight(const float *w, float *to, int O, int C, long to_o, long to_c, long to_y, long to_x) {
    const int padded = (O + COLUMNS - 1) / COLUMNS * COLUMNS;
    float block[36][8 * COLUMNS];
    for (int o = 0; o < padded; o += COLUMNS)
        for (int c = 0; c < C; c += 8) {
            if (o + 8 == O) memset(block, 0, sizeof block);
            for (int i = 0; i < 8; i++)
                for (int half = 0; half < COLUMNS && o + half < O; half += 8) {
                    v8 d[9], t[18], m[36];
                    const float *from = w + (o + half) * to_o + (c + i) * to_c;
                    for (int k = 0; k < 9; k++) d[k] = gathered(from + k / 3 * to_y + k % 3 * to_x, to_o);
                    for (int j = 0; j < 3; j++) weight_line(d + j, 3, t + j, 3);
                    for (int j = 0; j < 6; j++) weight_line(t + 3 * j, 1, m + 6 * j, 1);
                    for (int k = 0; k < 36; k++) store(block[k] + i * COLUMNS + half, m[k]);
                }
            float *place = to + ((long)o / COLUMNS * C + c) * COLUMNS;
            for (int k = 0; k < 36; k++, place += (long)padded * C) memcpy(place, block[k], sizeof block[k]);
        }
}

/* Floats of `scratch` that `convolution` needs. */
long convolution_scratch(int C, int O) {
    return 36 * (plane(TILES, C) + plane(TILES, O < CHUNK ? O + 8 : CHUNK)) + C + 16;
}

/* Where the `side` by `side` pixels from row `top` and column `left` on are in a map [H][W][C], or `zero` outside of it. */
static inline void pixels_of(const float **pixels, const float *map, const float *zero, int side, int top, int left, int H,
                             int W, int C) {
    for (int k = 0; k < side * side; k++) {
        const int h = top + k / side, w = left + k % side;
        pixels[k] = h < 0 || w < 0 || h >= H || w >= W ? zero : map + ((long)h * W + w) * C;
    }
}

/* v [36][.][C] from 36 pixels with C channels each. */
static void pixels_in(const float *const *x, int C, float *v, long step) {
    for (int c = 0; c < C; c += 8) {
        v8 d[36], t[36];
        for (int k = 0; k < 36; k++) d[k] = load(x[k] + c);
        for (int j = 0; j < 6; j++) in_line(d + j, 6, t + j, 6);
        for (int i = 0; i < 6; i++) in_line(t + 6 * i, 1, d + 6 * i, 1);
        for (int k = 0; k < 36; k++) store(v + k * step + c, d[k]);
    }
}

/* y [N][H][W][O] from x [N][H][W][C], with a border of one zero, by a transformed weight, plus `bias` [O] or null. C and O
 * are multiples of 8. */
void convolution(const float *x, const float *weight, const float *bias, float *y, float *scratch, int N, int H, int W,
                 int C, int O) {
    int across = (W + 3) / 4, down = (H + 3) / 4, batch = batch_of(C), padded = (O + COLUMNS - 1) / COLUMNS * COLUMNS;
    int chunk = padded < CHUNK ? padded : CHUNK;
    long end = (long)N * down * across, in = plane(batch, C), out = plane(batch, chunk);
    float *v = aligned(scratch), *m = v + 36 * in, *zero = m + 36 * out;
    memset(zero, 0, C * sizeof(float));
    for (long from = 0; from < end; from += batch) {
        int tiles = end - from < batch ? (int)(end - from) : batch;
        for (int t = 0; t < tiles; t++) {
            long tile = from + t, n = tile / (down * across);
            int top = (int)(tile / across % down) * 4, left = (int)(tile % across) * 4;
            const float *pixels[36];
            pixels_of(pixels, x + n * H * W * C, zero, 6, top - 1, left - 1, H, W, C);
            pixels_in(pixels, C, v + (long)t * C, in);
        }
        for (int n = 0; n < padded; n += chunk) {
            int columns = padded - n < chunk ? padded - n : chunk;
            for (int k = 0; k < 36; k++)
                for (int j = 0; j < columns; j += COLUMNS)
                    products(v + k * in, C, weight + ((long)k * padded + n + j) * C, m + k * out + j, chunk, tiles);
            for (int t = 0; t < tiles; t++) {
                long tile = from + t;
                int top = (int)(tile / across % down) * 4, left = (int)(tile % across) * 4;
                float *pixels = y + ((tile / (down * across) * H + top) * W + left) * O + n;
                for (int c = 0; c < columns && n + c < O; c += 8) {
                    v8 a[36], b[24], of[4], more = bias ? load(bias + n + c) : all(0);
                    for (int k = 0; k < 36; k++) a[k] = load(m + k * out + (long)t * chunk + c);
                    for (int j = 0; j < 6; j++) out_line(a + j, 6, b + j, 6);
                    for (int i = 0; i < 4 && top + i < H; i++) {
                        out_line(b + 6 * i, 1, of, 1);
                        for (int j = 0; j < 4 && left + j < W; j++) store(pixels + ((long)i * W + j) * O + c, of[j] + more);
                    }
                }
            }
        }
    }
}

/* The transposes of `out_line` and of `weight_line`. */
static inline void gradient_line(const v8 *g, long step, v8 *t, long out) {
    v8 even = g[0] + g[2 * step], odd = g[step] + g[3 * step];
    v8 far = g[0] + 4.0f * g[2 * step], between = 2.0f * g[step] + 8.0f * g[3 * step];
    t[0] = g[0];
    t[out] = even + odd;
    t[2 * out] = even - odd;
    t[3 * out] = far + between;
    t[4 * out] = far - between;
    t[5 * out] = g[3 * step];
}

static inline void taps_line(const v8 *u, long step, v8 *w, long out) {
    v8 near = (u[step] + u[2 * step]) * (1.0f / 6), far = u[3 * step] + u[4 * step];
    w[0] = 0.25f * u[0] - near + far * (1.0f / 24);
    w[out] = (u[2 * step] - u[step]) * (1.0f / 6) + (u[3 * step] - u[4 * step]) * (1.0f / 12);
    w[2 * out] = far * (1.0f / 6) - near + u[5 * step];
}

/* m [36][.][O] from the 16 pixels of a gradient with O channels each. */
static void gradients_in(const float *const *g, int O, float *m, long step) {
    for (int o = 0; o < O; o += 8) {
        v8 d[16], t[24], u[36];
        for (int k = 0; k < 16; k++) d[k] = load(g[k] + o);
        for (int j = 0; j < 4; j++) gradient_line(d + j, 4, t + j, 4);
        for (int i = 0; i < 6; i++) gradient_line(t + 4 * i, 1, u + 6 * i, 1);
        for (int k = 0; k < 36; k++) store(m + k * step + o, u[k]);
    }
}

/* sums [rows][16 of `O`] = the transpose of v [tiles][rows of `C`] times m [tiles][16 of `O`], added to what is there if there
 * is `more`. `rows` is a constant where this is used. */
static inline __attribute__((always_inline)) void outer(
    const int rows, int more, const float *restrict v, int C, const float *restrict m, float *restrict sums, int O,
    int tiles) {
    wide sum[ROWS][PARTS];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < PARTS; p++) {
            sum[r][p] = (wide){0};
            if (more) sum[r][p] = *(const wide_anywhere *)(sums + (long)r * O + p * COLUMNS / PARTS);
        }
    for (int t = 0; t < tiles; t++, v += C, m += O) {
        wide g[PARTS];
        for (int p = 0; p < PARTS; p++) g[p] = *(const wide_anywhere *)(m + p * COLUMNS / PARTS);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++)
            for (int p = 0; p < PARTS; p++) sum[r][p] += v[r] * g[p];
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < PARTS; p++) *(wide_anywhere *)(sums + (long)r * O + p * COLUMNS / PARTS) = sum[r][p];
}

/* All rows of one of the 36 products. */
static void outers(int more, const float *v, int C, const float *m, float *sums, int O, int tiles) {
    for (int o = 0; o < O; o += COLUMNS) {
        int c = 0;
        for (; c + ROWS <= C; c += ROWS) outer(ROWS, more, v + c, C, m + o, sums + (long)c * O + o, O, tiles);
        for (; c < C; c += FEW) outer(FEW, more, v + c, C, m + o, sums + (long)c * O + o, O, tiles);
    }
}

/* Floats of `scratch` that `winograd_weights` needs. */
long winograd_weights_scratch(int C, int O) {
    const int padded = (O + COLUMNS - 1) / COLUMNS * COLUMNS;
    return 36 * (plane(TILES, C) + plane(TILES, padded) + (long)C * padded) + C + O + 16;
}

/* The gradient for a weight that convolved x [N][H][W][C], from that of the result, g [N][H][W][O]: of output o, input c and
 * tap (y, x) to out[o * to_o + c * to_c + y * to_y + x * to_x]. C and O are multiples of 8. */
void winograd_weights(const float *x, const float *g, float *out, float *scratch, int N, int H, int W, int C, int O,
                      long to_o, long to_c, long to_y, long to_x) {
    const int across = (W + 3) / 4, down = (H + 3) / 4, padded = (O + COLUMNS - 1) / COLUMNS * COLUMNS;
    const long end = (long)N * down * across, in = plane(TILES, C), of_g = plane(TILES, padded), of_sum = (long)C * padded;
    float *v = aligned(scratch), *m = v + 36 * in, *sums = m + 36 * of_g, *zero = sums + 36 * of_sum;
    memset(m, 0, 36 * of_g * sizeof(float));
    memset(zero, 0, (C > O ? C : O) * sizeof(float));
    for (long from = 0; from < end; from += TILES) {
        const int tiles = end - from < TILES ? (int)(end - from) : TILES;
        for (int t = 0; t < tiles; t++) {
            const long tile = from + t, n = tile / (down * across);
            const int top = (int)(tile / across % down) * 4, left = (int)(tile % across) * 4;
            const float *pixels[36], *gradients[16];
            pixels_of(pixels, x + n * H * W * C, zero, 6, top - 1, left - 1, H, W, C);
            pixels_of(gradients, g + n * H * W * O, zero, 4, top, left, H, W, O);
            pixels_in(pixels, C, v + (long)t * C, in);
            gradients_in(gradients, O, m + (long)t * padded, of_g);
        }
        for (int k = 0; k < 36; k++) outers(from > 0, v + k * in, C, m + k * of_g, sums + k * of_sum, padded, tiles);
    }
    for (int c = 0; c < C; c++)
        for (int o = 0; o < O; o += 8) {
            v8 u[36], t[18], w[9];
            for (int k = 0; k < 36; k++) u[k] = load(sums + k * of_sum + (long)c * padded + o);
            for (int j = 0; j < 6; j++) taps_line(u + j, 6, t + j, 6);
            for (int i = 0; i < 3; i++) taps_line(t + 6 * i, 1, w + 3 * i, 1);
            float *to = out + o * to_o + c * to_c;
            for (int k = 0; k < 9; k++)
                for (int i = 0; i < 8; i++) to[i * to_o + k / 3 * to_y + k % 3 * to_x] = w[k][i];
        }
}
