/* The passes over pixels of StyleGAN2's synthesis, for a CPU: a modulated 3x3 convolution as one function, from a
 * feature map to the next, with everything that goes with it done while the data are in cache.
 *
 * The convolution is Winograd's F(4x4, 3x3) (Lavin and Gray 2016): tiles of 6x6 inputs become 36 numbers, 36 matrix
 * products stand for the sums over channels, and their results become 4x4 outputs; 36 multiplications for 144. The
 * style multiplies a tile as it is loaded, and demodulation, gain, noise, bias, leaky ReLU and ToRGB act on a tile
 * before it is stored. Upsampling by two, FIR filter included, is a 3x3 convolution into four phases.
 *
 * Feature maps are float [H + 2][W + 2][C] with a border of zeros. C and O are multiples of 8, H and W of 4.
 * Only GNU C's vectors are used, no instructions of one processor.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef float v8 __attribute__((vector_size(32)));
typedef float v8_anywhere __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t lanes __attribute__((vector_size(32)));

/* Tiles at a time; the product's block; outputs at a time; what keeps the 36 planes out of one set of the cache. */
enum { TILES = 48, ROWS = 6, COLUMNS = 16, CHUNK = 64, SHIFT = 16 };
enum { PLANE = TILES * CHUNK + SHIFT };

static inline v8 load(const float *p) { return *(const v8_anywhere *)p; }
static inline void store(float *p, v8 v) { *(v8_anywhere *)p = v; }
static inline v8 all(float x) { return (v8){x, x, x, x, x, x, x, x}; }

static inline v8 larger(v8 a, v8 b) {
    lanes wins = a > b;
    return (v8)(((lanes)a & wins) | ((lanes)b & ~wins));
}

static inline v8 smaller(v8 a, v8 b) { return -larger(-a, -b); }

static inline void in_line(const v8 *d, long step, v8 *t, long out) {
    v8 d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
    v8 a = d4 - 4.0f * d2, b = d3 - 4.0f * d1, c = d4 - d2, e = 2.0f * (d3 - d1);
    t[0] = 4.0f * d0 - 5.0f * d2 + d4;
    t[out] = a + b;
    t[2 * out] = a - b;
    t[3 * out] = c + e;
    t[4 * out] = c - e;
    t[5 * out] = 4.0f * d1 - 5.0f * d3 + d5;
}

static inline void out_line(const v8 *m, long step, v8 *y, long out) {
    v8 p = m[step] + m[2 * step], q = m[step] - m[2 * step], r = m[3 * step] + m[4 * step], s = m[3 * step] - m[4 * step];
    y[0] = m[0] + p + r;
    y[out] = q + 2.0f * s;
    y[2 * out] = p + 4.0f * r;
    y[3 * out] = q + 8.0f * s + m[5 * step];
}

/* A plane of v, [TILES][C]. */
static inline long plane(int C) { return (long)TILES * C + SHIFT; }

/* v [36][TILES][C] from the tile at x, its channels times the style. */
static void tile_in(const float *x, long row, int C, const float *style, float *v) {
    for (int c = 0; c < C; c += 8) {
        v8 d[36], t[36], s = load(style + c);
        for (int i = 0; i < 6; i++)
            for (int j = 0; j < 6; j++) d[6 * i + j] = load(x + i * row + (long)j * C + c) * s;
        for (int j = 0; j < 6; j++) in_line(d + j, 6, t + j, 6);
        for (int i = 0; i < 6; i++) in_line(t + 6 * i, 1, d + 6 * i, 1);
        for (int k = 0; k < 36; k++) store(v + k * plane(C) + c, d[k]);
    }
}

/* m [ROWS][CHUNK] = a [ROWS][K] times b [K][COLUMNS]. */
static inline void product(const float *restrict a, int K, const float *restrict b, float *restrict m) {
    v8 sum[ROWS][2];
#pragma GCC unroll 6
    for (int r = 0; r < ROWS; r++) sum[r][0] = sum[r][1] = all(0.0f);
    for (int k = 0; k < K; k++, b += COLUMNS) {
        v8 low = load(b), high = load(b + 8);
#pragma GCC unroll 6
        for (int r = 0; r < ROWS; r++) {
            v8 x = all(a[(long)r * K + k]);
            sum[r][0] += x * low;
            sum[r][1] += x * high;
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < ROWS; r++) {
        store(m + r * CHUNK, sum[r][0]);
        store(m + r * CHUNK + 8, sum[r][1]);
    }
}

static inline float total(v8 v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }

typedef struct {
    const float *x;      /* [H + 2][W + 2][C] */
    const float *weight; /* [36][N / 16][C][16], N = O or, for upsampling, 4 O (row phase, column phase, channel) */
    const float *style;  /* [C] */
    const float *scale;  /* [O]: demodulation times gain */
    const float *bias;   /* [O], times gain */
    const float *noise;  /* [H'][W'] of the output, times strength and gain, or null */
    const float *rgb_weight; /* [3][O], or null: no ToRGB */
    float *y;            /* [H' + 2][W' + 2][O], or null: not needed */
    float *rgb;          /* [H'][W'][3], added to */
    float *scratch;      /* scratch_size(C) floats */
    float clamp;         /* limit of what is stored, or infinity */
    int32_t H, W, C, O, up, first, last; /* rows of tiles `first` to `last` - 1 of the H / 4 */
} Layer;

long scratch_size(int C) { return 36 * (plane(C) + PLANE) + 16; }

/* Channels n to n + count of one tile: m [36][TILES][CHUNK] to pixels. */
static void tile_out(const Layer *l, int row, int column, const float *m, int n, int count) {
    int up = l->up ? 2 : 1, W = l->W * up, O = l->O, phase = n / O, py = phase / 2, px = phase % 2;
    long line = (long)(W + 2) * O;
    v8 red[16], green[16], blue[16];
    int with_rgb = l->rgb_weight != 0;
    if (with_rgb) memset(red, 0, sizeof red), memset(green, 0, sizeof green), memset(blue, 0, sizeof blue);
    for (int c = 0; c < count; c += 8) {
        int o = n - phase * O + c;
        v8 a[36], b[24], y[16], scale = load(l->scale + o), bias = load(l->bias + o), limit = all(l->clamp);
        for (int k = 0; k < 36; k++) a[k] = load(m + (long)k * PLANE + c);
        for (int j = 0; j < 6; j++) out_line(a + j, 6, b + j, 6);
        for (int i = 0; i < 4; i++) out_line(b + 6 * i, 1, y + 4 * i, 1);
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++) {
                int h = (4 * row + i) * up + py, w = (4 * column + j) * up + px;
                v8 z = y[4 * i + j] * scale + bias;
                if (l->noise) z += all(l->noise[(long)h * W + w]);
                z = larger(z, 0.2f * z);
                if (l->clamp < INFINITY) z = larger(smaller(z, limit), -limit);
                if (l->y) store(l->y + (h + 1) * line + (long)(w + 1) * O + o, z);
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

/* One modulated convolution with all that follows it, for the rows of tiles `first` to `last` - 1. */
void synthesis_layer(const Layer *l) {
    int C = l->C, across = l->W / 4, N = l->up ? 4 * l->O : l->O, padded = (N + COLUMNS - 1) / COLUMNS * COLUMNS;
    long row = (long)(l->W + 2) * C, end = (long)l->last * across;
    float *v = (float *)(((uintptr_t)l->scratch + 31) & ~(uintptr_t)31), *m = v + 36 * plane(C);
    for (long from = (long)l->first * across; from < end; from += TILES) {
        int tiles = end - from < TILES ? (int)(end - from) : TILES;
        for (int t = 0; t < tiles; t++) {
            long tile = from + t;
            tile_in(l->x + tile / across * 4 * row + tile % across * 4 * C, row, C, l->style, v + (long)t * C);
        }
        for (int n = 0; n < padded; n += CHUNK) {
            int columns = padded - n < CHUNK ? padded - n : CHUNK;
            for (int k = 0; k < 36; k++)
                for (int j = 0; j < columns; j += COLUMNS) {
                    const float *u = l->weight + ((long)k * padded + n + j) * C;
                    for (int t = 0; t < tiles; t += ROWS)
                        product(v + k * plane(C) + (long)t * C, C, u, m + (long)k * PLANE + (long)t * CHUNK + j);
                }
            /* A chunk may hold parts of several phases. */
            for (int c = n; c < n + columns && c < N;) {
                int stop = (c / l->O + 1) * l->O;
                if (stop > n + columns) stop = n + columns;
                for (int t = 0; t < tiles; t++) {
                    long tile = from + t;
                    tile_out(l, (int)(tile / across), (int)(tile % across), m + (long)t * CHUNK + c - n, c, stop - c);
                }
                c = stop;
            }
        }
    }
}

/* RGB skip: out [2H][2W][3] = low [H][W][3] upsampled by the FIR filter 1-3-3-1 with zero borders, plus bias [3];
 * rows 2 first to 2 last - 1. */
void upsample_rgb(const float *low, const float *bias, float *out, int H, int W, int first, int last) {
    float *line = malloc(sizeof(float) * 3 * (W + 2));
    for (int y = 2 * first; y < 2 * last; y++) {
        int h = y / 2, other = y % 2 ? h + 1 : h - 1;
        const float *a = low + (long)3 * W * h, *b = low + (long)3 * W * other;
        int inside = other >= 0 && other < H;
        for (int i = 0; i < 3; i++) line[i] = line[3 * (W + 1) + i] = 0.0f;
        for (int i = 0; i < 3 * W; i++) line[i + 3] = 0.75f * a[i] + (inside ? 0.25f * b[i] : 0.0f);
        float *to = out + (long)6 * W * y;
        for (int w = 0; w < W; w++)
            for (int i = 0; i < 3; i++) {
                const float *p = line + 3 * (w + 1) + i;
                to[6 * w + i] = 0.75f * p[0] + 0.25f * p[-3] + bias[i];
                to[6 * w + 3 + i] = 0.75f * p[0] + 0.25f * p[3] + bias[i];
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
