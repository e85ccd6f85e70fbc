/* What Winograd's F(4x4, 3x3) (Lavin and Gray 2016) is made of. */
#ifndef WINOGRAD_H
#define WINOGRAD_H
#include "products.h"

/* Tiles at a time; outputs at a time; what keeps the 36 planes out of one set of the cache. */
enum { TILES = 48, CHUNK = 64, SHIFT = 16 };

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

/* A plane of `batch` tiles with C numbers each. */
static inline long plane(int batch, int C) { return (long)batch * C + SHIFT; }

#endif
