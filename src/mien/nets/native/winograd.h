/* What Winograd's F(4x4, 3x3) (Lavin and Gray 2016) is made of: transforms of a line, and the matrix products between them.
 * Only GNU C's vectors are used, no instructions of one processor. */
#include <stdint.h>
#include <string.h>

typedef float v8 __attribute__((vector_size(32)));
typedef float v8_anywhere __attribute__((vector_size(32), aligned(4), may_alias));

/* The product's rows, and fewer of them for what is left over. Tiles at a time; the product's columns; outputs at a time; what keeps the 36 planes out of one set of the cache. */
#ifdef __AVX512F__
enum { ROWS = 12, FEW = 4, PARTS = 1 };
#define WIDE 64
#elif defined __wasm_simd128__
enum { ROWS = 3, FEW = 1, PARTS = 4 };
#define WIDE 16
#else
enum { ROWS = 6, FEW = 2, PARTS = 2 };
#define WIDE 32
#endif
typedef float wide __attribute__((vector_size(WIDE)));
typedef float wide_anywhere __attribute__((vector_size(WIDE), aligned(4), may_alias));
enum { TILES = 48, COLUMNS = 16, CHUNK = 64, SHIFT = 16 };

static inline v8 load(const float *p) { return *(const v8_anywhere *)p; }
static inline void store(float *p, v8 v) { *(v8_anywhere *)p = v; }
static inline v8 all(float x) { return (v8){x, x, x, x, x, x, x, x}; }

/* Six inputs of a line to six numbers (points 0, 1, -1, 2, -2 and infinity). */
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

/* Six sums to four outputs. */
static inline void out_line(const v8 *m, long step, v8 *y, long out) {
    v8 p = m[step] + m[2 * step], q = m[step] - m[2 * step], r = m[3 * step] + m[4 * step], s = m[3 * step] - m[4 * step];
    y[0] = m[0] + p + r;
    y[out] = q + 2.0f * s;
    y[2 * out] = p + 4.0f * r;
    y[3 * out] = q + 8.0f * s + m[5 * step];
}

/* Tiles at a time: fewer where the weights are small enough to be read again often, so that the tiles stay in cache. */
static inline int batch_of(int C) { return C <= 128 ? TILES / 2 : TILES; }

static inline float *aligned(float *p) { return (float *)(((uintptr_t)p + 63) & ~(uintptr_t)63); }

/* A plane of `batch` tiles with C numbers each. */
static inline long plane(int batch, int C) { return (long)batch * C + SHIFT; }

/* m [rows][16 of `step`] = a [rows][K] times b [K][16]; `rows` is a constant where this is used. */
static inline __attribute__((always_inline)) void product_of(
    const int rows, const float *restrict a, int K, const float *restrict b, float *restrict m, long step) {
    wide sum[ROWS][PARTS];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < PARTS; p++) sum[r][p] = (wide){0};
    for (int k = 0; k < K; k++, b += COLUMNS) {
        wide w[PARTS];
        for (int p = 0; p < PARTS; p++) w[p] = *(const wide_anywhere *)(b + p * COLUMNS / PARTS);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++)
            for (int p = 0; p < PARTS; p++) sum[r][p] += a[(long)r * K + k] * w[p];
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < PARTS; p++) *(wide_anywhere *)(m + r * step + p * COLUMNS / PARTS) = sum[r][p];
}

static void product(const float *a, int K, const float *b, float *m, long step) { product_of(ROWS, a, K, b, m, step); }
static void product_of_few(const float *a, int K, const float *b, float *m, long step) { product_of(FEW, a, K, b, m, step); }

/* `rows` rows of a product, as many as there are: m [rows][16 of `step`]. */
static inline void products(const float *a, int K, const float *b, float *m, long step, int rows) {
    int r = 0;
    for (; r + ROWS <= rows; r += ROWS) product(a + (long)r * K, K, b, m + r * step, step);
    for (; r < rows; r += FEW) product_of_few(a + (long)r * K, K, b, m + r * step, step);
}
