/* The page's decoder for WebAssembly: the kernels of synthesis.c, and what surrounds them in nets/decoder/decoder.py and
 * nets/styleflow.py as PyTorch. The caller (web/network.js) lays out memory and calls these; nothing is kept here but the
 * end of what is allocated. `make page` builds it.
 */
#include "synthesis.c"

extern unsigned char __heap_base;
static unsigned long heap_end;

/* `size` bytes at a multiple of 64. Memory is given back from the end only: `heap_mark`, `heap_release`. */
void *malloc(size_t size) {
    if (!heap_end) heap_end = (unsigned long)&__heap_base;
    unsigned long at = (heap_end + 63) & ~63ul, end = at + size, pages = __builtin_wasm_memory_size(0);
    if (end < at) return 0;
    if (end > pages << 16 && __builtin_wasm_memory_grow(0, (end - (pages << 16) + 65535) >> 16) == ~0ul) return 0;
    heap_end = end;
    return (void *)at;
}

void free(void *place) { (void)place; }

unsigned long heap_mark(void) { return heap_end; }
void heap_release(unsigned long mark) { heap_end = mark; }

void *memset_bytes(void *to, int byte, size_t size) { return __builtin_memset(to, byte, size); }

/* binary16 to float, finite or not. */
static inline float of_half(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
    union { uint32_t bits; float number; } u;
    if (exponent == 0) {
        u.number = (float)fraction * 0x1p-24f;
        u.bits |= sign;
    } else {
        u.bits = sign | (exponent == 31 ? 255u << 23 : (exponent + 112) << 23) | fraction << 13;
    }
    return u.number;
}

void halves(const uint16_t *x, float *y, long count) {
    for (long i = 0; i < count; i++) y[i] = of_half(x[i]);
}

/* y += step * x for signed bytes: the difference of a whole tensor ("MTD1"). */
void add_steps(const int8_t *x, float step, float *y, long count) {
    for (long i = 0; i < count; i++) y[i] += (float)x[i] * step;
}

/* D of docs/format.md, "Compact tuned weights", added to weight [O][I][k][k]: b [rank][O k], a [rank][I k] holds S + A. */
void add_low_rank(float *weight, const float *b, const float *a, int rank, int O, int I, int k, float scale) {
    float *line = malloc(sizeof(float) * I * k);
    for (int r = 0; r < O * k; r++) {
        for (int c = 0; c < I * k; c++) line[c] = 0.0f;
        for (int j = 0; j < rank; j++) {
            float f = b[(long)j * O * k + r];
            const float *from = a + (long)j * I * k;
            for (int c = 0; c < I * k; c++) line[c] += f * from[c];
        }
        float *to = weight + (long)(r / k) * I * k * k + r % k * k;
        for (int i = 0; i < I; i++)
            for (int x = 0; x < k; x++) to[(long)i * k * k + x] += line[i * k + x] * scale;
    }
}

/* Rows of y [rows][O] = x [rows][C] times the transpose of w [O][C], times scale, plus bias [O]; C a multiple of 4. */
void linear(const float *x, const float *w, const float *bias, float *y, int rows, int C, int O, float scale) {
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < O; o++) {
            const float *a = x + (long)r * C, *b = w + (long)o * C;
            v8 sum = all(0.0f);
            int c = 0;
            for (; c + 8 <= C; c += 8) sum += load(a + c) * load(b + c);
            float s = total(sum);
            for (; c < C; c++) s += a[c] * b[c];
            y[(long)r * O + o] = s * scale + (bias ? bias[o] : 0.0f);
        }
}

/* energy [O][C]: squared weights [O][C][taps], summed over the kernel. */
void energies(const float *weight, float *energy, long count, int taps) {
    for (long i = 0; i < count; i++) {
        float sum = 0.0f;
        for (int k = 0; k < taps; k++) sum += weight[i * taps + k] * weight[i * taps + k];
        energy[i] = sum;
    }
}

/* gain [O] = sqrt(2 / (energy style^2 + epsilon)): demodulation and the layer's gain. `squares`: [C], written here. */
void gains(const float *energy, const float *style, float *squares, float *gain, int C, int O) {
    for (int c = 0; c < C; c++) squares[c] = style[c] * style[c];
    linear(squares, energy, 0, gain, 1, C, O, 1.0f);
    for (int o = 0; o < O; o++) gain[o] = 1.41421356f / __builtin_sqrtf(gain[o] + 1e-8f);
}

/* matrices [K][N / 16][C][16] of weight [O][C][9] by rows [K][9], N = O or the next multiple of 16 (filled with zeros). */
void transform(const float *weight, const float *rows, float *out, int K, int O, int C) {
    int padded = (O + COLUMNS - 1) / COLUMNS * COLUMNS;
    float taps[9][COLUMNS];
    for (int n = 0; n < padded; n += COLUMNS)
        for (int c = 0; c < C; c++) {
            for (int i = 0; i < COLUMNS; i++)
                for (int t = 0; t < 9; t++) taps[t][i] = n + i < O ? weight[((long)(n + i) * C + c) * 9 + t] : 0.0f;
            for (int k = 0; k < K; k++) {
                float *to = out + ((long)k * padded + n) * C + (long)c * COLUMNS;
                v8 low = all(0.0f), high = all(0.0f);
                for (int t = 0; t < 9; t++) {
                    float f = rows[9 * k + t];
                    if (f != 0.0f) low += f * load(taps[t]), high += f * load(taps[t] + 8);
                }
                store(to, low), store(to + 8, high);
            }
        }
}

/* Floats of [-1, 1] [pixels][3] to opaque RGBA, rounded to the nearest, ties to even. */
void to_rgba(const float *x, uint8_t *y, long pixels) {
    for (long i = 0; i < pixels; i++) {
        for (int c = 0; c < 3; c++) {
            float v = x[3 * i + c];
            v = v < -1.0f ? -1.0f : v > 1.0f ? 1.0f : v;
            y[4 * i + c] = (uint8_t)(int)rintf((v + 1.0f) * 127.5f);
        }
        y[4 * i + 3] = 255;
    }
}
