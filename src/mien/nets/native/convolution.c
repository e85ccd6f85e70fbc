/* The gradient of a 3x3 convolution for its weights, on a CPU.
 *
 * Feature maps are float [N][H][W][C], without a border. Only GNU C's vectors are used, no instructions of one processor.
 */
typedef float v8 __attribute__((vector_size(32)));
typedef float v8_anywhere __attribute__((vector_size(32), aligned(4), may_alias));

/* A tile of sums is ACROSS channels of one map by VECTOR of the other by the three taps of a row: twelve vectors, which
 * with what they are made of fill the sixteen registers of AVX2. PIXELS: summed in registers before a tile is put back;
 * panels of so many stay in the first cache. */
enum { SIDE = 3, TAPS = SIDE * SIDE, ACROSS = 4, VECTOR = 8, TILE = SIDE * ACROSS * VECTOR, PIXELS = 256 };

static inline v8 load(const float *p) { return *(const v8_anywhere *)p; }
static inline void add(float *p, v8 v) { *(v8_anywhere *)p = load(p) + v; }
static inline int parts(int count, int size) { return (count + size - 1) / size; }
static inline int least(int a, int b) { return a < b ? a : b; }

/* What is summed at once: `rows` of `images` pictures of W columns, and the `tall` rows and `wide` columns that taps reach
 * from there. */
typedef struct {
    int images, rows, W, step, tall, wide;
} Strip;

static Strip strip_of(int N, int H, int W, int step) {
    Strip s = {.images = 1, .rows = H, .W = W, .step = step};
    if (H * W < PIXELS)
        s.images = least(N, PIXELS / (H * W));
    else
        s.rows = W < PIXELS ? PIXELS / W : 1;
    s.tall = step * (s.rows - 1) + SIDE;
    s.wide = step * (W - 1) + SIDE;
    return s;
}

/* Floats of `scratch` that `convolution_weights` needs. */
long convolution_weights_scratch(int N, int H, int W, int A, int B, int step) {
    const Strip s = strip_of(N, H, W, step);
    const long as = parts(A, ACROSS), bs = parts(B, VECTOR);
    return as * bs * SIDE * TILE + as * ACROSS * s.images * s.rows * W + bs * VECTOR * s.images * s.tall * s.wide;
}

/* to [images][tall][wide][size]: `size` channels from `first` on of `x` [.][H][W][C], from row `top` and column `left` on,
 * zero where there are none. */
static void pack(const float *x, float *to, int images, int tall, int wide, int size, int first, int top, int left, int H,
                 int W, int C) {
    const int here = least(size, C - first);
    for (int n = 0; n < images; n++, x += (long)H * W * C)
        for (int i = top; i < top + tall; i++)
            for (int j = left; j < left + wide; j++, to += size) {
                const int inside = i >= 0 && i < H && j >= 0 && j < W;
                const float *from = x + ((long)i * W + j) * C + first;
                if (inside && here == VECTOR)
                    *(v8_anywhere *)to = load(from);
                else
                    for (int c = 0; c < size; c++) to[c] = inside && c < here ? from[c] : 0.0f;
            }
}

/* sums [3][ACROSS][VECTOR] += a [images][rows][W][ACROSS] times b [images][tall][wide][VECTOR] at three columns. `step` is a
 * constant where this is used: columns that two pixels in a row share stay in registers. */
static inline __attribute__((always_inline)) void tile(
    const int step, const float *a, const float *b, float *sums, const Strip *s) {
    v8 sum[SIDE][ACROSS] = {{{0}}};
    for (int n = 0; n < s->images; n++)
        for (int i = 0; i < s->rows; i++) {
            const float *x = b + ((long)n * s->tall + step * i) * s->wide * VECTOR;
            v8 x0 = load(x), x1 = load(x + VECTOR);
            for (int j = 0; j < s->W; j++, a += ACROSS, x += step * VECTOR) {
                if (step == 2) x1 = load(x + VECTOR);
                const v8 x2 = load(x + 2 * VECTOR);
#pragma GCC unroll 4
                for (int k = 0; k < ACROSS; k++) {
                    sum[0][k] += a[k] * x0;
                    sum[1][k] += a[k] * x1;
                    sum[2][k] += a[k] * x2;
                }
                x0 = step == 2 ? x2 : x1;
                x1 = x2;
            }
        }
#pragma GCC unroll 3
    for (int e = 0; e < SIDE; e++)
#pragma GCC unroll 4
        for (int k = 0; k < ACROSS; k++) add(sums + (e * ACROSS + k) * VECTOR, sum[e][k]);
}

/* out: for A, B and a tap (y, x) the sum over all n, i, j of a[n][i][j][A] times
 * b[n][step * i + y - border][step * j + x - border][B]. From one A, B and tap to the next in `out` it is `to_a`, `to_b` and
 * `to_tap` floats.
 *
 * Of a convolution, a is the gradient of what it gave, `b` what it was given, `step` its stride; of a transposed one a is
 * what it was given and b the gradient. */
void convolution_weights(const float *a, const float *b, float *out, float *scratch, int N, int H, int W, int A, int HB,
                         int WB, int B, int step, int border, long to_a, long to_b, long to_tap) {
    Strip s = strip_of(N, H, W, step);
    const int as = parts(A, ACROSS), bs = parts(B, VECTOR);
    float *const sums = scratch, *const panels = sums + (long)as * bs * SIDE * TILE;
    float *const panel = panels + (long)as * ACROSS * s.images * s.rows * W;
    for (long i = 0; i < (long)as * bs * SIDE * TILE; i++) sums[i] = 0;
    const int images = s.images, rows = s.rows;
    for (int n = 0; n < N; n += images)
        for (int i = 0; i < H; i += rows) {
            s.images = least(images, N - n);
            s.rows = least(rows, H - i);
            s.tall = step * (s.rows - 1) + SIDE;
            const long size = (long)s.images * s.rows * W * ACROSS;
            for (int p = 0; p < as; p++)
                pack(a + (long)n * H * W * A, panels + p * size, s.images, s.rows, W, ACROSS, p * ACROSS, i, 0, H, W, A);
            for (int q = 0; q < bs; q++) {
                pack(b + (long)n * HB * WB * B, panel, s.images, s.tall, s.wide, VECTOR, q * VECTOR, step * i - border,
                     -border, HB, WB, B);
                for (int p = 0; p < as; p++)
                    for (int y = 0; y < SIDE; y++) {
                        const float *of_b = panel + (long)y * s.wide * VECTOR;
                        float *const of_sums = sums + (((long)p * bs + q) * SIDE + y) * TILE;
                        if (step == 1)
                            tile(1, panels + p * size, of_b, of_sums, &s);
                        else
                            tile(2, panels + p * size, of_b, of_sums, &s);
                    }
            }
        }
    for (int o = 0; o < A; o++)
        for (int t = 0; t < TAPS; t++) {
            float *const to = out + o * to_a + t * to_tap;
            const float *const from = sums + ((long)o / ACROSS * bs * TAPS * ACROSS + t * ACROSS + o % ACROSS) * VECTOR;
            for (int c = 0; c < B; c++) to[c * to_b] = from[(long)c / VECTOR * SIDE * TILE + c % VECTOR];
        }
}
