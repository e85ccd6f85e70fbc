/* The passes over pixels of MobileStyleGAN's layers (Belousov 2021, arXiv 2104.04767), forwards and backwards, for
 * learning on a CPU: depthwise 3x3 convolutions, noise and leaky ReLU, the inverse Haar transform. The products between
 * them are left to a matrix library.
 *
 * Feature maps are float [N][H][W][C], without a border; C is a multiple of 8. A gradient that is summed over pixels is
 * added to what is there. Only GNU C's vectors are used, no instructions of one processor.
 */
typedef float v8 __attribute__((vector_size(32)));
typedef float v8_anywhere __attribute__((vector_size(32), aligned(4), may_alias));
typedef int v8_lanes __attribute__((vector_size(32)));

enum { TAPS = 9, ACROSS = 4, VECTOR = 8 };

static inline v8 load(const float *p) { return *(const v8_anywhere *)p; }
static inline void store(float *p, v8 v) { *(v8_anywhere *)p = v; }
static inline void add(float *p, v8 v) { store(p, load(p) + v); }

/* v where z is positive, elsewhere v times the slope. */
static inline v8 sloped(v8 z, v8 v, float slope) {
    v8_lanes positive = z > 0.0f;
    return (v8)(((v8_lanes)v & positive) | ((v8_lanes)(slope * v) & ~positive));
}

/* The rows above, at and below row `i` of a map of H rows of `size` floats; `zeros` for those outside. */
static inline void rows_around(const float *x, const float *zeros, int H, long size, int i, const float *rows[3]) {
    for (int d = 0; d < 3; d++) {
        int at = i + d - 1;
        rows[d] = at < 0 || at >= H ? zeros : x + at * size;
    }
}

/* Columns `first` - 1 to `first` + `count` of 8 channels of a row; zero outside of the row's W columns. */
static inline __attribute__((always_inline)) void columns(
    const int count, const float *row, int first, int W, int C, int inner, v8 *x) {
#pragma GCC unroll 8
    for (int k = 0; k < count + 2; k++) {
        int at = first + k - 1;
        x[k] = inner || (at >= 0 && at < W) ? load(row + (long)at * C) : (v8){0};
    }
}

/* `count` columns (a constant where this is used) of a depthwise convolution's result. */
static inline __attribute__((always_inline)) void convolved(
    const int count, const float *rows[3], const float *taps, int first, int W, int C, float *y) {
    const int inner = first > 0 && first + count < W;
    for (int c = 0; c < C; c += VECTOR) {
        v8 sum[ACROSS];
#pragma GCC unroll 4
        for (int k = 0; k < count; k++) sum[k] = (v8){0};
#pragma GCC unroll 3
        for (int d = 0; d < 3; d++) {
            v8 x[ACROSS + 2], a = load(taps + (3 * d) * C + c), b = load(taps + (3 * d + 1) * C + c);
            v8 e = load(taps + (3 * d + 2) * C + c);
            columns(count, rows[d] + c, first, W, C, inner, x);
#pragma GCC unroll 4
            for (int k = 0; k < count; k++) sum[k] += a * x[k] + b * x[k + 1] + e * x[k + 2];
        }
#pragma GCC unroll 4
        for (int k = 0; k < count; k++) store(y + (long)k * C + c, sum[k]);
    }
}

/* y [N][H][W][C]: the depthwise 3x3 convolution with zero borders of x, by `taps` [N][9][C]. `zeros`: [W][C]. */
void depthwise(const float *x, const float *taps, const float *zeros, float *y, int N, int H, int W, int C) {
    const long size = (long)W * C;
    for (int n = 0; n < N; n++, x += H * size, y += H * size, taps += (long)TAPS * C)
        for (int i = 0; i < H; i++) {
            const float *rows[3];
            rows_around(x, zeros, H, size, i, rows);
            int j = 0;
            for (; j + ACROSS <= W; j += ACROSS) convolved(ACROSS, rows, taps, j, W, C, y + i * size + (long)j * C);
            for (; j < W; j++) convolved(1, rows, taps, j, W, C, y + i * size + (long)j * C);
        }
}

static inline __attribute__((always_inline)) void correlated(
    const int count, const float *rows[3], const float *g, int first, int W, int C, float *sums) {
    const int inner = first > 0 && first + count < W;
    for (int c = 0; c < C; c += VECTOR) {
        v8 by[ACROSS];
#pragma GCC unroll 4
        for (int k = 0; k < count; k++) by[k] = load(g + (long)k * C + c);
#pragma GCC unroll 3
        for (int d = 0; d < 3; d++) {
            v8 x[ACROSS + 2], sum[3] = {{0}, {0}, {0}};
            columns(count, rows[d] + c, first, W, C, inner, x);
#pragma GCC unroll 4
            for (int k = 0; k < count; k++)
#pragma GCC unroll 3
                for (int e = 0; e < 3; e++) sum[e] += x[k + e] * by[k];
#pragma GCC unroll 3
            for (int e = 0; e < 3; e++) add(sums + (3 * d + e) * C + c, sum[e]);
        }
    }
}

/* sums [N][9][C]: of x at each of the nine places around a pixel, times g there: a depthwise convolution's gradient for
 * its taps. `zeros`: [W][C]. */
void depthwise_taps(const float *x, const float *g, const float *zeros, float *sums, int N, int H, int W, int C) {
    const long size = (long)W * C;
    for (int n = 0; n < N; n++, x += H * size, g += H * size, sums += (long)TAPS * C)
        for (int i = 0; i < H; i++) {
            const float *rows[3];
            rows_around(x, zeros, H, size, i, rows);
            int j = 0;
            for (; j + ACROSS <= W; j += ACROSS) correlated(ACROSS, rows, g + i * size + (long)j * C, j, W, C, sums);
            for (; j < W; j++) correlated(1, rows, g + i * size + (long)j * C, j, W, C, sums);
        }
}

/* y [N][P][C] in place: the leaky ReLU of y plus `bias` [C] plus `noise` [P]. */
void activate(float *y, const float *bias, const float *noise, float slope, int N, int P, int C) {
    for (int n = 0; n < N; n++)
        for (int p = 0; p < P; p++, y += C)
            for (int c = 0; c < C; c += VECTOR) {
                v8 z = load(y + c) + (load(bias + c) + noise[p]);
                store(y + c, sloped(z, z, slope));
            }
}

/* g [N][P][C], the gradient before the leaky ReLU, from `of_y`, that for its result y; `of_bias` [C] and `of_noise` [P]:
 * its sums, or null. */
void activate_backward(const float *y, const float *of_y, float slope, float *g, float *of_bias, float *of_noise, int N,
                       int P, int C) {
    for (int n = 0; n < N; n++)
        for (int p = 0; p < P; p++, y += C, of_y += C, g += C) {
            v8 all = {0};
            for (int c = 0; c < C; c += VECTOR) {
                v8 of = load(of_y + c);
                of = sloped(load(y + c), of, slope);
                store(g + c, of);
                all += of;
            }
            if (of_bias)
                for (int c = 0; c < C; c += VECTOR) add(of_bias + c, load(g + c));
            if (of_noise) {
                float sum = 0;
                for (int k = 0; k < VECTOR; k++) sum += all[k];
                of_noise[p] += sum;
            }
        }
}

/* y [N][2H][2W][C]: the inverse Haar transform of x [N][H][W][4][C] (mean, details along height, along width, of both)
 * times `scale` [N][4][C]. */
void inverse_haar(const float *x, const float *scale, float *y, int N, int H, int W, int C) {
    for (int n = 0; n < N; n++, scale += 4 * C)
        for (int i = 0; i < H; i++, y += 4L * W * C)
            for (int j = 0; j < W; j++, x += 4 * C) {
                float *top = y + 2L * j * C, *bottom = top + 2L * W * C;
                for (int c = 0; c < C; c += VECTOR) {
                    v8 b[4];
                    for (int k = 0; k < 4; k++) b[k] = 0.5f * load(scale + k * C + c) * load(x + k * C + c);
                    v8 up = b[0] + b[1], down = b[0] - b[1], up_slope = b[2] + b[3], down_slope = b[2] - b[3];
                    store(top + c, up + up_slope);
                    store(top + C + c, up - up_slope);
                    store(bottom + c, down + down_slope);
                    store(bottom + C + c, down - down_slope);
                }
            }
}

/* Its gradients: `of_x`, like x, from `of_y`, like y; `of_scale` [N][4][C], or null. */
void inverse_haar_backward(const float *x, const float *scale, const float *of_y, float *of_x, float *of_scale, int N,
                           int H, int W, int C) {
    for (int n = 0; n < N; n++, scale += 4 * C, of_scale += of_scale ? 4 * C : 0)
        for (int i = 0; i < H; i++, of_y += 4L * W * C)
            for (int j = 0; j < W; j++, x += 4 * C, of_x += 4 * C) {
                const float *top = of_y + 2L * j * C, *bottom = top + 2L * W * C;
                for (int c = 0; c < C; c += VECTOR) {
                    v8 a = load(top + c), b = load(bottom + c), d = load(top + C + c), e = load(bottom + C + c);
                    v8 left = a + b, right = d + e, left_slope = a - b, right_slope = d - e;
                    v8 g[4] = {left + right, left_slope + right_slope, left - right, left_slope - right_slope};
                    for (int k = 0; k < 4; k++) {
                        v8 half = 0.5f * g[k];
                        store(of_x + k * C + c, half * load(scale + k * C + c));
                        if (of_scale) add(of_scale + k * C + c, half * load(x + k * C + c));
                    }
                }
            }
}
