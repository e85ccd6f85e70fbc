/* The passes over pixels of MobileStyleGAN's synthesis (Belousov 2021, arXiv 2104.04767), for a CPU: a block of the
 * generator, or two layers of a head, as one function from a feature map to the next or to the picture.
 *
 * A block is an inverse Haar transform and two layers of (depthwise 3x3, pointwise product, noise, bias, leaky ReLU).
 * Its rows run through all of it as through a pipeline: some rows of the transform, some of the first layer, some of
 * the second. What is between lies in rings of rows, and a layer's depthwise results are made for 128 pixels at a time,
 * so neither passes through memory. A style multiplies channels, and so commutes with a depthwise convolution: it is
 * part of the nine taps, and the products' weights are the same for every picture.
 *
 * Feature maps are float [H][W][C], without a border, channels in four bands (mean and three details) as the next
 * transform reads them. Widths: C is a multiple of 8, O of 16; H and W are even.
 * Only GNU C's vectors are used, no instructions of one processor, but for the product in 16 bits.
 */
#include <math.h>

#include "int16.h"

typedef float v4 __attribute__((vector_size(16)));
typedef float v4_anywhere __attribute__((vector_size(16), aligned(4), may_alias));

/* Pixels at a time; columns of a depthwise tile; floats between the pixels of what is read most: at distances of a power of
 * two their lines would share a few sets of the cache. */
enum { PIXELS = 128, ACROSS = 8, APART = 16 };

static inline int least(int a, int b) { return a < b ? a : b; }
static inline int most(int a, int b) { return a > b ? a : b; }

typedef struct {
    const float *taps;       /* [9][C]: depthwise 3x3, times the style */
    const float *weight;     /* [O / 16][C][16] */
    const int16_t *weight16; /* the same quantised, [O / 16][C / 2][16][2], or null; */
    const float *scale16;    /* [O], what its numbers are to be multiplied by */
    const float *bias;       /* [O] */
    const float *noise;      /* [H][W], or null */
    float slope;             /* of the leaky ReLU for negative numbers; 1: none */
    int32_t C, O;
} Layer;

typedef struct {
    const float *x;       /* feature map: [H / 2][W / 2][4 first.C] with a transform, else [H][W][first.C] */
    const float *up;      /* [4 first.C]: the transform's style, halved; null: no transform */
    Layer first, second;
    Layer image;          /* from second.O to [4 bands][red, green, blue, 0], no taps; its weight is null: no picture */
    float *y;             /* feature map [H][W][second.O], if there is no picture */
    float *picture;       /* [2 H][2 W][3], or null */
    uint8_t *bytes;       /* the same in bytes, or null */
    int32_t H, W;         /* of the layers' maps */
} Block;

/* ---- The product ---- */

/* A tile of a product: `rows` rows (a constant where this is used) of a [K], `apart` from each other, times b [K][16],
 * plus `bias` [16]. */
static inline __attribute__((always_inline)) void tile(
    const int rows, const float *restrict a, long apart, int K, const float *restrict b, const float *bias,
    wide sum[ROWS][PARTS]) {
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int p = 0; p < PARTS; p++) sum[r][p] = *(const wide_anywhere *)(bias + p * COLUMNS / PARTS);
    for (int k = 0; k < K; k++, b += COLUMNS) {
        wide w[PARTS];
        for (int p = 0; p < PARTS; p++) w[p] = *(const wide_anywhere *)(b + p * COLUMNS / PARTS);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++)
            for (int p = 0; p < PARTS; p++) sum[r][p] += a[r * apart + k] * w[p];
    }
}

/* 16 outputs of some pixels. */
typedef struct {
    const float *a, *weight, *bias;
    const float *noise;          /* one a pixel, `noise_apart` (1; 0: always the same) from each other */
    float *y;
    long a_apart, noise_apart, y_apart;
    int K, count;
    float slope;
} Panel;

/* Pixels from `r` on, `rows` at a time (a constant), as long as there are so many: the product, noise, leaky ReLU.
 * Returns the first pixel that is left. */
static inline __attribute__((always_inline)) int strip(const int rows, const Panel *f, int r) {
    const float even = 0.5f + 0.5f * f->slope, odd = 0.5f - 0.5f * f->slope;
    const wide_lanes magnitude = (wide_lanes){0} + 0x7fffffff;
    for (; r + rows <= f->count; r += rows) {
        wide sum[ROWS][PARTS];
        tile(rows, f->a + r * f->a_apart, f->a_apart, f->K, f->weight, f->bias, sum);
        float *y = f->y + r * f->y_apart;
        const float *noise = f->noise + r * f->noise_apart;
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
            for (int p = 0; p < PARTS; p++) {
                wide z = sum[i][p] + noise[i * f->noise_apart];
                z = even * z + odd * (wide)((wide_lanes)z & magnitude); /* fewer instructions than to choose */
                *(wide_anywhere *)(y + i * f->y_apart + p * COLUMNS / PARTS) = z;
            }
    }
    return r;
}

static __attribute__((noinline)) void panel(const Panel *f) {
    strip(1, f, strip(2, f, strip(4, f, strip(ROWS, f, 0))));
}

/* Outputs from panel `begin` to `end` - 1 for `count` pixels a [count][C], `a_apart`: y [count][O], `y_apart`. `first`:
 * the first pixel's place in the map. */
static void product(const Layer *l, const float *a, long a_apart, int count, long first, float *y, long y_apart,
                    int begin, int end) {
    static const float none = 0.0f;
    Panel f = {.a = a, .noise = l->noise ? l->noise + first : &none, .a_apart = a_apart, .noise_apart = l->noise != 0,
               .y_apart = y_apart, .K = l->C, .count = count, .slope = l->slope};
    for (int i = begin; i < end; i++) {
        f.weight = l->weight + (long)i * l->C * COLUMNS;
        f.bias = l->bias + i * COLUMNS, f.y = y + i * COLUMNS;
        panel(&f);
    }
}

/* ---- The product in 16 bits ---- */

#if INT16
typedef struct {
    const int16_t *a, *weight;
    const float *scale, *scales; /* of the 16 outputs; one a pixel */
    const float *bias, *noise; /* as in Panel */
    float *y;
    long a_apart, noise_apart, y_apart;
    int K, count;
    float slope;
} PanelInt16;

static inline __attribute__((always_inline)) int strip_int16(const int rows, const PanelInt16 *f, int r) {
    const float even = 0.5f + 0.5f * f->slope, odd = 0.5f - 0.5f * f->slope;
    const wide_lanes magnitude = (wide_lanes){0} + 0x7fffffff;
    for (; r + rows <= f->count; r += rows) {
        wide_lanes sum[ROWS][PARTS];
        tile_int16(rows, f->a + r * f->a_apart, f->a_apart, f->K, f->weight, sum);
        float *y = f->y + r * f->y_apart;
        const float *noise = f->noise + r * f->noise_apart;
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
            for (int p = 0; p < PARTS; p++) {
                wide scale = *(const wide_anywhere *)(f->scale + p * COLUMNS / PARTS) * f->scales[r + i];
                wide more = *(const wide_anywhere *)(f->bias + p * COLUMNS / PARTS) + noise[i * f->noise_apart];
                wide z = __builtin_convertvector(sum[i][p], wide) * scale + more;
                z = even * z + odd * (wide)((wide_lanes)z & magnitude);
                *(wide_anywhere *)(y + i * f->y_apart + p * COLUMNS / PARTS) = z;
            }
    }
    return r;
}

static __attribute__((noinline)) void panel_int16(const PanelInt16 *f) {
    strip_int16(1, f, strip_int16(2, f, strip_int16(4, f, strip_int16(ROWS, f, 0))));
}

/* As `product`, all panels, with a [count][C], `a_apart`, first quantised: `space` [PIXELS][C + 2 APART]. */
static void product_int16(const Layer *l, const float *a, long a_apart, int count, long first, float *y, long y_apart,
                           int16_t *space) {
    static const float none = 0.0f;
    float scales[PIXELS];
    long apart = l->C + 2 * APART;
    for (int i = 0; i < count; i++) scales[i] = to_int16(a + i * a_apart, l->C, space + i * apart);
    PanelInt16 f = {.a = space, .scales = scales, .noise = l->noise ? l->noise + first : &none, .a_apart = apart,
                     .noise_apart = l->noise != 0, .y_apart = y_apart, .K = l->C, .count = count, .slope = l->slope};
    for (int i = 0; i < l->O / COLUMNS; i++) {
        f.weight = l->weight16 + (long)i * l->C * COLUMNS, f.scale = l->scale16 + i * COLUMNS;
        f.bias = l->bias + i * COLUMNS, f.y = y + i * COLUMNS;
        panel_int16(&f);
    }
}
#else
static void product_int16(const Layer *l, const float *a, long a_apart, int count, long first, float *y, long y_apart,
                           int16_t *space) {
    (void)space;
    product(l, a, a_apart, count, first, y, y_apart, 0, l->O / COLUMNS);
}
#endif

/* Whether there are products in 16 bits. */
int has_int16(void) { return INT16; }

static inline int panels(const Layer *l) { return l->O / COLUMNS; }

/* ---- The depthwise convolution ---- */

/* Columns w to w + count - 1 of three rows, pixels `apart`: out [count][C + APART]. w - 1 and w + count are inside.
 * `count` is a constant where this is used. */
static inline __attribute__((always_inline)) void depthwise_tile(
    const Layer *l, const float *const *rows, long apart, int w, const int count, float *restrict out) {
    long C = l->C, at = (w - 1) * apart;
    for (long c = 0; c < C; c += 8) {
        v8 t[9], left, middle = {0}, right = {0};
        for (int k = 0; k < 9; k++) t[k] = load(l->taps + k * C + c);
        const float *p = rows[0] + at + c, *q = rows[1] + at + c, *s = rows[2] + at + c;
#pragma GCC unroll 10
        for (int j = 0; j < count + 2; j++, p += apart, q += apart, s += apart) {
            v8 a = load(p), b = load(q), d = load(s);
            left = middle, middle = right, right = (v8){0};
            left += t[2] * a + t[5] * b + t[8] * d; /* first these three: the next column waits for one sum only */
            middle += t[1] * a + t[4] * b + t[7] * d;
            right += t[0] * a + t[3] * b + t[6] * d;
            if (j >= 2) store(out + (j - 2) * (C + APART) + c, left);
        }
    }
}

static void depthwise_across(const Layer *l, const float *const *rows, long apart, int w, float *out) {
    depthwise_tile(l, rows, apart, w, ACROSS, out);
}

static void depthwise_one(const Layer *l, const float *const *rows, long apart, int w, float *out) {
    depthwise_tile(l, rows, apart, w, 1, out);
}

/* The first or the last column, where one side is outside. */
static void depthwise_edge(const Layer *l, const float *const *rows, long apart, int w, int W, float *out) {
    long C = l->C;
    for (long c = 0; c < C; c += 8) {
        v8 sum = {0};
        for (int i = 0; i < 3; i++)
            for (int j = most(0, 1 - w); j < least(3, W - w + 1); j++)
                sum += load(l->taps + (3 * i + j) * C + c) * load(rows[i] + (w + j - 1) * apart + c);
        store(out + c, sum);
    }
}

/* Columns `from` to `to` - 1. The last tile may do some columns again: that is faster than one by one. */
static void depthwise(const Layer *l, const float *const *rows, long apart, int from, int to, int W, float *out) {
    long step = l->C + APART;
    if (from == 0) depthwise_edge(l, rows, apart, 0, W, out);
    if (to == W) depthwise_edge(l, rows, apart, W - 1, W, out + (W - 1 - from) * step);
    int begin = from > 0 ? from : 1, end = to < W ? to : W - 1;
    if (end - begin < ACROSS)
        for (int w = begin; w < end; w++) depthwise_one(l, rows, apart, w, out + (w - from) * step);
    else
        for (int w = begin; w < end; w += ACROSS) {
            int at = least(w, end - ACROSS);
            depthwise_across(l, rows, apart, at, out + (at - from) * step);
        }
}

/* ---- Rows ---- */

/* Rows that are kept for a while: row h is in place (h - 1) % count, for layers make rows 2 i + 1 and 2 i + 2
 * together, and their pixels are to lie in one piece. Or a whole map, whose row h is in place h. */
typedef struct {
    float *data;
    int count, whole;
    long row, apart; /* floats a row and a pixel */
} Ring;

static inline int place_of(const Ring *r, int h) { return r->whole ? h : (h + r->count - 1) % r->count; }
static inline float *row_of(const Ring *r, int h) { return r->data + place_of(r, h) * r->row; }

/* A thread's memory for a block, and how far it is: rows that have been made of what the first layer reads, of the
 * first layer and of the second. */
typedef struct {
    const Block *block;
    Ring x, up, middle, y;
    int up_rows, first_rows, second_rows, at_a_time;
    float *zero;  /* a row outside the map */
    float *deep;  /* [PIXELS][C + APART] after a depthwise convolution */
    int16_t *deep16; /* [PIXELS][C + 2 APART], the same in 16 bits */
    float *last;  /* [PIXELS][second.O], before the picture */
    float *bands; /* [PIXELS][16] of the picture */
    float *lines; /* [2][6 PIXELS + 1] of the picture */
} Pipeline;

/* Memory that is given out from its beginning; without any it is only counted. */
typedef struct {
    float *base;
    long used;
} Memory;

static float *room(Memory *m, long size) {
    float *found = m->base ? m->base + m->used : 0;
    m->used += (size + 15) & ~15L;
    return found;
}

static Ring ring(Memory *m, int rows, int W, int C) {
    long apart = C + APART, row = W * apart;
    return (Ring){room(m, rows * row), rows, 0, row, apart};
}

static Ring map(const float *data, int H, int W, int C) { return (Ring){(float *)data, H, 1, (long)W * C, C}; }

/* Rows that are made at a time: at least PIXELS pixels, so that weights are not read too often. */
static void lay_out(Pipeline *s, const Block *b, Memory *m) {
    int rows = b->W * 2 >= PIXELS ? 2 : PIXELS / b->W, C = most(b->first.C, b->second.C);
    s->block = b, s->at_a_time = rows;
    s->x = b->up ? map(b->x, b->H / 2, b->W / 2, 4 * b->first.C) : map(b->x, b->H, b->W, b->first.C);
    s->up = ring(m, rows + 4, b->W, b->first.C);
    s->middle = ring(m, 2 * rows, b->W, b->second.C);
    s->y = map(b->y, b->H, b->W, b->second.O);
    s->zero = room(m, (long)b->W * (C + APART));
    s->deep = room(m, PIXELS * (C + APART));
    s->deep16 = (int16_t *)room(m, PIXELS * (C / 2 + APART));
    s->last = room(m, (long)PIXELS * b->second.O);
    s->bands = room(m, PIXELS * COLUMNS);
    s->lines = room(m, 2 * (6 * PIXELS + 1));
}

/* Floats of `space` that `block` needs for each thread. */
long block_size(const Block *b) {
    Pipeline s = {0};
    Memory m = {0};
    lay_out(&s, b, &m);
    return m.used + 16;
}

/* Rows h and h + 1 of an inverse Haar transform of a row x [W / 2][4 Q] times `up`: sums and differences of four bands.
 * The results' pixels are Q + APART from each other. */
static void inverse_haar(const float *x, const float *up, int W, long Q, float *even, float *odd) {
    long apart = Q + APART;
    for (int w = 0; w < W; w += 2, x += 4 * Q, even += 2 * apart, odd += 2 * apart)
        for (long c = 0; c < Q; c += 8) {
            v8 mean = load(x + c) * load(up + c), d0 = load(x + Q + c) * load(up + Q + c);
            v8 d1 = load(x + 2 * Q + c) * load(up + 2 * Q + c), d2 = load(x + 3 * Q + c) * load(up + 3 * Q + c);
            v8 top = mean + d0, bottom = mean - d0, top_slope = d1 + d2, bottom_slope = d1 - d2;
            store(even + c, top + top_slope), store(even + apart + c, top - top_slope);
            store(odd + c, bottom + bottom_slope), store(odd + apart + c, bottom - bottom_slope);
        }
}

/* A row x [W][C] to pixels C + APART from each other: read from memory once and in order, before it is read three times
 * in tiles. */
static void copy_row(const float *x, int W, long C, float *y) {
    for (int w = 0; w < W; w++) memcpy(y + w * (C + APART), x + w * C, sizeof(float) * C);
}

/* Floats of [-1, 1] to bytes, rounded to the nearest, ties to even. */
static void to_bytes(const float *x, uint8_t *y, long count) {
    for (long i = 0; i < count; i++) {
        float v = x[i] < -1.0f ? -1.0f : x[i] > 1.0f ? 1.0f : x[i];
        y[i] = (uint8_t)(int)rintf((v + 1.0f) * 127.5f);
    }
}

/* Pixels of row h from w on, z [count][4 bands][red, green, blue, 0], by the inverse transform to the picture. */
static void to_picture(Pipeline *s, const float *z, int h, int w, int count) {
    const Block *b = s->block;
    float *lines[2] = {s->lines, s->lines + 6 * PIXELS + 1}; /* a vector of 4 for 3 colours: one float goes beyond */
    for (int i = 0; i < count; i++, z += COLUMNS) {
        v4 mean = *(const v4_anywhere *)z, d0 = *(const v4_anywhere *)(z + 4), d1 = *(const v4_anywhere *)(z + 8);
        v4 d2 = *(const v4_anywhere *)(z + 12), ends[2] = {mean + d0, mean - d0}, slopes[2] = {d1 + d2, d1 - d2};
        for (int k = 0; k < 2; k++) {
            *(v4_anywhere *)(lines[k] + 6 * i) = ends[k] + slopes[k];
            *(v4_anywhere *)(lines[k] + 6 * i + 3) = ends[k] - slopes[k];
        }
    }
    for (int k = 0; k < 2; k++) {
        long at = ((2L * h + k) * 2 * b->W + 2L * w) * 3;
        if (b->picture) memcpy(b->picture + at, lines[k], 6L * count * sizeof(float));
        if (b->bytes) to_bytes(lines[k], b->bytes + at, 6L * count);
    }
}

/* Pixels `at` to `at` + count - 1 of a layer's depthwise convolution. */
static void depthwise_pixels(Pipeline *s, const Layer *l, const Ring *x, long at, int count) {
    int H = s->block->H, W = s->block->W;
    float *out = s->deep;
    while (count > 0) {
        int h = (int)(at / W), w = (int)(at % W), n = least(count, W - w);
        const float *rows[3];
        for (int i = 0; i < 3; i++) rows[i] = h + i < 1 || h + i > H ? s->zero : row_of(x, h + i - 1);
        depthwise(l, rows, x->apart, w, w + n, W, out);
        at += n, count -= n, out += n * (l->C + APART);
    }
}

/* A layer's product of what its depthwise convolution left, for pixels `at` to `at` + count - 1: y, pixels `apart`. */
static void layer_product(Pipeline *s, const Layer *l, long at, int count, float *y, long apart) {
    if (l->weight16) product_int16(l, s->deep, l->C + APART, count, at, y, apart, s->deep16);
    else product(l, s->deep, l->C + APART, count, at, y, apart, 0, panels(l));
}

/* Pixels `at` to `at` + count - 1 of the picture, from the second layer's depthwise convolution. */
static void picture_pixels(Pipeline *s, long at, int count) {
    const Block *b = s->block;
    layer_product(s, &b->second, at, count, s->last, b->second.O);
    product(&b->image, s->last, b->second.O, count, at, s->bands, COLUMNS, 0, 1);
    const float *z = s->bands;
    while (count > 0) {
        int h = (int)(at / b->W), w = (int)(at % b->W), n = least(count, b->W - w);
        to_picture(s, z, h, w, n);
        at += n, count -= n, z += n * COLUMNS;
    }
}

/* Rows `from` to `to` - 1 of a layer, from x to y; of the second, to the picture if there is one. */
static void layer_rows(Pipeline *s, const Layer *l, const Ring *x, const Ring *y, int from, int to) {
    int W = s->block->W;
    while (from < to) {
        int rows = least(to - from, y->count - place_of(y, from));
        long begin = (long)from * W, end = begin + (long)rows * W;
        for (long at = begin; at < end; at += PIXELS) {
            int count = (int)(end - at < PIXELS ? end - at : PIXELS);
            depthwise_pixels(s, l, x, at, count);
            if (y->data) layer_product(s, l, at, count, row_of(y, from) + (at - begin) * y->apart, y->apart);
            else picture_pixels(s, at, count);
        }
        from += rows;
    }
}

/* All that is needed for the block's rows before `to`. Each layer reads a row further than it makes. */
static void advance(Pipeline *s, int to) {
    const Block *b = s->block;
    int first_to = least(b->H, to + 1), up_to = least(b->H, first_to + 1);
    for (int h = s->up_rows; h < up_to; h += b->up ? 2 : 1, s->up_rows = h)
        if (b->up)
            inverse_haar(row_of(&s->x, h / 2), b->up, b->W, b->first.C, row_of(&s->up, h), row_of(&s->up, h + 1));
        else
            copy_row(row_of(&s->x, h), b->W, b->first.C, row_of(&s->up, h));
    layer_rows(s, &b->first, &s->up, &s->middle, s->first_rows, first_to);
    layer_rows(s, &b->second, &s->middle, &s->y, s->second_rows, to);
    s->first_rows = first_to, s->second_rows = to;
}

/* ---- Threads ---- */

/* The rows that a thread has still to do, (first << 32) + end, are changed by one instruction: it takes some from their
 * beginning, and a thread that has none left takes the second half of the most that another has. So one that gets less
 * of the processor does less, and the others need not wait for it. */
static int take(int64_t *shares, int thread, int rows, int *from, int *to) {
    int64_t was = __atomic_load_n(shares + thread, __ATOMIC_RELAXED);
    for (;;) {
        int first = (int)(was >> 32), end = (int)(was & 0x7fffffff), next = least(end, first + rows);
        if (first >= end) return 0;
        if (__atomic_compare_exchange_n(shares + thread, &was, ((int64_t)next << 32) + end, 0, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED)) {
            *from = first, *to = next;
            return 1;
        }
    }
}

static int take_over(int64_t *shares, int threads, int thread, int rows) {
    for (;;) {
        int from = -1, left = 2 * rows - 1; /* fewer are not worth what has to be made again at their border */
        int64_t was = 0;
        for (int i = 0; i < threads; i++) {
            int64_t share = __atomic_load_n(shares + i, __ATOMIC_RELAXED);
            int rest = (int)(share & 0x7fffffff) - (int)(share >> 32);
            if (i != thread && rest > left) from = i, left = rest, was = share;
        }
        if (from < 0) return 0;
        int end = (int)(was & 0x7fffffff), middle = end - left / 2 / rows * rows;
        if (__atomic_compare_exchange_n(shares + from, &was, (was & ~(int64_t)0x7fffffff) + middle, 0, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED)) {
            __atomic_store_n(shares + thread, ((int64_t)middle << 32) + end, __ATOMIC_RELAXED);
            return 1;
        }
    }
}

/* A block, as thread `thread` of `threads`: rows from `shares`, each thread's (first << 32) + end, first even.
 * `space`: block_size(b) floats of its own. */
void block(const Block *b, int64_t *shares, int threads, int thread, float *space) {
    Pipeline s = {0};
    Memory m = {(float *)(((uintptr_t)space + 63) & ~(uintptr_t)63), 0};
    lay_out(&s, b, &m);
    memset(s.zero, 0, sizeof(float) * b->W * (most(b->first.C, b->second.C) + APART));
    int from, to, after = -1;
    do
        while (take(shares, thread, s.at_a_time, &from, &to)) {
            if (from != after) s.second_rows = from, s.first_rows = most(0, from - 1), s.up_rows = most(0, from - 2);
            advance(&s, to), after = to;
        }
    while (take_over(shares, threads, thread, 2 * s.at_a_time));
}

/* A product alone, x [count][C], `apart`, to y [count][O]: panels that no other thread has taken; `next`: the first. */
void panels_of(const Layer *l, const float *x, long apart, int count, float *y, int32_t *next) {
    for (int i; (i = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < panels(l);)
        product(l, x, apart, count, 0, y, l->O, i, i + 1);
}
