/* Vectors, and matrix products of a few rows, in GNU C: no instructions of one processor. */
#include <stdint.h>
#include <string.h>

typedef float v8 __attribute__((vector_size(32)));
typedef float v8_anywhere __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t lanes __attribute__((vector_size(32)));

/* The product's rows, and fewer of them for what is left over; its columns. */
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
enum { COLUMNS = 16 };

static inline v8 load(const float *p) { return *(const v8_anywhere *)p; }
static inline void store(float *p, v8 v) { *(v8_anywhere *)p = v; }
static inline v8 all(float x) { return (v8){x, x, x, x, x, x, x, x}; }

static inline v8 larger(v8 a, v8 b) {
    lanes wins = a > b;
    return (v8)(((lanes)a & wins) | ((lanes)b & ~wins));
}

static inline v8 smaller(v8 a, v8 b) { return -larger(-a, -b); }

static inline float *aligned(float *p) { return (float *)(((uintptr_t)p + 63) & ~(uintptr_t)63); }

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
