/* Matrix products of a few rows. */
#ifndef PRODUCTS_H
#define PRODUCTS_H
#include "vectors.h"

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

#endif
