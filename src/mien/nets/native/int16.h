/* Products of 16-bit integers, on processors with AVX2, with VNNI for AVX2, and with AVX-512 and its VNNI.
 *
 * An instruction multiplies twice as many 16-bit integers as floats, and adds them in pairs; with VNNI it adds them to the
 * sum too. A row's numbers are scaled so that their norm is 32,700, an output's weights so that theirs is at most 65,000:
 * by Cauchy and Schwarz no sum of products leaves 32 bits. What is rounded off is some 2e-4 of a product's result. AVX-512
 * without VNNI is left out: there two instructions do no more than one on floats.
 */
#ifndef INT16_H
#define INT16_H
#include "vectors.h"

#if defined(__AVX512VNNI__) || (defined(__AVX2__) && !defined(__AVX512F__))
#define INT16 1
#include <immintrin.h>
#include <math.h>

#define NORM 32700.0f

/* x [C] quantised; returns what its numbers are to be multiplied by. */
static float to_int16(const float *x, int C, int16_t *y) {
    v8 squares = {0};
    for (int c = 0; c < C; c += 8) squares += load(x + c) * load(x + c);
    float norm = 1e-20f;
    for (int i = 0; i < 8; i++) norm += squares[i];
    norm = sqrtf(norm);
    __m256 scale = _mm256_set1_ps(NORM / norm);
    int c = 0;
    for (; c + 16 <= C; c += 16) {
        __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + c), scale));
        __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + c + 8), scale));
        __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
        _mm256_storeu_si256((__m256i *)(y + c), both);
    }
    for (; c < C; c++) y[c] = (int16_t)rintf(x[c] * (NORM / norm));
    return norm / NORM;
}

/* The sums of pairs of products. */
static inline __attribute__((always_inline)) void add_products(wide_lanes *sum, wide_lanes x, wide_lanes w) {
#if defined(__AVX512VNNI__)
    *sum = (wide_lanes)_mm512_dpwssd_epi32((__m512i)*sum, (__m512i)x, (__m512i)w);
#elif defined(__AVXVNNI__)
    *sum = (wide_lanes)_mm256_dpwssd_avx_epi32((__m256i)*sum, (__m256i)x, (__m256i)w);
#else
    /* Two instructions that stay together: apart, they would need more registers than there are. */
    wide_lanes pairs;
    __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(*sum), "=&x"(pairs) : "x"(x), "x"(w));
#endif
}

/* A tile of a product: `rows` rows (a constant where this is used) of a [K], `apart` from each other, times
 * b [K / 2][16][2]. */
static inline __attribute__((always_inline)) void tile_int16(
    const int rows, const int16_t *restrict a, long apart, int K, const int16_t *restrict b, wide_lanes sum[ROWS][PARTS]) {
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < PARTS; p++) sum[r][p] = (wide_lanes){0};
    for (int k = 0; k < K; k += 2, b += 2 * COLUMNS) {
        wide_lanes w[PARTS];
        for (int p = 0; p < PARTS; p++) memcpy(&w[p], b + p * 2 * COLUMNS / PARTS, sizeof w[p]);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            int32_t pair;
            memcpy(&pair, a + r * apart + k, 4);
            wide_lanes x = (wide_lanes){0} + pair;
            for (int p = 0; p < PARTS; p++) add_products(&sum[r][p], x, w[p]);
        }
    }
}
#else
#define INT16 0
#endif

#endif
