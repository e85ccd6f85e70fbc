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

/* Y of BT.601 in 0..255, as OpenCV's cvtColor has it: the weights in 1/32768. */
static inline int luma(const uint8_t *p) { return (9798 * p[0] + 19235 * p[1] + 3735 * p[2] + 16384) >> 15; }

/* Place i of a line of n that goes on as its own mirror image, the last place not repeated. */
static inline int mirrored(int i, int n) { return i < 0 ? -i : i >= n ? 2 * n - 2 - i : i; }

/* The blocks above and below (or left and right of) pixel i, and how much of the second. */
static inline float between_blocks(int i, int block, int blocks, int *first, int *second) {
    float at = ((float)i + 0.5f) / (float)block - 0.5f;
    if (at < 0.0f) at = 0.0f;
    *first = (int)at;
    *second = *first + 1 < blocks ? *first + 1 : blocks - 1;
    return at - (float)*first;
}

/* The invisible mark of mien.media.watermark on a square picture [size][size] RGBA, whose docstring has the equations.
 * `field`: [period][period], repeated; `flat`, `slope`, `most`: of the gain. */
void watermark(uint8_t *rgba, const float *field, int size, int period, float flat, float slope, float most) {
    int block = size / 32 > 1 ? size / 32 : 1, blocks = size / block, reach = block / 2, window = 2 * reach + 1;
    unsigned long mark = heap_mark();
    uint8_t *grey = malloc((size_t)size * size);
    int *columns = malloc(sizeof(int) * size);
    float *gain = malloc(sizeof(float) * blocks * blocks);
    for (int i = 0; i < size * size; i++) grey[i] = (uint8_t)luma(rgba + 4 * i);
    for (int i = 0; i < blocks * blocks; i++) gain[i] = 0.0f;
    for (int y = 0; y < size; y++) {
        for (int x = 0; x < size; x++) columns[x] = 0;
        for (int k = -reach; k <= reach; k++) {
            const uint8_t *line = grey + mirrored(y + k, size) * size;
            for (int x = 0; x < size; x++) columns[x] += line[x];
        }
        int sum = 0;
        for (int k = -reach - 1; k < reach; k++) sum += columns[mirrored(k, size)];
        for (int x = 0; x < size; x++) {
            sum += columns[mirrored(x + reach, size)] - columns[mirrored(x - reach - 1, size)];
            int mean = (sum + window * window / 2) / (window * window), here = grey[y * size + x];
            gain[y / block * blocks + x / block] += (float)(here > mean ? here - mean : mean - here);
        }
    }
    for (int i = 0; i < blocks * blocks; i++) {
        float wanted = flat + slope * gain[i] / (float)(block * block);
        gain[i] = wanted < most ? wanted : most;
    }
    for (int y = 0; y < size; y++) {
        int above, below, left, right;
        float down = between_blocks(y, block, blocks, &above, &below);
        for (int x = 0; x < size; x++) {
            float along = between_blocks(x, block, blocks, &left, &right);
            const float *a = gain + above * blocks, *b = gain + below * blocks;
            float high = a[left] + along * (a[right] - a[left]), low = b[left] + along * (b[right] - b[left]);
            int added = (int)rintf((high + down * (low - high)) * field[y % period * period + x % period]);
            for (int c = 0; c < 3; c++) {
                int value = rgba[4 * (y * size + x) + c] + added;
                rgba[4 * (y * size + x) + c] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
            }
        }
    }
    heap_release(mark);
}
