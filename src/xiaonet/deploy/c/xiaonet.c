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
 * one byte for each of its channels. Instead of computing one layer after the other for the whole window, all layers advance together, a
 * few columns at a time, and each keeps only the columns that others still need, in a ring. So $state_bytes bytes are enough.
 */
#include "xiaonet.h"

#include <string.h>

#define LENGTH 3000  /* the network's own length: a multiple of 8 */
#define STRIDE 8     /* samples for which the bottleneck makes one column */
#define LAYERS $layers
#define NONE -1

typedef struct {
    const int8_t *weights;        /* outputs in groups of 4, then one by one; for each group [taps / 4][outputs of the group][4] */
    const int16_t *wide;          /* [outputs][taps], of the first and the last layer instead */
    const int32_t *bias;          /* [outputs] */
    const int32_t *scale;         /* [outputs], in units of 2^-14 */
    uint32_t ring;                /* place of its columns in xn_state */
    uint16_t columns;             /* columns in the ring */
    uint16_t outputs;             /* channels */
    uint16_t taps;                /* 3 columns of all inputs, rounded up to a multiple of 4 */
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

static int32_t clipped(int32_t raw)
{
    return raw > 8388607 ? 8388607 : raw < -8388608 ? -8388608 : raw;
}

static int32_t normalise(xn_state *s, const xn_raw *raw)
{
    int32_t beyond = 0;
    for (int c = 0; c < 3; c++) {
        int64_t sum = 0, moment = 0;
        for (int t = 0; t < XN_SAMPLES; t++) {
            int32_t r = clipped(raw->component[c][t]);
            beyond += r != raw->component[c][t];
            sum += r;
            moment += (int64_t)r * (t - MIDDLE);
        }
        s->slope[c] = moment;
        s->line[c] = sum * MEAN_UNIT - moment * MIDDLE;
        s->peak[c] = 0;
        int64_t line = s->line[c];
        for (int t = 0; t < XN_SAMPLES; t++, line += moment) {
            int64_t y = TIME_SQUARES * clipped(raw->component[c][t]) - line;
            uint64_t size = (uint64_t)(y < 0 ? -y : y);
            if (size > s->peak[c]) s->peak[c] = size;
        }
    }
    return beyond;
}

/* 2^11 * y / peak, rounded with half to even; |y| <= peak < 2^56. Long division, because 2^11 * y does not fit into 64 bits. */
static int16_t divided(int64_t y, uint64_t peak)
{
    uint64_t rest = (uint64_t)(y < 0 ? -y : y);
    int16_t quotient = 0;
    if (peak == 0) return 0;
    if (rest == peak) {
        quotient = 1 << PEAK_BITS;
    } else {
        for (int bit = 0; bit < PEAK_BITS; bit++) {
            rest <<= 1;
            quotient = (int16_t)(quotient * 2);
            if (rest >= peak) {
                rest -= peak;
                quotient++;
            }
        }
        rest <<= 1;
        if (rest > peak || (rest == peak && quotient % 2)) quotient++;
    }
    return (int16_t)(y < 0 ? -quotient : quotient);
}

/* ---- Network ---- */

/* Append the columns that the first layer sees at sample t: samples t - 1, t and t + 1. They come in order, so two of them are known. */
static void near_samples(xn_state *s, const xn_raw *raw, int t)
{
    for (int first = t == 0 ? 0 : t + 1; first <= t + 1; first++) {
        for (int c = 0; c < 3; c++) {
            s->near[c] = s->near[3 + c];
            s->near[3 + c] = s->near[6 + c];
            s->near[6 + c] = 0;
            if (first < LENGTH) {
                s->near[6 + c] = divided(TIME_SQUARES * clipped(raw->component[c][first]) - s->line[c], s->peak[c]);
                s->line[c] += s->slope[c];
            }
        }
        if (first == 0) s->near[3] = s->near[4] = s->near[5] = 0; /* before the window */
    }
    for (int i = 0; i < 9; i++) s->x[i] = s->near[i];
}

/* Append column t of a source at a level: the larger of two columns, the same column, or every column twice. */
static int16_t *column_of(const xn_state *s, int source, int level, int t, int16_t *x)
{
    const layer *from = &LAYER[source];
    const uint32_t channels = from->outputs, columns = from->columns;
    const uint8_t *ring = s->columns + from->ring;
    int16_t *end = x + channels;
    if (t < 0 || t >= LENGTH >> level) {
        while (x < end) *x++ = 0;
    } else if (from->level < level) {
        const uint8_t *a = ring + (uint32_t)(2 * t) % columns * channels;
        const uint8_t *b = ring + (uint32_t)(2 * t + 1) % columns * channels;
        for (; x < end; a++, b++) *x++ = *a > *b ? *a : *b;
    } else {
        const uint8_t *a = ring + (uint32_t)(t >> (from->level - level)) % columns * channels;
        while (x < end) *x++ = *a++;
    }
    return x;
}

/* Collect all that a layer's kernel sees for its column t. */
static void collect(xn_state *s, const layer *own, int t)
{
    int16_t *x = s->x;
    for (int tap = -1; tap <= 1; tap++)
        for (int i = 0; i < 2; i++)
            if (own->source[i] != NONE) x = column_of(s, own->source[i], own->level, t + tap * own->dilation, x);
    while (x < s->x + own->taps) *x++ = 0;
}

/* Sums of products, below 2^24 in size, for 1 or 4 outputs at once.
 *
 * Weights come in groups of four for each output, in the order 0, 2, 1, 3: so the instruction SXTB16, which extends bytes 0 and 2 or bytes
 * 1 and 3 of a word, gives two weights that are neighbours.
 */
#if defined(__ARM_FEATURE_DSP) && defined(__GNUC__)
static uint32_t word(const void *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

static int32_t smlad(uint32_t a, uint32_t b, int32_t sum)
{
    __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(a), "r"(b));
    return sum;
}

/* Four products, added to a sum. */
static int32_t four(const int8_t *w, uint32_t x01, uint32_t x23, int32_t sum)
{
    uint32_t weights = word(w), w01, w23;
    __asm__("sxtb16 %0, %1" : "=r"(w01) : "r"(weights));
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(w23) : "r"(weights));
    return smlad(w23, x23, smlad(w01, x01, sum));
}

__attribute__((noinline)) static void dots(const int8_t *w, const int16_t *x, int taps, int outputs, int32_t *sums)
{
    const int16_t *end = x + taps;
    int32_t a = 0, b = 0, c = 0, d = 0;
    if (outputs == 4) {
        for (; x < end; x += 4, w += 16) {
            uint32_t x01 = word(x), x23 = word(x + 2);
            a = four(w, x01, x23, a);
            b = four(w + 4, x01, x23, b);
            c = four(w + 8, x01, x23, c);
            d = four(w + 12, x01, x23, d);
        }
        sums[1] = b;
        sums[2] = c;
        sums[3] = d;
    } else {
        for (; x < end; x += 4, w += 4) a = four(w, word(x), word(x + 2), a);
    }
    sums[0] = a;
}
#else
static void dots(const int8_t *w, const int16_t *x, int taps, int outputs, int32_t *sums)
{
    for (int o = 0; o < outputs; o++) sums[o] = 0;
    for (int i = 0; i < taps; i += 4)
        for (int o = 0; o < outputs; o++, w += 4) sums[o] += w[0] * x[i] + w[1] * x[i + 2] + w[2] * x[i + 1] + w[3] * x[i + 3];
}
#endif

static int32_t wide_dot(const int16_t *w, const int16_t *x, int taps)
{
    int32_t sum = 0;
    for (int i = 0; i < taps; i++) sum += w[i] * x[i];
    return sum;
}

/* value / 2^bits as a byte, rounded with half to even. Negative values become 0: this is the ReLU, too. */
static uint8_t to_byte(int32_t value, int bits)
{
    if (value <= 0) return 0;
    value = (value + (INT32_C(1) << (bits - 1)) - 1 + (value >> bits & 1)) >> bits;
    return (uint8_t)(value > 255 ? 255 : value);
}

/* Make the next column of a layer. */
static void make_column(xn_state *s, const xn_raw *raw, xn_logits *logits, int number)
{
    const layer *own = &LAYER[number];
    int t = s->made[number]++;
    uint8_t *column = s->columns + own->ring + (uint32_t)(t % own->columns) * own->outputs;
    if (number == 0) {
        near_samples(s, raw, t);
        for (int o = 0; o < own->outputs; o++) column[o] = to_byte(wide_dot(own->wide + 9 * o, s->x, 9) + own->bias[o], FIRST_SHIFT[o]);
        return;
    }
    collect(s, own, t);
    if (number == LAYERS - 1) {
        for (int o = 0; o < 3; o++) logits->phase[o][t] = wide_dot(own->wide + own->taps * o, s->x, own->taps) + own->bias[o];
        return;
    }
    const int8_t *weights = own->weights;
    int outputs = own->outputs, taps = own->taps;
    for (int o = 0, group; o < outputs; o += group, weights += group * taps) {
        int32_t sums[4];
        group = outputs - o >= 4 ? 4 : 1;
        dots(weights, s->x, taps, group, sums);
        for (int i = 0; i < group; i++) column[o + i] = to_byte((sums[i] + own->bias[o + i]) * own->scale[o + i], 14);
    }
}

/* Whether all columns that a layer's next column needs are there. */
static int is_ready(const xn_state *s, int number)
{
    const layer *own = &LAYER[number];
    int length = LENGTH >> own->level;
    int needed = s->made[number] + own->dilation + 1;
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

int32_t xn_window(xn_state *state, const xn_raw *raw, xn_logits *logits)
{
    int32_t beyond = normalise(state, raw);
    for (int i = 0; i < LAYERS; i++) state->made[i] = 0;
    while (state->made[LAYERS - 1] < LENGTH) /* the rings are just as long as this order needs */
        for (int i = 0; i < LAYERS; i++)
            for (int n = STRIDE >> LAYER[i].level; n > 0 && is_ready(state, i); n--) make_column(state, raw, logits, i);
    for (int phase = 0; phase < 3; phase++) logits->phase[phase][XN_SAMPLES - 1] = logits->phase[phase][LENGTH - 1];
    return beyond;
}
