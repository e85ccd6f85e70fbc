/* The passes over pixels of StyleGAN2's synthesis, for a CPU: a modulated 3x3 convolution as one function, from a
 * feature map to the next, with everything that goes with it done while the data are in cache.
 *
 * A convolution is Winograd's F(4x4, 3x3) (Lavin and Gray 2016): tiles of 6x6 inputs become 36 numbers, 36 matrix
 * products stand for the sums over channels, and their results become 4x4 outputs; 36 multiplications for 144. The
 * style multiplies a tile as it is loaded, and demodulation, gain, noise, bias, leaky ReLU and ToRGB act on a tile
 * before it is stored.
 *
 * Upsampling by two is a transposed convolution and the FIR filter. In each direction the former has two phases: even
 * outputs have two taps, for which F(4, 2) takes 5 multiplications for 8, odd ones have one tap. So 4x4 inputs become 8x8
 * outputs with 25 + 20 + 20 + 16 = 81 multiplications, where four phases of F(4x4, 3x3), filter included, take 144. The
 * filter is a pass of its own, which demodulation and all that follows ride on.
 *
 * Feature maps are float [H + 2][W + 2][C] with a border of zeros, or the few lines of one that are needed at a time. C and O are multiples of 8, H and W of 4.
 * Only GNU C's vectors are used, no instructions of one processor, but for products in 16 bits.
 */
#include <math.h>
#include <stdlib.h>

#include "int16.h"
#include "winograd.h"

/* Upsampling: planes of a tile; outputs at a time; columns of the filter's line. */
enum { UP_PLANES = 81, UP_CHUNK = 32, FILTERED = 4096 };

/* v, 36 planes of [C], `step` apart, from the tile at place `at` of six lines, its channels times the style. */
static void tile_in(const float *const *x, long at, int C, const float *style, float *v, long step) {
    for (int c = 0; c < C; c += 8) {
        v8 d[36], t[36], s = load(style + c);
        for (int i = 0; i < 6; i++)
            for (int j = 0; j < 6; j++) d[6 * i + j] = load(x[i] + at + (long)j * C + c) * s;
        for (int j = 0; j < 6; j++) in_line(d + j, 6, t + j, 6);
        for (int i = 0; i < 6; i++) in_line(t + 6 * i, 1, d + 6 * i, 1);
        for (int k = 0; k < 36; k++) store(v + k * step + c, d[k]);
    }
}

static inline float total(v8 v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }

typedef struct {
    const float *x;      /* feature map, [W + 2][C] a line */
    const float *weight; /* [36][N / 16][C][16], N = O or the next multiple of 16; what the 36 are: prepared.py */
    const int16_t *weight16; /* the same quantised, [36][N / 16][C / 2][16][2], or null; */
    const float *scale16; /* [36][N], what its numbers are to be multiplied by */
    const float *style;  /* [C] */
    const float *scale;  /* [O]: demodulation times gain */
    const float *bias;   /* [O], times gain */
    const float *noise;  /* [H'][W'] of the output, times strength and gain, or null */
    const float *rgb_weight; /* [3][O], or null: no ToRGB */
    const float *border; /* for upsampling: [6][N / 16][C][16], taps of the last row (3), and of the last column (3) */
    float *y;            /* feature map, [W' + 2][O] a line, or null: not needed */
    float *rgb;          /* [H'][W'][3], added to */
    float *spread;       /* for upsampling: the transposed convolution, [2 W + 1][O] a line */
    float *scratch;      /* scratch_size(C) floats */
    float clamp;         /* limit of what is stored, or infinity */
    int32_t H, W, C, O, first, last; /* rows of tiles `first` to `last` - 1 of the H / 4 */
    int32_t x_lines, y_lines, spread_lines; /* how many lines these have: a line h is in place (h + 1) % lines */
} Layer;

/* Lines that a block's own maps keep: at its end 13 are needed at a time. */
enum { RING = 14 };

long scratch_size(int C) { return UP_PLANES * (plane(TILES, C) + plane(TILES, UP_CHUNK)) + 16; }

/* Floats of scratch for `block`: W, O of what upsampling makes. */
long block_size(int W, int O) { return RING * (long)(2 * W + 3) * O + (long)(W + 2) * O + 16; }

static inline const float *x_line(const Layer *l, int h, const float *zero) {
    return h < 0 || h >= l->H ? zero : l->x + (long)((h + 1) % l->x_lines) * (l->W + 2) * l->C;
}

static inline float *y_line(const Layer *l, int h, int W) {
    return l->y + (long)((h + 1) % l->y_lines) * (W + 2) * l->O;
}

static inline float *spread_line(const Layer *l, int h) {
    return l->spread + (long)((h + 1) % l->spread_lines) * (2 * l->W + 1) * l->O;
}

/* What follows the convolution at one pixel, 8 channels. */
static inline v8 finish(const Layer *l, v8 z, v8 scale, v8 bias, const float *noise) {
    z = z * scale + bias;
    if (noise) z += all(*noise);
    z = larger(z, 0.2f * z);
    if (l->clamp < INFINITY) z = larger(smaller(z, all(l->clamp)), all(-l->clamp));
    return z;
}

/* Channels n to n + count of one tile: m [36][TILES][CHUNK] to pixels. */
static void tile_out(const Layer *l, int row, int column, const float *m, long step, int n, int count) {
    int W = l->W, O = l->O;
    float *lines[4] = {0};
    if (l->y)
        for (int i = 0; i < 4; i++) lines[i] = y_line(l, 4 * row + i, W) + (long)(4 * column + 1) * O;
    v8 red[16], green[16], blue[16];
    int with_rgb = l->rgb_weight != 0;
    if (with_rgb) memset(red, 0, sizeof red), memset(green, 0, sizeof green), memset(blue, 0, sizeof blue);
    for (int c = 0; c < count; c += 8) {
        int o = n + c;
        v8 a[36], b[24], y[16], scale = load(l->scale + o), bias = load(l->bias + o);
        for (int k = 0; k < 36; k++) a[k] = load(m + k * step + c);
        for (int j = 0; j < 6; j++) out_line(a + j, 6, b + j, 6);
        for (int i = 0; i < 4; i++) out_line(b + 6 * i, 1, y + 4 * i, 1);
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++) {
                int h = 4 * row + i, w = 4 * column + j;
                v8 z = finish(l, y[4 * i + j], scale, bias, l->noise ? l->noise + (long)h * W + w : 0);
                if (l->y) store(lines[i] + j * O + o, z);
                y[4 * i + j] = z;
            }
        if (with_rgb) {
            v8 r = load(l->rgb_weight + o), g = load(l->rgb_weight + O + o), u = load(l->rgb_weight + 2 * O + o);
            for (int k = 0; k < 16; k++) red[k] += y[k] * r, green[k] += y[k] * g, blue[k] += y[k] * u;
        }
    }
    if (with_rgb)
        for (int k = 0; k < 16; k++) {
            float *p = l->rgb + 3 * ((long)(4 * row + k / 4) * W + 4 * column + k % 4);
            p[0] += total(red[k]), p[1] += total(green[k]), p[2] += total(blue[k]);
        }
}

/* A batch of transformed tiles: `planes` of [batch][C], as floats; or in 16 bits, a row with a scale of its own, for which each
 * tile passes through `one`. All of it is in the memory of the floats. */
typedef struct {
    float *floats;      /* [planes][step] */
    int16_t *quantised; /* [planes][step] */
    float *one;         /* [planes][C + SHIFT] */
    float *scales;      /* [planes][batch] */
    int planes, batch, C;
    long step;
} Tiles;

static Tiles tiles_of(const Layer *l, int planes, int batch, float *memory) {
    long step = plane(batch, l->C);
    Tiles v = {.floats = memory, .planes = planes, .batch = batch, .C = l->C, .step = step};
    if (INT16 && l->weight16) {
        v.quantised = (int16_t *)memory;
        v.one = memory + (planes + 1) / 2 * step;
        v.scales = v.one + planes * (long)(l->C + SHIFT);
    }
    return v;
}

/* Where a tile is to be transformed to, its planes `between` floats from each other; */
static inline float *place_of_tile(const Tiles *v, int t, long *between) {
    *between = v->quantised ? v->C + SHIFT : v->step;
    return v->quantised ? v->one : v->floats + (long)t * v->C;
}

/* and what then remains to be done with it. */
static void keep_tile(const Tiles *v, int t) {
#if INT16
    if (v->quantised)
        for (int k = 0; k < v->planes; k++)
            v->scales[k * v->batch + t] =
                to_int16(v->one + k * (long)(v->C + SHIFT), v->C, v->quantised + k * v->step + (long)t * v->C);
#else
    (void)v, (void)t;
#endif
}

#if INT16
/* `rows` rows (a constant where this is used) of a product, with their scales: m [rows][16 of `step`]. */
static inline __attribute__((always_inline)) void product_int16_of(
    const int rows, const int16_t *a, int K, const int16_t *b, const float *scales, const float *scale,
    float *restrict m, long step) {
    wide_lanes sum[ROWS][PARTS];
    tile_int16(rows, a, K, K, b, sum);
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < PARTS; p++) {
            wide s = *(const wide_anywhere *)(scale + p * COLUMNS / PARTS) * scales[r];
            *(wide_anywhere *)(m + r * step + p * COLUMNS / PARTS) = __builtin_convertvector(sum[r][p], wide) * s;
        }
}

static void product_int16(
    const int16_t *a, int K, const int16_t *b, const float *scales, const float *scale, float *m, long step) {
    product_int16_of(ROWS, a, K, b, scales, scale, m, step);
}

static void product_int16_of_few(
    const int16_t *a, int K, const int16_t *b, const float *scales, const float *scale, float *m, long step) {
    product_int16_of(FEW, a, K, b, scales, scale, m, step);
}
#endif

/* 16 outputs from `o` on, of `padded`, of the first `count` tiles in plane k, by matrix `matrix`: m [count][16 of `step`]. */
static void product_of_plane(
    const Layer *l, const Tiles *v, int k, int matrix, int padded, int o, float *m, long step, int count) {
    long at = (long)matrix * padded + o;
#if INT16
    if (v->quantised) {
        const int16_t *a = v->quantised + k * v->step, *b = l->weight16 + at * v->C;
        const float *scales = v->scales + k * v->batch, *scale = l->scale16 + at;
        int r = 0;
        for (; r + ROWS <= count; r += ROWS)
            product_int16(a + (long)r * v->C, v->C, b, scales + r, scale, m + r * step, step);
        for (; r < count; r += FEW)
            product_int16_of_few(a + (long)r * v->C, v->C, b, scales + r, scale, m + r * step, step);
        return;
    }
#endif
    products(v->floats + k * v->step, v->C, l->weight + at * v->C, m, step, count);
}

static void convolve(const Layer *l, int first, int last, const float *zero) {
    int C = l->C, across = l->W / 4, O = l->O, batch = batch_of(C), padded = (O + COLUMNS - 1) / COLUMNS * COLUMNS;
    int chunk = padded < CHUNK ? padded : CHUNK;
    long end = (long)last * across, out = plane(batch, chunk), between;
    Tiles v = tiles_of(l, 36, batch, aligned(l->scratch));
    float *m = v.floats + 36 * v.step;
    for (long from = (long)first * across; from < end; from += batch) {
        int tiles = end - from < batch ? (int)(end - from) : batch;
        for (int t = 0; t < tiles; t++) {
            int row = (int)((from + t) / across), column = (int)((from + t) % across);
            const float *lines[6];
            for (int i = 0; i < 6; i++) lines[i] = x_line(l, 4 * row - 1 + i, zero);
            float *to = place_of_tile(&v, t, &between);
            tile_in(lines, 4L * column * C, C, l->style, to, between);
            keep_tile(&v, t);
        }
        for (int n = 0; n < padded; n += chunk) {
            int columns = padded - n < chunk ? padded - n : chunk;
            for (int k = 0; k < 36; k++)
                for (int j = 0; j < columns; j += COLUMNS)
                    product_of_plane(l, &v, k, k, padded, n + j, m + k * out + j, chunk, tiles);
            for (int t = 0; t < tiles; t++) {
                int row = (int)((from + t) / across), column = (int)((from + t) % across);
                tile_out(l, row, column, m + (long)t * chunk, out, n, O - n < chunk ? O - n : chunk);
            }
        }
    }
}

/* One modulated convolution with all that follows it, for the rows of tiles `first` to `last` - 1. */
void convolution_layer(const Layer *l) { convolve(l, l->first, l->last, l->x); }

/* F(4, 2): 5 inputs to 5 numbers, and their products with the weight's to 4 outputs (points 0, 1, -1, 2, infinity). */
static inline void up_in_line(const v8 *d, long step, v8 *t, long out) {
    v8 d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step];
    t[0] = 2.0f * (d0 - d2) + d3 - d1;
    t[out] = d3 - d2 - 2.0f * d1;
    t[2 * out] = d3 - 3.0f * d2 + 2.0f * d1;
    t[3 * out] = d3 - d1;
    t[4 * out] = d4 - d2 + 2.0f * (d1 - d3);
}

static inline void up_out_line(const v8 *m, long step, v8 *y, long out) {
    v8 p = m[step] + m[2 * step], q = m[step] - m[2 * step], r = m[3 * step];
    y[0] = m[0] + p + r;
    y[out] = q + 2.0f * r;
    y[2 * out] = p + 4.0f * r;
    y[3 * out] = q + 8.0f * r + m[4 * step];
}

/* v, 81 planes of [C], `step` apart, from the tile at place `at` of five lines. Planes, rows first: both even, 5x5; even rows and odd columns, 5x4; odd
 * rows and even columns, 5x4 (the even direction first); both odd, 4x4. */
static void up_tile_in(const float *const *x, long at, int C, const float *style, float *v, long step) {
    for (int c = 0; c < C; c += 8) {
        v8 d[25], t[25], e[25], s = load(style + c);
        for (int i = 0; i < 5; i++)
            for (int j = 0; j < 5; j++) d[5 * i + j] = load(x[i] + at + (long)j * C + c) * s;
        for (int j = 0; j < 5; j++) up_in_line(d + j, 5, t + j, 5);
        for (int i = 0; i < 5; i++) up_in_line(t + 5 * i, 1, e + 5 * i, 1);
        for (int k = 0; k < 25; k++) store(v + k * step + c, e[k]);
        for (int i = 0; i < 5; i++)
            for (int b = 0; b < 4; b++) store(v + (25 + 4 * i + b) * step + c, t[5 * i + b + 1]);
        for (int a = 0; a < 4; a++) up_in_line(d + 5 * (a + 1), 1, e + 5 * a, 1);
        for (int j = 0; j < 5; j++)
            for (int a = 0; a < 4; a++) store(v + (45 + 4 * j + a) * step + c, e[5 * a + j]);
        for (int a = 0; a < 4; a++)
            for (int b = 0; b < 4; b++) store(v + (65 + 4 * a + b) * step + c, d[5 * (a + 1) + b + 1]);
    }
}

/* `count` channels of one tile: m [81][TILES][UP_CHUNK] to place `at` and on of 8 lines. */
static void up_tile_out(const float *m, long step, int count, int O, float *const *y, long at) {
    for (int c = 0; c < count; c += 8) {
        v8 a[25], b[20], z[16];
        long to = at + c;
        for (int k = 0; k < 25; k++) a[k] = load(m + k * step + c);
        for (int j = 0; j < 5; j++) up_out_line(a + j, 5, b + j, 5);
        for (int i = 0; i < 4; i++) up_out_line(b + 5 * i, 1, z + 4 * i, 1);
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++) store(y[2 * i] + to + 2 * j * O, z[4 * i + j]);
        for (int k = 0; k < 20; k++) a[k] = load(m + (25 + k) * step + c);
        for (int j = 0; j < 4; j++) up_out_line(a + j, 4, z + j, 4);
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++) store(y[2 * i] + to + (2 * j + 1) * O, z[4 * i + j]);
        for (int k = 0; k < 20; k++) a[k] = load(m + (45 + k) * step + c);
        for (int i = 0; i < 4; i++) up_out_line(a + i, 4, z + 4 * i, 1);
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++) store(y[2 * i + 1] + to + 2 * j * O, z[4 * i + j]);
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++)
                store(y[2 * i + 1] + to + (2 * j + 1) * O, load(m + (65 + 4 * i + j) * step + c));
    }
}

/* One line of the transposed convolution in one direction: places 2 i and 2 i + 1 of `out` from pixels i of `x`, for i
 * from `first` to `last` - 1 (i of `count` itself has an even place only).*/
static void border_line(const Layer *l, const float *const *x, const float *weight, int first, int last, int count,
                        float *const *out) {
    int C = l->C, O = l->O, padded = (O + COLUMNS - 1) / COLUMNS * COLUMNS;
    float *pixels = aligned(l->scratch), *m = pixels + (long)(TILES + ROWS) * C;
    for (int from = first; from < last; from += TILES - 1) { /* a pixel's last tap falls on the next one's place */
        int to = from + TILES - 1 < last ? from + TILES - 1 : last, begin = from > 0 ? from - 1 : 0;
        int end = to < count ? to : count, n = end - begin, plane = (TILES + ROWS) * COLUMNS;
        for (int i = 0; i < n; i++)
            for (int c = 0; c < C; c += 8) store(pixels + (long)i * C + c, load(x[begin + i] + c) * load(l->style + c));
        for (int j = 0; j < padded; j += COLUMNS) {
            for (int k = 0; k < 3; k++)
                products(pixels, C, weight + ((long)k * padded + j) * C, m + k * plane, COLUMNS, n);
            for (int i = from; i < to; i++)
                for (int o = 0; o < COLUMNS && j + o < O; o += 8) {
                    v8 even = i < count ? load(m + (i - begin) * COLUMNS + o) : all(0.0f);
                    if (i > 0) even += load(m + 2 * plane + (i - 1 - begin) * COLUMNS + o);
                    store(out[2 * i] + j + o, even);
                    if (i < count) store(out[2 * i + 1] + j + o, load(m + plane + (i - begin) * COLUMNS + o));
                }
        }
    }
}

/* What no tile of even size reaches: the last column for the rows of tiles `first` to `last` - 1, and the last row. */
static void border(const Layer *l, int first, int last) {
    int H = l->H, W = l->W, O = l->O, padded = (O + COLUMNS - 1) / COLUMNS * COLUMNS, most = H > W ? H : W;
    const float **x = malloc(sizeof *x * (most + 1));
    float **out = malloc(sizeof *out * (2 * most + 2));
    for (int h = 4 * first - 1; h < 4 * last; h++)
        if (h >= 0) x[h] = x_line(l, h, 0) + (long)W * l->C;
    for (int h = 8 * first; h < 8 * last; h++) out[h] = spread_line(l, h) + 2L * W * O;
    border_line(l, x, l->border + 3L * padded * l->C, 4 * first, 4 * last, H, out);
    if (last == H / 4) {
        for (int w = 0; w < W; w++) x[w] = x_line(l, H - 1, 0) + (long)(w + 1) * l->C;
        for (int w = 0; w <= 2 * W; w++) out[w] = spread_line(l, 2 * H) + (long)w * O;
        border_line(l, x, l->border, 0, W + 1, W, out);
    }
    free(x), free(out);
}

/* The transposed convolution of stride 2 from the rows of tiles `first` to `last` - 1, with its border. */
static void spread(const Layer *l, int first, int last, const float *zero) {
    int C = l->C, across = l->W / 4, O = l->O, padded = (O + COLUMNS - 1) / COLUMNS * COLUMNS;
    int batch = batch_of(C), chunk = padded < UP_CHUNK ? padded : UP_CHUNK;
    long end = (long)last * across, out = plane(batch, chunk), between;
    Tiles v = tiles_of(l, UP_PLANES, batch, aligned(l->scratch));
    float *m = v.floats + UP_PLANES * v.step;
    for (long from = (long)first * across; from < end; from += batch) {
        int tiles = end - from < batch ? (int)(end - from) : batch;
        for (int t = 0; t < tiles; t++) {
            int row = (int)((from + t) / across), column = (int)((from + t) % across);
            const float *lines[5];
            for (int i = 0; i < 5; i++) lines[i] = x_line(l, 4 * row - 1 + i, zero);
            float *to = place_of_tile(&v, t, &between);
            up_tile_in(lines, 4L * column * C, C, l->style, to, between);
            keep_tile(&v, t);
        }
        for (int n = 0; n < padded; n += chunk) {
            int columns = padded - n < chunk ? padded - n : chunk;
            for (int k = 0; k < UP_PLANES; k++) {
                int matrix = k < 25 ? k : k < 65 ? 25 + (k - 25) / 4 : 35;
                for (int j = 0; j < columns; j += COLUMNS)
                    product_of_plane(l, &v, k, matrix, padded, n + j, m + k * out + j, chunk, tiles);
            }
            for (int t = 0; t < tiles; t++) {
                int row = (int)((from + t) / across), column = (int)((from + t) % across);
                float *lines[8];
                for (int i = 0; i < 8; i++) lines[i] = spread_line(l, 8 * row + i);
                up_tile_out(m + (long)t * chunk, out, O - n < chunk ? O - n : chunk, O, lines, 8L * column * O + n);
            }
        }
    }
    border(l, first, last);
}

void spreading_layer(const Layer *l) { spread(l, l->first, l->last, l->x); }

static inline v8 tap(v8 a, v8 b, v8 c, v8 d) { return 0.75f * (b + c) + 0.25f * (a + d); }

/* The FIR filter 1-3-3-1 over 4 of `spread` with zero borders, and all that follows, for output rows `first` to
 * `last` - 1. */
static void filter(const Layer *l, int first, int last) {
    int W = 2 * l->W, H = 2 * l->H, O = l->O, most = FILTERED / O > 16 ? FILTERED / O : 16;
    float *buffer = aligned(l->scratch);
    for (int h = first; h < last; h++) {
        int has_a = h > 0, has_d = h + 2 <= H;
        const float *b = spread_line(l, h), *c = spread_line(l, h + 1);
        const float *a = has_a ? spread_line(l, h - 1) : b, *d = has_d ? spread_line(l, h + 2) : c;
        float *line = y_line(l, h, W);
        for (int from = 0; from < W; from += most) {
            int to = from + most < W ? from + most : W; /* outputs; the line's places from - 1 to to + 1 */
            for (int w = from - 1; w < to + 2; w++) {
                float *p = buffer + (long)(w - from + 1) * O;
                if (w < 0 || w > W) {
                    memset(p, 0, sizeof(float) * O);
                    continue;
                }
                long at = (long)w * O;
                if (has_a && has_d)
                    for (int o = 0; o < O; o += 8)
                        store(p + o, tap(load(a + at + o), load(b + at + o), load(c + at + o), load(d + at + o)));
                else
                    for (int o = 0; o < O; o += 8)
                        store(p + o, tap(has_a ? load(a + at + o) : all(0.0f), load(b + at + o), load(c + at + o),
                                         has_d ? load(d + at + o) : all(0.0f)));
            }
            for (int w = from; w < to; w++) {
                const float *p = buffer + (long)(w - from) * O, *noise = l->noise ? l->noise + (long)h * W + w : 0;
                float *y = line + (long)(w + 1) * O;
                for (int o = 0; o < O; o += 8) {
                    v8 z = tap(load(p + o), load(p + O + o), load(p + 2 * O + o), load(p + 3 * O + o));
                    store(y + o, finish(l, z, load(l->scale + o), load(l->bias + o), noise));
                }
            }
        }
    }
}

void filtering_layer(const Layer *l) { filter(l, 8 * l->first, 8 * l->last); }

/* An upsampling layer and the layer after it in one go, for the rows of tiles `first` to `last` - 1 of the former: what
 * is between them stays in the cache. `space`: block_size(W, O) floats. The rows that two threads both need, both make. */
void block(const Layer *upsampling, const Layer *next, float *space) {
    Layer u = *upsampling, c = *next;
    int W = 2 * u.W, H = 2 * u.H, O = u.O, tiles = u.H / 4;
    u.spread = aligned(space);
    u.y = u.spread + RING * (long)(W + 1) * O;
    float *zero = u.y + RING * (long)(W + 2) * O;
    memset(u.y, 0, sizeof(float) * (RING + 1) * (W + 2) * O);
    c.x = u.y;
    u.spread_lines = u.y_lines = c.x_lines = RING;
    int filtered = u.first > 0 ? 8 * u.first - 1 : 0, convolved = 2 * u.first;
    for (int row = u.first > 0 ? u.first - 1 : 0; row < tiles && row <= u.last; row++) {
        spread(&u, row, row + 1, u.x);
        int ready = row + 1 == tiles ? H : 8 * row + 6; /* rows of y that can be had now */
        if (ready > 8 * u.last + 1) ready = 8 * u.last + 1;
        if (ready > filtered) filter(&u, filtered, ready), filtered = ready;
        int stop = ready == H ? H / 4 : (ready - 1) / 4;
        if (stop > 2 * u.last) stop = 2 * u.last;
        if (stop > convolved) convolve(&c, convolved, stop, zero), convolved = stop;
    }
}

/* RGB skip: out [2H][2W][3] = low [H][W][3] upsampled by the FIR filter 1-3-3-1 with zero borders, plus bias [3];
 * rows 2 first to 2 last - 1. */
void upsample_rgb(const float *low, const float *bias, float *out, int H, int W, int first, int last) {
    float *line = malloc(sizeof(float) * 9 * (W + 2)), *left = line + 3 * (W + 2), *right = left + 3 * W;
    for (int y = 2 * first; y < 2 * last; y++) {
        int h = y / 2, other = y % 2 ? h + 1 : h - 1;
        const float *a = low + (long)3 * W * h, *b = low + (long)3 * W * other;
        int inside = other >= 0 && other < H;
        for (int i = 0; i < 3; i++) line[i] = line[3 * (W + 1) + i] = 0.0f;
        for (int i = 0; i < 3 * W; i++) line[i + 3] = 0.75f * a[i] + (inside ? 0.25f * b[i] : 0.0f);
        float *to = out + (long)6 * W * y;
        for (int i = 0; i < 3 * W; i++) {
            const float *p = line + 3 + i;
            left[i] = 0.75f * p[0] + 0.25f * p[-3];
            right[i] = 0.75f * p[0] + 0.25f * p[3];
        }
        for (int w = 0; w < W; w++)
            for (int i = 0; i < 3; i++) {
                to[6 * w + i] = left[3 * w + i] + bias[i];
                to[6 * w + 3 + i] = right[3 * w + i] + bias[i];
            }
    }
    free(line);
}

/* Floats of [-1, 1] to bytes, rounded to the nearest, ties to even. */
void to_bytes(const float *x, uint8_t *y, long count) {
    for (long i = 0; i < count; i++) {
        float v = x[i] < -1.0f ? -1.0f : x[i] > 1.0f ? 1.0f : x[i];
        y[i] = (uint8_t)(int)rintf((v + 1.0f) * 127.5f);
    }
}

#ifndef __wasm__
/* Whether there are products in 16 bits. */
int has_int16(void) { return INT16; }
#endif
