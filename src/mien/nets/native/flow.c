/* StyleFlow's ODE by RK4, and its gradient, on a CPU.
 *
 * The velocity at a time is a chain of layers, z = (W a + b) * gate + shift, with tanh between them. Gates and shifts, which
 * know nothing of the state, are given for all times: two a step and one more.
 */
#include "products.h"

enum { MOST = 8 }; /* layers */

typedef struct {
    const float *weight[MOST];   /* [O / 16][I][16] */
    const float *transposed[MOST]; /* [I / 16][O][16], for the gradient */
    const float *bias[MOST];     /* [O] */
    const float *gate[MOST];     /* [2 steps + 1][N][O] */
    const float *shift[MOST];
    float *of_gate[MOST];        /* their gradients, which `flow_backward` adds to */
    float *of_shift[MOST];
    float step;
    int32_t layers, steps, rows;
    int32_t width[MOST + 1];
} Flow;

/* 1 - 2 / (exp(2 x) + 1), to 1e-7. */
static inline v8 hyperbolic_tangent(v8 x) {
    x = larger(smaller(x, all(9.0f)), all(-9.0f));
    v8 y = x * all(2.0f * 1.44269504f), magic = all(12582912.0f); /* rounds to whole numbers */
    v8 n = (y + magic) - magic, r = (y - n) * all(0.69314718f);
    v8 e = all(1.0f / 720);
    e = e * r + all(1.0f / 120);
    e = e * r + all(1.0f / 24);
    e = e * r + all(1.0f / 6);
    e = e * r + all(0.5f);
    e = e * r + all(1.0f);
    e = e * r + all(1.0f);
    lanes power = (__builtin_convertvector(n, lanes) + 127) << 23;
    return all(1.0f) - all(2.0f) / (e * (v8)power + all(1.0f));
}

static inline int padded(int rows) { return (rows + FEW - 1) / FEW * FEW; }

/* to [N][O] = a [N][I] by weights in panels. Rows up to `padded(N)` are read and written. */
static void product_rows(const float *a, int I, const float *weight, float *to, int O, int N) {
    for (int o = 0; o < O; o += COLUMNS) products(a, I, weight + (long)o * I, to + o, O, padded(N));
}

/* Floats that one evaluation of the velocity saves for its gradient: what goes into each layer, and what its product gives. */
static long evaluation_size(const Flow *f) {
    long size = 0;
    for (int l = 0; l < f->layers; l++) size += (long)padded(f->rows) * (f->width[l] + f->width[l + 1]);
    return size;
}

static long widest(const Flow *f) {
    int most = 0;
    for (int l = 0; l <= f->layers; l++)
        if (f->width[l] > most) most = f->width[l];
    return (long)padded(f->rows) * most;
}

/* Floats of `saved`, for all evaluations where the gradient is to follow and else for one, and of `scratch`. */
long flow_saved(const Flow *f, int differentiated) { return evaluation_size(f) * (differentiated ? 4 * f->steps : 1); }
long flow_scratch(const Flow *f) { return 5 * widest(f) + 16; }

/* k [N][D]: the velocity at x [N][D] and time number `at`. */
static void velocity(const Flow *f, const float *x, int at, float *saved, float *k) {
    const int N = f->rows;
    memcpy(saved, x, sizeof(float) * padded(N) * f->width[0]);
    for (int l = 0; l < f->layers; l++) {
        const int I = f->width[l], O = f->width[l + 1], last = l + 1 == f->layers;
        float *product = saved + (long)padded(N) * I, *to = last ? k : product + (long)padded(N) * O;
        const float *gate = f->gate[l] + (long)at * N * O, *shift = f->shift[l] + (long)at * N * O;
        product_rows(saved, I, f->weight[l], product, O, N);
        for (int n = 0; n < N; n++)
            for (int o = 0; o < O; o += 8) {
                const long i = (long)n * O + o;
                v8 z = load(product + i) + load(f->bias[l] + o);
                store(product + i, z);
                z = z * load(gate + i) + load(shift + i);
                store(to + i, last ? z : hyperbolic_tangent(z));
            }
        if (!last) memset(to + (long)N * O, 0, sizeof(float) * (padded(N) - N) * O);
        saved = to;
    }
}

/* to = x + factor * k. */
static void moved(const Flow *f, const float *x, float factor, const float *k, float *to) {
    for (long i = 0; i < (long)f->rows * f->width[0]; i += 8) store(to + i, load(x + i) + all(factor) * load(k + i));
}

/* x [padded(N)][D] in place, over all steps. Evaluations are saved one after the other if `differentiated`. */
void flow_forward(const Flow *f, float *x, float *saved, float *scratch, int differentiated) {
    const long size = widest(f), each = differentiated ? evaluation_size(f) : 0;
    float *at = aligned(scratch), *k1 = at + size, *k2 = k1 + size, *k3 = k2 + size, *k4 = k3 + size;
    memset(at, 0, 5 * size * sizeof(float));
    const float h = f->step;
    for (int s = 0; s < f->steps; s++, saved += 4 * each) {
        velocity(f, x, 2 * s, saved, k1);
        moved(f, x, h / 2, k1, at);
        velocity(f, at, 2 * s + 1, saved + each, k2);
        moved(f, x, h / 2, k2, at);
        velocity(f, at, 2 * s + 1, saved + 2 * each, k3);
        moved(f, x, h, k3, at);
        velocity(f, at, 2 * s + 2, saved + 3 * each, k4);
        for (long i = 0; i < (long)f->rows * f->width[0]; i += 8)
            store(x + i, load(x + i) + all(h / 6) * (load(k1 + i) + all(2.0f) * (load(k2 + i) + load(k3 + i)) + load(k4 + i)));
    }
}

/* g [padded(N)][D]: from the gradient for a velocity to that for the state, in place; those for gates and shifts are added. */
static void velocity_backward(const Flow *f, int at, const float *saved, float *g, float *other) {
    const int N = f->rows;
    const float *end = saved + evaluation_size(f);
    for (int l = f->layers - 1; l >= 0; l--) {
        const int I = f->width[l], O = f->width[l + 1], last = l + 1 == f->layers;
        const float *product = end - (long)padded(N) * O, *tanh = end; /* of the layer before, what follows this product */
        const long first = (long)at * N * O;
        const float *gate = f->gate[l] + first;
        float *of_gate = f->of_gate[l] + first, *of_shift = f->of_shift[l] + first;
        for (long i = 0; i < (long)N * O; i += 8) {
            v8 z = load(g + i);
            if (!last) z *= all(1.0f) - load(tanh + i) * load(tanh + i);
            store(of_gate + i, load(of_gate + i) + z * load(product + i));
            store(of_shift + i, load(of_shift + i) + z);
            store(g + i, z * load(gate + i));
        }
        memset(g + (long)N * O, 0, sizeof(float) * (padded(N) - N) * O);
        product_rows(g, O, f->transposed[l], other, I, N);
        memcpy(g, other, sizeof(float) * padded(N) * I);
        end = product - (long)padded(N) * I;
    }
}

/* g [padded(N)][D]: from the gradient for the end to that for the start, in place, with what `flow_forward` saved. */
void flow_backward(const Flow *f, float *g, const float *saved, float *scratch) {
    const long size = widest(f), each = evaluation_size(f), count = (long)f->rows * f->width[0];
    float *of_k = aligned(scratch), *other = of_k + size, *sum = other + size, *of_end = sum + size;
    const float h = f->step, share[4] = {h / 6, h / 3, h / 3, h / 6}, reach[4] = {0, h / 2, h / 2, h};
    memset(of_k, 0, 4 * size * sizeof(float));
    for (int s = f->steps - 1; s >= 0; s--) {
        memcpy(of_end, g, count * sizeof(float));
        memcpy(sum, g, count * sizeof(float));
        for (long i = 0; i < count; i += 8) store(of_k + i, all(share[3]) * load(of_end + i));
        for (int k = 3; k >= 0; k--) {
            velocity_backward(f, 2 * s + (k + 1) / 2, saved + (4L * s + k) * each, of_k, other);
            moved(f, sum, 1.0f, of_k, sum);
            if (k > 0)
                for (long i = 0; i < count; i += 8)
                    store(of_k + i, all(share[k - 1]) * load(of_end + i) + all(reach[k]) * load(of_k + i));
        }
        memcpy(g, sum, count * sizeof(float));
    }
}
