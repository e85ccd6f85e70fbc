/* Vectors in GNU C: no instructions of one processor. */
#ifndef VECTORS_H
#define VECTORS_H
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
typedef int32_t wide_lanes __attribute__((vector_size(WIDE)));
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

#endif
