/* magnitudes.py's coder, decision for decision: what it writes and reads is specified in docs/format.md, "Range coder"
   and "Compact tuned weights". */

#include <stdint.h>

#define UNARY 12
#define PREFIX 18

typedef struct {
    int32_t quick, slow, count;
} Bit;

/* One interval of 32 bits; `low`, `held` and `pending` are the encoder's, `code` is the decoder's. `room` is the size of
   `bytes`, for reading and for writing; the encoder counts on beyond it. */
typedef struct {
    uint64_t low;
    uint32_t range, code;
    int held;
    long pending, at, room;
    uint8_t *bytes;
} Coder;

typedef struct {
    Bit nonzero[5], more[3][UNARY], prefix[PREFIX + 1];
} Models;

static void start(Bit *bit, int chance) { *bit = (Bit){chance, chance, 5}; }

static void new_models(Models *m) {
    static const int nonzero[5] = {9000, 24000, 34000, 44000, 50000};
    for (int i = 0; i < 5; i++) start(&m->nonzero[i], nonzero[i]);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < UNARY; j++) start(&m->more[i][j], 20000);
    for (int i = 0; i <= PREFIX; i++) start(&m->prefix[i], 32768);
}

/* The range's part for a 1. */
static uint32_t bound_of(const Coder *c, const Bit *bit) {
    int chance = (bit->quick + bit->slow) >> 2;
    chance = chance < 64 ? 64 : chance > 32704 ? 32704 : chance;
    return (c->range >> 15) * (uint32_t)chance;
}

/* Rounds down, as the format does, where C rounds towards zero. */
static int32_t share(int32_t difference, int32_t count) {
    int32_t q = difference / count;
    return difference % count < 0 ? q - 1 : q;
}

static void learn(Bit *bit, int one) {
    int32_t target = one ? 65535 : 0, count = bit->count;
    bit->quick += share(target - bit->quick, count < 24 ? count : 24);
    bit->slow += share(target - bit->slow, count);
    if (count < 120) bit->count = count + 1;
}

static void put(Coder *c, uint8_t byte) {
    if (c->at < c->room) c->bytes[c->at] = byte;
    c->at++;
}

static void shift(Coder *c) {
    if (c->low < 0xFF000000u || c->low > 0xFFFFFFFFu) {
        int carry = (int)(c->low >> 32);
        if (c->held >= 0) put(c, (uint8_t)(c->held + carry));
        for (; c->pending; c->pending--) put(c, (uint8_t)(0xFF + carry));
        c->held = (int)(c->low >> 24 & 0xFF);
    } else
        c->pending++;
    c->low = c->low << 8 & 0xFFFFFFFFu;
}

static void widen(Coder *c) {
    while (c->range < 1u << 24) {
        c->range <<= 8;
        shift(c);
    }
}

static int write_bit(Coder *c, Bit *bit, int one) {
    uint32_t bound = bound_of(c, bit);
    if (one)
        c->range = bound;
    else {
        c->low += bound;
        c->range -= bound;
    }
    learn(bit, one);
    widen(c);
    return one;
}

static void write_plain(Coder *c, int one) {
    c->range >>= 1;
    if (!one) c->low += c->range;
    widen(c);
}

static void fill(Coder *c) {
    while (c->range < 1u << 24) {
        c->range <<= 8;
        c->code = c->code << 8 | (c->at < c->room ? c->bytes[c->at] : 0);
        c->at++;
    }
}

static int read_bit(Coder *c, Bit *bit) {
    uint32_t bound = bound_of(c, bit);
    int one = c->code < bound;
    if (one)
        c->range = bound;
    else {
        c->code -= bound;
        c->range -= bound;
    }
    learn(bit, one);
    fill(c);
    return one;
}

static int read_plain(Coder *c) {
    c->range >>= 1;
    int one = c->code < c->range;
    if (!one) c->code -= c->range;
    fill(c);
    return one;
}

static int least(int64_t a, int b) { return a < b ? (int)a : b; }

/* Writes `pieces` arrays of magnitudes, one after the other, of `lengths` each; models are new for each. Returns how many
   bytes that took, which may be more than the `room` in `out`: then they are not all there; or -1 where a magnitude is too
   large. */
long write_magnitudes(const int64_t *magnitudes, const int64_t *lengths, int pieces, uint8_t *out, long room) {
    Coder c = {.range = 0xFFFFFFFFu, .held = -1, .room = room, .bytes = out};
    Models m;
    for (int piece = 0; piece < pieces; piece++) {
        int last = 0, before = 0;
        new_models(&m);
        for (int64_t i = 0; i < lengths[piece]; i++) {
            int64_t magnitude = *magnitudes++;
            int context = last + before, value = 1;
            before = last, last = least(magnitude, 2);
            if (!write_bit(&c, &m.nonzero[context], magnitude > 0)) continue;
            Bit *more = m.more[(context + 1) / 2];
            while (value < UNARY && write_bit(&c, &more[value], magnitude > value)) value++;
            if (value < UNARY) continue;
            uint64_t rest = (uint64_t)magnitude - UNARY + 1;
            int width = 63 - __builtin_clzll(rest);
            if (width >= PREFIX) return -1;
            for (int length = 0; length < width; length++) write_bit(&c, &m.prefix[length], 1);
            write_bit(&c, &m.prefix[width], 0);
            for (int place = width - 1; place >= 0; place--) write_plain(&c, (int)(rest >> place & 1));
        }
    }
    /* Of the numbers within the interval that with the most zeros at its end, which are left out. */
    for (int bits = 32; bits >= 0; bits--) {
        uint64_t value = (c.low + (1ull << bits) - 1) >> bits << bits;
        if (value < c.low + c.range) {
            c.low = value;
            break;
        }
    }
    for (int i = 0; i < 5; i++) shift(&c);
    if (c.at > room) return c.at;
    while (c.at && !out[c.at - 1]) c.at--;
    return c.at;
}

/* Reads what `write_magnitudes` wrote from `size` bytes into `magnitudes`. Returns 0, or -1 where bytes are damaged. */
int read_magnitudes(const uint8_t *data, long size, const int64_t *lengths, int pieces, int64_t *magnitudes) {
    Coder c = {.range = 0xFFFFFFFFu, .room = size, .bytes = (uint8_t *)data};
    Models m;
    for (; c.at < 4; c.at++) c.code = c.code << 8 | (c.at < size ? data[c.at] : 0);
    for (int piece = 0; piece < pieces; piece++) {
        int last = 0, before = 0;
        new_models(&m);
        for (int64_t i = 0; i < lengths[piece]; i++) {
            int context = last + before;
            int64_t value = 0;
            if (read_bit(&c, &m.nonzero[context])) {
                Bit *more = m.more[(context + 1) / 2];
                for (value = 1; value < UNARY && read_bit(&c, &more[value]);) value++;
                if (value == UNARY) {
                    int width = 0;
                    while (read_bit(&c, &m.prefix[width]))
                        if (++width >= PREFIX) return -1;
                    int64_t rest = 1;
                    for (; width; width--) rest = rest << 1 | read_plain(&c);
                    value = rest + UNARY - 1;
                }
            }
            before = last, last = least(value, 2);
            *magnitudes++ = value;
        }
    }
    return 0;
}
