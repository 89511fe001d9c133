/* XiaoNet: P and S phases in three-component seismograms, in whole numbers.
 *
 * Model: $model
 * Weights: $provenance
 * Written by `xiaonet export --format c`.
 *
 * SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The XiaoNet developers
 *
 * How it works. The network is a U-Net of $layers convolutions with kernels of 3 samples. A column is what a layer says about one sample:
 * one byte for each of its channels. Instead of computing one layer after the other for the whole window, all layers advance together, two
 * columns at a time, and each keeps only the columns that others still need, in a ring. So $state_bytes bytes are enough.
 */
#if !defined(__STDC_VERSION__) || __STDC_VERSION__ < 199901L
#error "xiaonet.c is C99; use a compiler for C99 or newer, with an option such as -std=c99"
#endif

#include "xiaonet.h"

#include <string.h>
#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
#endif

#define LENGTH 3000  /* the network's own length: a multiple of 8 */
#define STRIDE 16    /* samples for which the bottleneck makes two columns */
#define LAYERS $layers
#define NONE -1
#if defined(__GNUC__)
#define WORDS __attribute__((aligned(4))) /* numbers of 16 bits that are read two at a time */
#else
#define WORDS
#endif

typedef struct {
    const int16_t *weights;       /* [outputs / 2][taps] of two outputs each; [outputs][taps] in the first and in the last layer */
    const int32_t *bias;          /* [outputs] */
    const int32_t *scale;         /* [outputs], in units of 2^-14 */
    uint32_t ring;                /* place of its columns in xn_state */
    uint16_t columns;             /* columns in the ring */
    uint16_t outputs;             /* channels */
    uint16_t taps;                /* 3 columns of all inputs, rounded up to a multiple of 4 with weights of 0 */
    int8_t source[2];             /* layers whose columns it reads */
    uint8_t level;                /* there are LENGTH >> level columns */
    uint8_t dilation;             /* columns between two that the kernel sees */
} layer;

$tables

/* ---- Normalisation ----
 *
 * Let n = 3001 samples r[t] at times k = t - 1500. Mean and trend of least squares are S0 / n and S1 / Q, with S0 the sum of r, S1 the sum
 * of r * k, and Q the sum of k * k, which is n * (n * n - 1) / 12 = n * M with M = 750500. In units of 1 / Q, all is a whole number:
 *
 *     y[t] = Q * r[t] - M * S0 - S1 * k
 *
 * Nothing overflows: |r| <= 2^23, |S0| <= n * 2^23, |S1| <= 2251500 * 2^23 (the sum of |k|), so
 *
 *     |y| <= 2^23 * (Q + M * n + 2251500 * 1500) = 2^23 * (2 * 2252250500 + 3377250000) = 2^23 * 7881751000 < 2^56.
 *
 * A component is dead when all y are 0. Otherwise some |y| >= Q / 4: if all |y| / Q were below 1 / 4, the second differences of r, which
 * are whole numbers, would be below 1 and thus 0, so that r would be a straight line and y would be 0.
 */
#define MEAN_UNIT 750500
#define TIME_SQUARES INT64_C(2252250500)
#define MIDDLE 1500
#define PEAK_BITS 11 /* the network reads samples in units of 2^-11 of the peak */

/* The counts of a window: those of xn_window, or the latest of a stream. */
typedef struct {
    const xn_raw *raw;
    const xn_stream *stream; /* if raw is NULL */
} window;

static int32_t clipped(int32_t raw)
{
    return raw > 8388607 ? 8388607 : raw < -8388608 ? -8388608 : raw;
}

static int32_t read_24(const uint8_t *bytes)
{
    int32_t value = (int32_t)(bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16);
    return value < 8388608 ? value : value - 16777216;
}

static void write_24(uint8_t *bytes, int32_t value)
{
    for (int i = 0; i < 3; i++) bytes[i] = (uint8_t)((uint32_t)value >> 8 * i & 255);
}

static int32_t raw_count(const window *w, int c, int t)
{
    if (w->raw != NULL) return clipped(w->raw->component[c][t]);
    int place = w->stream->window_begin + t;
    return read_24(w->stream->raw[place < XN_SAMPLES ? place : place - XN_SAMPLES][c]);
}

static void normalise(xn_state *s, const window *w)
{
    for (int c = 0; c < 3; c++) {
        int64_t sum = 0, sums = 0;
        for (int t = 0; t < XN_SAMPLES; t++) {
            sum += raw_count(w, c, t);
            sums += sum; /* r[t] is in all sums from t on, so they add up to the sum of r[t] * (n - t) */
        }
        int64_t moment = sum * (XN_SAMPLES - MIDDLE) - sums;
        s->slope[c] = moment;
        s->line[c] = sum * MEAN_UNIT - moment * MIDDLE;
        s->peak[c] = 0;
        int64_t line = s->line[c];
        for (int t = 0; t < XN_SAMPLES; t++, line += moment) {
            int64_t y = TIME_SQUARES * raw_count(w, c, t) - line;
            uint64_t size = (uint64_t)(y < 0 ? -y : y);
            if (size > s->peak[c]) s->peak[c] = size;
        }
    }
}

/* 2^11 * y / peak, rounded with half to even; |y| <= peak < 2^56. */
static int16_t divided(int64_t y, uint64_t peak)
{
    uint64_t size = (uint64_t)(y < 0 ? -y : y);
    int shift = 0, odd;
    if (peak == 0) return 0;
    while (peak >> shift >= 1 << 20) shift += 4;
    /* The quotient from the leading 17 bits or more, which may be wrong by 1. The rest, below 2^58, is right though 2^67 does not fit. */
    uint32_t quotient = ((uint32_t)(size >> shift) << PEAK_BITS) / (uint32_t)(peak >> shift);
    int64_t rest = (int64_t)((size << PEAK_BITS) - quotient * peak);
    if (rest < 0) {
        quotient--;
        rest += (int64_t)peak;
    } else if (rest >= (int64_t)peak) {
        quotient++;
        rest -= (int64_t)peak;
    }
    odd = (int)(quotient & 1);
    if (2 * rest + odd > (int64_t)peak) quotient++;
    return (int16_t)(y < 0 ? -(int32_t)quotient : (int32_t)quotient);
}

/* ---- Network ---- */

/* Put what the first layer sees at samples t and t + 1 into x. Samples come in order, so those before t + 1 are there. */
static void near_samples(xn_state *s, const window *w, int t)
{
    for (int next = t == 0 ? 0 : t + 1; next <= t + 2; next++) {
        memmove(s->near, s->near + 3, 9 * sizeof *s->near);
        for (int c = 0; c < 3; c++) {
            s->near[9 + c] = 0; /* after the window */
            if (next < LENGTH) {
                s->near[9 + c] = divided(TIME_SQUARES * raw_count(w, c, next) - s->line[c], s->peak[c]);
                s->line[c] += s->slope[c];
            }
        }
        if (next == 0) memset(s->near + 6, 0, 3 * sizeof *s->near); /* before the window */
    }
    int16_t *x = s->x;
    for (int i = 0; i < 12; i += 2) {
        *x++ = s->near[i];
        *x++ = s->near[i + 1];
        *x++ = s->near[i + 3];
        *x++ = s->near[i + 4];
    }
}

/* ---- Two columns, two outputs ----
 *
 * A layer computes two columns at once, a and b. x holds what its kernel sees: for each two inputs, both of column a and then both of
 * column b. Inputs are in the order 0, 2, 1, 3 in each group of four, because a mask gives bytes 0 and 2, or bytes 1 and 3, of a word.
 *
 * One multiplication serves two outputs. Their weights p and q, of one byte each, are one number h = p + 256 * q. The sum of h * x is
 * P + 256 * Q, where P and Q are the sums of p * x and q * x. P is computed, too, because p is the low byte of h. That gives Q.
 * Nothing overflows: |P| and |Q| are at most 2^22, which `xiaonet export` has checked.
 */
typedef struct {
    int32_t a, b;
} two;

typedef struct {
    two first, both; /* P, and P + 256 * Q */
} sums;

#if defined(__ARM_FEATURE_DSP) && defined(__GNUC__) && !defined(__ARM_BIG_ENDIAN)
static uint32_t word(const void *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static void put_word(void *bytes, uint32_t value)
{
    memcpy(bytes, &value, sizeof value);
}

/* Two products of 16 bits, added to a sum. */
static int32_t smlad(uint32_t w, uint32_t x, int32_t sum)
{
    __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(w), "r"(x));
    return sum;
}

static void copy(uint8_t *to, const uint8_t *from, int bytes)
{
    for (const uint8_t *end = from + bytes; from < end; from += 4, to += 4) put_word(to, word(from));
}

/* The larger of each two bytes. */
static void copy_larger(uint8_t *to, const uint8_t *a, const uint8_t *b, int bytes)
{
    for (int i = 0; i < bytes; i += 4) {
        uint32_t one = word(a + i), other = word(b + i), larger;
        __asm__("usub8 %0, %1, %2\n\tsel %0, %1, %2" : "=&r"(larger) : "r"(one), "r"(other));
        put_word(to + i, larger);
    }
}

static void spread(int16_t *x, const uint8_t *a, const uint8_t *b, int taps)
{
    for (const uint8_t *end = a + taps; a < end; a += 4, b += 4, x += 8) {
        uint32_t four_a = word(a), four_b = word(b);
        put_word(x, four_a & 0x00FF00FF);
        put_word(x + 2, four_b & 0x00FF00FF);
        put_word(x + 4, four_a >> 8 & 0x00FF00FF);
        put_word(x + 6, four_b >> 8 & 0x00FF00FF);
    }
}

static two dot(const int16_t *w, const int16_t *x, int taps)
{
    two sum = {0, 0};
    for (const int16_t *end = w + taps; w < end; w += 2, x += 4) {
        sum.a = smlad(word(w), word(x), sum.a);
        sum.b = smlad(word(w), word(x + 2), sum.b);
    }
    return sum;
}

#if defined(__ARM_FEATURE_MVE)
/* Eight inputs of both columns at once, with vectors of Helium. Where fewer are left, the other weights are 0. */
static sums dots(const int16_t *w, const int16_t *x, int taps)
{
    two first = {0, 0}, both = {0, 0};
    for (int left = taps; left > 0; left -= 8, w += 8, x += 16) {
        uint32x4x2_t ab = vld2q_u32((const uint32_t *)(const void *)x);
        int16x8_t a = vreinterpretq_s16_u32(ab.val[0]), b = vreinterpretq_s16_u32(ab.val[1]);
        int16x8_t h = vldrhq_z_s16(w, vctp16q((uint32_t)left)), low = vmovlbq_s8(vreinterpretq_s8_s16(h));
        both.a = vmladavaq_s16(both.a, h, a);
        both.b = vmladavaq_s16(both.b, h, b);
        first.a = vmladavaq_s16(first.a, low, a);
        first.b = vmladavaq_s16(first.b, low, b);
    }
    return (sums){first, both};
}
#else
/* For each four inputs: two weights h, twice; and twice two inputs of column a and of column b. */
static sums dots(const int16_t *w, const int16_t *x, int taps)
{
    two first = {0, 0}, both = {0, 0};
    const int16_t *end = w + taps;
    uint32_t h, next, a, b;
    __asm__("1:\n\t"
            "ldrd %[h], %[next], [%[w]], #8\n\t"
            "ldrd %[a], %[b], [%[x]], #8\n\t"
            "smlad %[both_a], %[h], %[a], %[both_a]\n\t"
            "smlad %[both_b], %[h], %[b], %[both_b]\n\t"
            "sxtb16 %[h], %[h]\n\t"
            "smlad %[first_a], %[h], %[a], %[first_a]\n\t"
            "smlad %[first_b], %[h], %[b], %[first_b]\n\t"
            "ldrd %[a], %[b], [%[x]], #8\n\t"
            "smlad %[both_a], %[next], %[a], %[both_a]\n\t"
            "smlad %[both_b], %[next], %[b], %[both_b]\n\t"
            "sxtb16 %[next], %[next]\n\t"
            "smlad %[first_a], %[next], %[a], %[first_a]\n\t"
            "smlad %[first_b], %[next], %[b], %[first_b]\n\t"
            "cmp %[w], %[end]\n\t"
            "bne 1b"
            : [w] "+r"(w), [x] "+r"(x), [both_a] "+r"(both.a), [both_b] "+r"(both.b), [first_a] "+r"(first.a), [first_b] "+r"(first.b),
              [h] "=&r"(h), [next] "=&r"(next), [a] "=&r"(a), [b] "=&r"(b)
            : [end] "r"(end)
            : "cc", "memory");
    return (sums){first, both};
}
#endif
#else
static void copy(uint8_t *to, const uint8_t *from, int bytes)
{
    for (int i = 0; i < bytes; i++) to[i] = from[i];
}

static void copy_larger(uint8_t *to, const uint8_t *a, const uint8_t *b, int bytes)
{
    for (int i = 0; i < bytes; i++) to[i] = a[i] > b[i] ? a[i] : b[i];
}

static void spread(int16_t *x, const uint8_t *a, const uint8_t *b, int taps)
{
    for (int i = 0; i < taps; i += i % 4 == 1 ? 3 : 1, x += 4) {
        x[0] = a[i];
        x[1] = a[i + 2];
        x[2] = b[i];
        x[3] = b[i + 2];
    }
}

static two dot(const int16_t *w, const int16_t *x, int taps)
{
    two sum = {0, 0};
    for (int i = 0; i < taps; i += 2, w += 2, x += 4) {
        sum.a += w[0] * x[0] + w[1] * x[1];
        sum.b += w[0] * x[2] + w[1] * x[3];
    }
    return sum;
}

static int32_t low(int32_t w)
{
    return ((w + 128) & 255) - 128;
}

static sums dots(const int16_t *w, const int16_t *x, int taps)
{
    two first = {0, 0}, both = dot(w, x, taps);
    for (int i = 0; i < taps; i += 2, w += 2, x += 4) {
        first.a += low(w[0]) * x[0] + low(w[1]) * x[1];
        first.b += low(w[0]) * x[2] + low(w[1]) * x[3];
    }
    return (sums){first, both};
}
#endif

/* Append column t of a source at a level: the larger of two columns, the same column, or every column twice. Up to 3 bytes after it change. */
static uint8_t *column_of(const xn_state *s, int source, int level, int t, uint8_t *bytes)
{
    const layer *from = &LAYER[source];
    const uint32_t channels = from->outputs, columns = from->columns;
    const uint8_t *ring = s->columns + from->ring;
    if (t < 0 || t >= LENGTH >> level) {
        memset(bytes, 0, channels);
    } else if (from->level < level) {
        copy_larger(bytes, ring + (uint32_t)(2 * t) % columns * channels, ring + (uint32_t)(2 * t + 1) % columns * channels, (int)channels);
    } else {
        copy(bytes, ring + (uint32_t)(t >> (from->level - level)) % columns * channels, (int)channels);
    }
    return bytes + channels;
}

/* Put what a layer's kernel sees at columns t and t + 1 into x. Bytes after that, up to a multiple of 4, meet weights of 0. */
static void collect(xn_state *s, const layer *own, int t)
{
    for (int i = 0; i < 2; i++) {
        uint8_t *bytes = s->bytes[i];
        for (int tap = -1; tap <= 1; tap++)
            for (int k = 0; k < 2; k++)
                if (own->source[k] != NONE) bytes = column_of(s, own->source[k], own->level, t + i + tap * own->dilation, bytes);
    }
    spread(s->x, s->bytes[0], s->bytes[1], own->taps);
}

/* value / 2^bits as a byte, rounded with half to even. Negative values become 0: this is the ReLU, too. */
static uint8_t to_byte(int32_t value, int bits)
{
    if (value <= 0) return 0;
    value = (value + (INT32_C(1) << (bits - 1)) - 1 + (value >> bits & 1)) >> bits;
    return (uint8_t)(value > 255 ? 255 : value);
}

/* The same for 14 bits. */
static uint8_t scaled_byte(int32_t value)
{
#if defined(__ARM_FEATURE_DSP) && defined(__GNUC__)
    value += 8191 + (value >> 14 & 1);
    __asm__("usat %0, #8, %0, asr #14" : "+r"(value));
    return (uint8_t)value;
#else
    return to_byte(value, 14);
#endif
}

/* Takes the logits of sample t of a window. */
typedef void (*take)(void *taker, int t, const int32_t logits[3]);

/* Make the next two columns of a layer, or the last one. */
static void make_columns(xn_state *s, const window *w, take give, void *taker, int number)
{
    const layer *own = &LAYER[number];
    const int16_t *weights = own->weights;
    const int32_t *bias = own->bias, *scale = own->scale;
    int t = s->made[number], outputs = own->outputs, taps = own->taps, length = LENGTH >> own->level;
    uint8_t *ring = s->columns + own->ring, *a = ring + t % own->columns * outputs, *b = ring + (t + 1) % own->columns * outputs;
    s->made[number] = (uint16_t)(t + 2);
    if (number == 0) {
        near_samples(s, w, t);
        for (int o = 0; o < outputs; o++, weights += taps) {
            two sum = dot(weights, s->x, taps);
            a[o] = to_byte(sum.a + bias[o], FIRST_SHIFT[o]);
            b[o] = to_byte(sum.b + bias[o], FIRST_SHIFT[o]);
        }
        return;
    }
    collect(s, own, t);
    if (number == LAYERS - 1) {
        int32_t logits[2][3];
        for (int o = 0; o < 3; o++, weights += taps) {
            two sum = dot(weights, s->x, taps);
            logits[0][o] = sum.a + bias[o];
            logits[1][o] = sum.b + bias[o];
        }
        give(taker, t, logits[0]);
        give(taker, t + 1, logits[1]);
        if (t + 2 == LENGTH) give(taker, XN_SAMPLES - 1, logits[1]); /* the network has no say about the last sample */
        return;
    }
    if (t + 1 == length) {
        s->made[number] = (uint16_t)length;
        b = s->bytes[0]; /* there is no such column */
    }
    for (int o = 0; o < outputs; o += 2, weights += taps) {
        sums found = dots(weights, s->x, taps);
        two sum[2] = {found.first, {(found.both.a - found.first.a) / 256, (found.both.b - found.first.b) / 256}};
        for (int k = 0; k < 2 && o + k < outputs; k++) {
            int32_t offset = bias[o + k], factor = scale[o + k];
            a[o + k] = scaled_byte((sum[k].a + offset) * factor);
            b[o + k] = scaled_byte((sum[k].b + offset) * factor);
        }
    }
}

/* Whether all columns that a layer's next two columns need are there. */
static int is_ready(const xn_state *s, int number)
{
    const layer *own = &LAYER[number];
    int length = LENGTH >> own->level;
    int needed = s->made[number] + own->dilation + 2;
    if (s->made[number] == length) return 0;
    if (needed > length) needed = length;
    for (int i = 0; i < 2; i++) {
        if (own->source[i] == NONE) continue;
        int there = s->made[own->source[i]];
        int level = LAYER[own->source[i]].level;
        there = level < own->level ? there / 2 : there << (level - own->level);
        if (there < needed) return 0;
    }
    return 1;
}

/* Compute all logits of a window. */
static void run_network(xn_state *s, const window *w, take give, void *taker)
{
    normalise(s, w);
    for (int i = 0; i < LAYERS; i++) s->made[i] = 0;
    while (s->made[LAYERS - 1] < LENGTH) /* the rings are just as long as this order needs */
        for (int i = 0; i < LAYERS; i++)
            for (int n = STRIDE >> LAYER[i].level; n > 0 && is_ready(s, i); n -= 2) make_columns(s, w, give, taker, i);
}

static void store(void *taker, int t, const int32_t logits[3])
{
    for (int phase = 0; phase < 3; phase++) ((xn_logits *)taker)->phase[phase][t] = logits[phase];
}

int32_t xn_window(xn_state *state, const xn_raw *raw, xn_logits *logits)
{
    window whole = {raw, NULL};
    int32_t beyond = 0;
    for (int c = 0; c < 3; c++)
        for (int t = 0; t < XN_SAMPLES; t++) beyond += clipped(raw->component[c][t]) != raw->component[c][t];
    run_network(state, &whole, store, logits);
    return beyond;
}

/* ---- Probabilities ---- */

static const uint32_t POWER[64] = { /* 2^(30 - i / 64) */
    1073741824, 1062175491, 1050733751, 1039415261, 1028218693, 1017142735, 1006186087, 995347464,
    984625594, 974019220, 963527098, 953147997, 942880699, 932724001, 922676710, 912737649,
    902905651, 893179563, 883558244, 874040567, 864625413, 855311680, 846098274, 836984114,
    827968132, 819049271, 810226483, 801498734, 792865000, 784324269, 775875538, 767517817,
    759250125, 751071493, 742980960, 734977579, 727060411, 719228525, 711481005, 703816941,
    696235434, 688735596, 681316545, 673977412, 666717336, 659535466, 652430958, 645402981,
    638450708, 631573326, 624770026, 618040012, 611382493, 604796689, 598281827, 591837143,
    585461881, 579155293, 572916640, 566745190, 560640218, 554601009, 548626854, 542717053,
};

/* e^-x in units of 2^-30, for x in units of 2^-bits; the error is below 2^-21. */
static uint32_t exp_minus(uint64_t x, int bits)
{
    if (x >> bits >= 21) return 0;
    uint32_t y = (uint32_t)((x * UINT64_C(1549082005)) >> (6 + bits)); /* x / ln 2 in units of 2^-24: 2^-y is wanted */
    uint64_t r = (uint64_t)(y & 0x3FFFF) * 186065279 >> 22;            /* y beyond its first 6 binary places, times ln 2, in 2^-30 */
    uint64_t small = (UINT64_C(1) << 30) - r + (r * r >> 31);          /* e^-r, with r < 0.011 */
    return (uint32_t)((POWER[y >> 18 & 63] * small) >> 30 >> (y >> 24));
}

/* Softmax of P and S in units of 2^-20. */
static void softmax(const int32_t logits[3], uint32_t probability[2])
{
    int32_t top = logits[0];
    uint32_t power[3];
    uint64_t sum = 0;
    for (int k = 1; k < 3; k++)
        if (logits[k] > top) top = logits[k];
    for (int k = 0; k < 3; k++) sum += power[k] = exp_minus((uint64_t)((int64_t)top - logits[k]), XN_LOGIT_BITS);
    for (int k = 0; k < 2; k++) probability[k] = (uint32_t)((((uint64_t)power[k] << 20) + sum / 2) / sum);
}

/* ---- Picks ---- */

#define STEP 2000     /* samples between the starts of two windows */
#define TAPER 500     /* samples at either end of a window in which it counts less */
#define GUARD 50      /* samples beside a gap in which nothing is picked */
#define DISTANCE 100  /* samples between two picks of a phase, at least */
#define REACH 48      /* samples on either side of a peak that its onset depends on */
#define UNKNOWN -1
#define BEGUN 0x786E3031u

static int32_t *remembered(xn_curve *curve, int64_t sample)
{
    return &curve->recent[(uint64_t)sample % XN_RECENT];
}

/* The onset of a peak in tenths of a sample from the peak: the mean place of the samples around it, weighted by their probability and by
 * a normal curve around the mean, four times. The standard deviation of the curve is 16 samples. */
static int32_t onset(xn_curve *curve, int64_t peak)
{
    int64_t shift = 0; /* in units of 2^-8 samples */
    for (int turn = 0; turn < 4; turn++) {
        int64_t weights = 0, moment = 0;
        for (int d = -REACH; d <= REACH; d++) {
            int32_t p = *remembered(curve, peak + d);
            int64_t off = d * 256 - shift;
            if (p <= 0) continue;
            int64_t weight = ((int64_t)p * exp_minus((uint64_t)(off * off), 25)) >> 20; /* off^2 / (2 * 16^2), in units of 2^-16 */
            weights += weight;
            moment += weight * d;
        }
        shift = moment * 256 / weights;
    }
    int64_t tenths = shift * 10;
    return (int32_t)((tenths + (tenths < 0 ? -128 : 128)) / 256);
}

/* Report the peaks of a cluster, in which each is close to the next: the highest first, and none closer than DISTANCE to a higher one. */
static void close_cluster(xn_reader *r, int phase)
{
    xn_curve *curve = &r->curve[phase];
    for (int left = curve->peaks; left > 0; left--) { /* mark them from the highest to the lowest */
        int best = -1;
        for (int i = 0; i < curve->peaks; i++)
            if (curve->peak[i].fate == 0 && (best < 0 || curve->peak[i].height >= curve->peak[best].height)) best = i;
        if (best < 0) break;
        for (int i = 0; i < curve->peaks; i++) {
            int64_t away = curve->peak[i].sample - curve->peak[best].sample;
            if (i != best && away > -DISTANCE && away < DISTANCE && curve->peak[i].fate == 0) curve->peak[i].fate = -1;
        }
        curve->peak[best].fate = 1;
    }
    for (int i = 0; i < curve->peaks; i++) {
        const xn_peak *peak = &curve->peak[i];
        xn_pick pick = {peak->sample * 10 + peak->tenths, (uint32_t)peak->height, phase};
        if (peak->fate == 1) r->on_pick(r->context, &pick);
    }
    curve->peaks = 0;
}

/* Take the next final probability of a phase, or UNKNOWN. */
static void follow(xn_reader *r, int phase, int64_t sample, int32_t p)
{
    xn_curve *curve = &r->curve[phase];
    *remembered(curve, sample) = p;
    if (p == UNKNOWN || curve->before == UNKNOWN) {
        curve->rising = 0;
    } else if (p > curve->before) {
        curve->rising = 1;
        curve->top = sample;
    } else if (p < curve->before) {
        if (curve->rising && curve->before >= r->threshold[phase]) {
            if (curve->peaks == XN_PEAKS) close_cluster(r, phase);
            int64_t middle = curve->top + (sample - 1 - curve->top) / 2;
            int32_t late = middle + REACH < sample ? onset(curve, middle) : 0; /* otherwise it is not known yet */
            curve->peak[curve->peaks++] = (xn_peak){middle, curve->before, late, 0};
        }
        curve->rising = 0;
    }
    curve->before = p;
    for (int i = 0; i < curve->peaks; i++)
        if (curve->peak[i].sample + REACH == sample) curve->peak[i].tenths = onset(curve, curve->peak[i].sample);
    if (curve->peaks && sample - curve->peak[curve->peaks - 1].sample >= DISTANCE) close_cluster(r, phase);
}

static void begin_reading(xn_reader *r)
{
    for (int phase = 0; phase < 2; phase++) {
        xn_curve *curve = &r->curve[phase];
        curve->before = UNKNOWN;
        curve->rising = curve->peaks = 0;
        for (int i = 0; i < XN_RECENT; i++) curve->recent[i] = UNKNOWN;
    }
}

/* Report what is left. */
static void end_reading(xn_reader *r, int64_t end)
{
    for (int64_t t = end; t < end + DISTANCE; t++)
        for (int phase = 0; phase < 2; phase++) follow(r, phase, t, UNKNOWN);
}

static void use_thresholds(xn_reader *r, xn_on_pick on_pick, void *context)
{
    r->on_pick = on_pick;
    r->context = context;
    r->threshold[XN_P] = XN_THRESHOLD_P;
    r->threshold[XN_S] = XN_THRESHOLD_S;
}

void xn_picks(xn_reader *r, const xn_logits *logits, xn_on_pick on_pick, void *context)
{
    use_thresholds(r, on_pick, context);
    begin_reading(r);
    for (int t = 0; t < XN_SAMPLES; t++) {
        int32_t three[3] = {logits->phase[XN_P][t], logits->phase[XN_S][t], logits->phase[XN_NOISE][t]};
        uint32_t probability[2];
        softmax(three, probability);
        for (int phase = 0; phase < 2; phase++)
            follow(r, phase, t, t < GUARD || t >= XN_SAMPLES - GUARD ? UNKNOWN : (int32_t)probability[phase] << 4);
    }
    end_reading(r, XN_SAMPLES);
}

/* A sample leaves the ring, so no window will change its probabilities any more. */
static void finish_sample(xn_stream *s, int64_t sample, int trusted)
{
    int place = (int)((sample - s->origin) % XN_SAMPLES);
    for (int phase = 0; phase < 2; phase++) follow(&s->reader, phase, sample, trusted ? read_24(s->mean[phase][place]) << 2 : UNKNOWN);
}

/* The weight of sample t of a window. */
static int32_t weight_of(int t)
{
    int to_end = t < XN_SAMPLES - 1 - t ? t : XN_SAMPLES - 1 - t;
    return to_end < 0 ? 0 : to_end + 1 < TAPER ? to_end + 1 : TAPER;
}

/* Blend a window's probabilities of sample t into the weighted means, in units of 2^-22, over all windows so far. */
static void blend(void *taker, int t, const int32_t logits[3])
{
    xn_stream *s = taker;
    int32_t weight = weight_of(t), sum = weight;
    uint32_t probability[2];
    int place = s->window_begin + t;
    if (place >= XN_SAMPLES) place -= XN_SAMPLES;
    for (int i = 0; i < 3; i++) sum += weight_of(t + s->since[i]);
    softmax(logits, probability);
    for (int phase = 0; phase < 2; phase++) {
        uint8_t *mean = s->mean[phase][place];
        int32_t before = sum == weight ? 0 : read_24(mean), p = (int32_t)probability[phase] << 2;
        write_24(mean, before + (p - before) * weight / sum); /* at most 2^22 * 500 < 2^31 */
    }
}

/* Run the network on the latest XN_SAMPLES samples. */
static void add_window(xn_stream *s)
{
    int moved = (int)(s->next - s->last_window);
    s->since[2] = s->since[1] + moved; /* up to 3 earlier windows overlap with this one */
    s->since[1] = s->since[0] + moved;
    s->since[0] = moved;
    s->window_begin = (int)((s->next - s->origin) % XN_SAMPLES);
    window latest = {NULL, s};
    run_network(&s->state, &latest, blend, s);
    s->last_window = s->next;
}

static void start_run(xn_stream *s, int64_t sample)
{
    s->origin = s->next = s->last_window = sample;
    s->since[0] = s->since[1] = 0;
    begin_reading(&s->reader);
}

void xn_begin(xn_stream *s, int64_t sample, xn_on_pick on_pick, void *context)
{
    s->begun = BEGUN;
    use_thresholds(&s->reader, on_pick, context);
    s->clipped = 0;
    start_run(s, sample);
}

int32_t xn_push(xn_stream *s, int32_t e, int32_t n, int32_t z)
{
    if (s->begun != BEGUN) return XN_NOT_BEGUN;
    int64_t leaving = s->next - XN_SAMPLES;
    int place = (int)((s->next - s->origin) % XN_SAMPLES);
    if (leaving >= s->origin) finish_sample(s, leaving, leaving - s->origin >= GUARD);
    const int32_t counts[3] = {e, n, z};
    for (int c = 0; c < 3; c++) {
        s->clipped += clipped(counts[c]) != counts[c];
        write_24(s->raw[place][c], clipped(counts[c]));
    }
    s->next++;
    /* The first window, and then those that begin at a multiple of STEP. */
    if (s->next - s->origin == XN_SAMPLES || (s->next - s->origin > XN_SAMPLES && (s->next - XN_SAMPLES) % STEP == 0)) add_window(s);
    return 0;
}

int32_t xn_gap(xn_stream *s, int64_t sample)
{
    if (s->begun != BEGUN) return XN_NOT_BEGUN;
    int64_t end = s->next;
    if (end - s->origin >= XN_SAMPLES) {
        if (s->last_window != end) add_window(s); /* the last window ends at the last sample */
        for (int64_t t = end - XN_SAMPLES; t < end; t++) finish_sample(s, t, t - s->origin >= GUARD && end - t > GUARD);
        end_reading(&s->reader, end);
    }
    start_run(s, sample);
    return 0;
}
