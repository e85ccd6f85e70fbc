/* An inverted residual block (Sandler et al. 2018) whose weights stay as they are, and the gradient for what went in: a
 * product that expands the channels, ReLU6, a depthwise convolution with TensorFlow's "same" padding, ReLU6, a product, and
 * a shortcut. Row after row, so that the expanded channels, which are most of the memory of such a network, stay in the
 * cache; what a gradient needs of them is whether they were within ReLU6's slope, a byte each.
 *
 * Feature maps are float [H][W][C] of one picture. Widths are multiples of 4, inner channels of 16, outer ones of 8.
 */
#include "products.h"

typedef signed char bytes __attribute__((vector_size(8)));
typedef signed char bytes_anywhere __attribute__((vector_size(8), aligned(1), may_alias));

/* Products' weights are in panels of 16 outputs, zeros where there are fewer. `expand` [E / 16][C][16] and `expand_bias` [E],
 * or null where E = C; `taps` [kernel][kernel][E] and `taps_bias` [E]; `project` [O / 16][E][16] and `project_bias` [O];
 * their transposes `project_back` [E / 16][O][16], `expand_back` [C / 16][E][16]. */
typedef struct {
    const float *expand, *expand_bias, *taps, *taps_bias, *project, *project_bias, *project_back, *expand_back;
    int32_t channels, inner, outputs, kernel, stride, shortcut;
} Block;

typedef struct {
    int H, W, oh, ow, top, left; /* of input and output, and where a window begins before its pixel */
} Shape;

static int before(int size, int out, const Block *b) {
    int total = (out - 1) * b->stride + b->kernel - size;
    return total > 0 ? total / 2 : 0;
}

static Shape shape_of(const Block *b, int H, int W) {
    int oh = (H + b->stride - 1) / b->stride, ow = (W + b->stride - 1) / b->stride;
    return (Shape){H, W, oh, ow, before(H, oh, b), before(W, ow, b)};
}

/* Output pixels at a time, whose windows cover at most REACH columns; zeros before and after a row. */
enum { ACROSS = 4, REACH = 11, BORDER = 4 };

static inline long row_size(const Block *b, int W) { return (long)(W + 2 * BORDER) * b->inner; }

static inline int padded(int n) { return (n + COLUMNS - 1) / COLUMNS * COLUMNS; }

/* Floats of `scratch` that both functions need. */
long residual_scratch(const Block *b, int W) {
    long most = padded(b->channels > b->outputs ? b->channels : b->outputs);
    return (b->kernel + 1) * row_size(b, W) + W * most + 16;
}

/* `rows` rows of numbers with N (up to a multiple of 16) each, from rows of K. */
static void multiplied(const float *a, int K, const float *panels, float *y, int N, int rows) {
    const int step = padded(N);
    for (int n = 0; n < step; n += COLUMNS) products(a, K, panels + (long)n * K, y + n, step, rows);
}

/* ReLU6 of z plus the bias, in place; `within`, where it is not null: -1 where its slope is 1, else 0. */
static void activated(float *z, const float *bias, signed char *within, int rows, int N) {
    for (int r = 0; r < rows; r++, z += N, within += within ? N : 0)
        for (int c = 0; c < N; c += 8) {
            v8 v = load(z + c) + load(bias + c);
            if (within) *(bytes_anywhere *)(within + c) = __builtin_convertvector((v > all(0)) & (v < all(6)), bytes);
            store(z + c, smaller(larger(v, all(0)), all(6)));
        }
}

static void masked(float *g, const signed char *within, long size) {
    for (long c = 0; c < size; c += 8) {
        lanes kept = __builtin_convertvector(*(const bytes_anywhere *)(within + c), lanes);
        store(g + c, (v8)((lanes)load(g + c) & kept));
    }
}

/* The rows of a ring that the window of output row `r` covers, from its first column on; null where there is none. */
static inline void rows_of(const Block *b, Shape s, float *ring, int r, float **rows) {
    for (int d = 0; d < b->kernel; d++) {
        int i = r * b->stride - s.top + d;
        rows[d] = i < 0 || i >= s.H ? 0 : ring + i % b->kernel * row_size(b, s.W) + (long)(BORDER - s.left) * b->inner;
    }
}

/* A row of the depthwise convolution, without bias; `k` and `stride` are constants where this is used. */
static inline __attribute__((always_inline)) void filtered_row(const int k, const int stride, float *const *rows,
                                                               const float *taps, int E, float *y, int ow) {
    for (int j = 0; j < ow; j += ACROSS)
        for (int c = 0; c < E; c += 8) {
            v8 sum[ACROSS] = {{0}};
            for (int d = 0; d < k; d++) {
                if (!rows[d]) continue;
                const float *from = rows[d] + (long)j * stride * E + c;
                v8 x[REACH];
#pragma GCC unroll 11
                for (int e = 0; e < (ACROSS - 1) * stride + k; e++) x[e] = load(from + (long)e * E);
#pragma GCC unroll 5
                for (int e = 0; e < k; e++) {
                    v8 tap = load(taps + (long)(d * k + e) * E + c);
#pragma GCC unroll 4
                    for (int n = 0; n < ACROSS; n++) sum[n] += x[n * stride + e] * tap;
                }
            }
#pragma GCC unroll 4
            for (int n = 0; n < ACROSS; n++) store(y + (long)(j + n) * E + c, sum[n]);
        }
}

/* Its transpose: a row of the gradient for its result is added to the rows of that for its input. */
static inline __attribute__((always_inline)) void spread_row(const int k, const int stride, float *const *rows,
                                                             const float *taps, int E, const float *g, int ow) {
    for (int j = 0; j < ow; j += ACROSS)
        for (int c = 0; c < E; c += 8) {
            v8 of[ACROSS];
#pragma GCC unroll 4
            for (int n = 0; n < ACROSS; n++) of[n] = load(g + (long)(j + n) * E + c);
            for (int d = 0; d < k; d++) {
                if (!rows[d]) continue;
                float *to = rows[d] + (long)j * stride * E + c;
                v8 x[REACH];
#pragma GCC unroll 11
                for (int e = 0; e < (ACROSS - 1) * stride + k; e++) x[e] = load(to + (long)e * E);
#pragma GCC unroll 5
                for (int e = 0; e < k; e++) {
                    v8 tap = load(taps + (long)(d * k + e) * E + c);
#pragma GCC unroll 4
                    for (int n = 0; n < ACROSS; n++) x[n * stride + e] += of[n] * tap;
                }
#pragma GCC unroll 11
                for (int e = 0; e < (ACROSS - 1) * stride + k; e++) store(to + (long)e * E, x[e]);
            }
        }
}

/* `function` of constant kernels and strides. */
#define BY_KIND(function, b, ...)                               \
    do {                                                        \
        if (b->kernel == 3 && b->stride == 1) function(3, 1, __VA_ARGS__); \
        else if (b->kernel == 3) function(3, 2, __VA_ARGS__);   \
        else if (b->stride == 1) function(5, 1, __VA_ARGS__);   \
        else function(5, 2, __VA_ARGS__);                       \
    } while (0)

/* y [oh][ow][O] from x [H][W][C]. `expanded` [H][W][E] and `filtered` [oh][ow][E]: what `residual_back` needs; both null
 * where no gradient follows. */
void residual(const Block *b, const float *x, float *y, signed char *expanded, signed char *filtered, float *scratch,
              int H, int W) {
    const Shape s = shape_of(b, H, W);
    const int E = b->inner, C = b->channels, O = b->outputs, k = b->kernel;
    const long row = row_size(b, W);
    float *ring = aligned(scratch), *line = ring + k * row, *out = line + row, *rows[5];
    memset(ring, 0, k * row * sizeof(float)); /* the borders */
    for (int r = 0, next = 0; r < s.oh; r++) {
        for (; next < H && next < r * b->stride - s.top + k; next++) {
            float *to = ring + next % k * row + BORDER * E;
            if (b->expand) {
                multiplied(x + (long)next * W * C, C, b->expand, to, E, W);
                activated(to, b->expand_bias, expanded ? expanded + (long)next * W * E : 0, W, E);
            } else
                memcpy(to, x + (long)next * W * C, (long)W * C * sizeof(float));
        }
        rows_of(b, s, ring, r, rows);
        BY_KIND(filtered_row, b, rows, b->taps, E, line, s.ow);
        activated(line, b->taps_bias, filtered ? filtered + (long)r * s.ow * E : 0, s.ow, E);
        multiplied(line, E, b->project, out, O, s.ow);
        for (int j = 0; j < s.ow; j++)
            for (int c = 0; c < O; c += 8) {
                const long at = ((long)r * s.ow + j) * O + c;
                v8 v = load(out + (long)j * padded(O) + c) + load(b->project_bias + c);
                store(y + at, b->shortcut ? v + load(x + at) : v);
            }
    }
}

/* of_x [H][W][C] from g [oh][ow][O], the gradient for y. */
void residual_back(const Block *b, const float *g, const signed char *expanded, const signed char *filtered, float *of_x,
                   float *scratch, int H, int W) {
    const Shape s = shape_of(b, H, W);
    const int E = b->inner, C = b->channels, O = b->outputs, k = b->kernel;
    const long row = row_size(b, W);
    float *ring = aligned(scratch), *line = ring + k * row, *out = line + row, *rows[5];
    for (int r = 0, done = 0, open = 0; done < H; r++) {
        /* Rows before this window get nothing more; beyond the last window, all do not. */
        for (int end = r < s.oh ? r * b->stride - s.top : H; done < H && done < end && done < open; done++) {
            float *from = ring + done % k * row + BORDER * E;
            const float *step = from;
            if (b->expand) {
                masked(from, expanded + (long)done * W * E, (long)W * E);
                multiplied(from, E, b->expand_back, out, C, W);
                step = out;
            }
            for (int j = 0; j < W; j++)
                for (int c = 0; c < C; c += 8) {
                    const long at = ((long)done * W + j) * C + c;
                    v8 v = load(step + (long)j * (b->expand ? padded(C) : E) + c);
                    store(of_x + at, b->shortcut ? v + load(g + at) : v);
                }
        }
        for (int end = r < s.oh ? r * b->stride - s.top + k : H; open < H && open < end && open < done + k; open++)
            memset(ring + open % k * row, 0, row * sizeof(float));
        if (r < s.oh) {
            multiplied(g + (long)r * s.ow * O, O, b->project_back, line, E, s.ow);
            masked(line, filtered + (long)r * s.ow * E, (long)s.ow * E);
            rows_of(b, s, ring, r, rows);
            BY_KIND(spread_row, b, rows, b->taps, E, line, s.ow);
        }
    }
}
