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

/* The counts of a window, which may begin anywhere in a ring of XN_SAMPLES. */
typedef struct {
    const xn_raw *raw;
    int begin;
} window;

static int32_t raw_count(const window *w, int c, int t)
{
    int place = w->begin + t;
    return w->raw->component[c][place < XN_SAMPLES ? place : place - XN_SAMPLES];
}

static int32_t clipped(int32_t raw)
{
    return raw > 8388607 ? 8388607 : raw < -8388608 ? -8388608 : raw;
}

static int32_t normalise(xn_state *s, const window *w)
{
    int32_t beyond = 0;
    for (int c = 0; c < 3; c++) {
        int64_t sum = 0, moment = 0;
        for (int t = 0; t < XN_SAMPLES; t++) {
            int32_t r = clipped(raw_count(w, c, t));
            beyond += r != raw_count(w, c, t);
            sum += r;
            moment += (int64_t)r * (t - MIDDLE);
        }
        s->slope[c] = moment;
        s->line[c] = sum * MEAN_UNIT - moment * MIDDLE;
        s->peak[c] = 0;
        int64_t line = s->line[c];
        for (int t = 0; t < XN_SAMPLES; t++, line += moment) {
            int64_t y = TIME_SQUARES * clipped(raw_count(w, c, t)) - line;
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
static void near_samples(xn_state *s, const window *w, int t)
{
    for (int first = t == 0 ? 0 : t + 1; first <= t + 1; first++) {
        for (int c = 0; c < 3; c++) {
            s->near[c] = s->near[3 + c];
            s->near[3 + c] = s->near[6 + c];
            s->near[6 + c] = 0;
            if (first < LENGTH) {
                s->near[6 + c] = divided(TIME_SQUARES * clipped(raw_count(w, c, first)) - s->line[c], s->peak[c]);
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

/* Takes the logits of sample t of a window. */
typedef void (*take)(void *taker, int t, const int32_t logits[3]);

/* Make the next column of a layer. */
static void make_column(xn_state *s, const window *w, take give, void *taker, int number)
{
    const layer *own = &LAYER[number];
    int t = s->made[number]++;
    uint8_t *column = s->columns + own->ring + (uint32_t)(t % own->columns) * own->outputs;
    if (number == 0) {
        near_samples(s, w, t);
        for (int o = 0; o < own->outputs; o++) column[o] = to_byte(wide_dot(own->wide + 9 * o, s->x, 9) + own->bias[o], FIRST_SHIFT[o]);
        return;
    }
    collect(s, own, t);
    if (number == LAYERS - 1) {
        int32_t logits[3];
        for (int o = 0; o < 3; o++) logits[o] = wide_dot(own->wide + own->taps * o, s->x, own->taps) + own->bias[o];
        give(taker, t, logits);
        if (t == LENGTH - 1) give(taker, XN_SAMPLES - 1, logits); /* the network has no say about the last sample */
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

/* Compute all logits of a window. Returns the number of clipped counts. */
static int32_t run_network(xn_state *s, const window *w, take give, void *taker)
{
    int32_t beyond = normalise(s, w);
    for (int i = 0; i < LAYERS; i++) s->made[i] = 0;
    while (s->made[LAYERS - 1] < LENGTH) /* the rings are just as long as this order needs */
        for (int i = 0; i < LAYERS; i++)
            for (int n = STRIDE >> LAYER[i].level; n > 0 && is_ready(s, i); n--) make_column(s, w, give, taker, i);
    return beyond;
}

static void store(void *taker, int t, const int32_t logits[3])
{
    for (int phase = 0; phase < 3; phase++) ((xn_logits *)taker)->phase[phase][t] = logits[phase];
}

int32_t xn_window(xn_state *state, const xn_raw *raw, xn_logits *logits)
{
    window whole = {raw, 0};
    return run_network(state, &whole, store, logits);
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
static void close_cluster(xn_stream *s, int phase)
{
    xn_curve *curve = &s->curve[phase];
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
        if (peak->fate == 1) s->on_pick(s->context, &pick);
    }
    curve->peaks = 0;
}

/* Take the next final probability of a phase, or UNKNOWN. */
static void follow(xn_stream *s, int phase, int64_t sample, int32_t p)
{
    xn_curve *curve = &s->curve[phase];
    *remembered(curve, sample) = p;
    if (p == UNKNOWN || curve->before == UNKNOWN) {
        curve->rising = 0;
    } else if (p > curve->before) {
        curve->rising = 1;
        curve->top = sample;
    } else if (p < curve->before) {
        if (curve->rising && curve->before >= s->threshold[phase]) {
            if (curve->peaks == XN_PEAKS) close_cluster(s, phase);
            int64_t middle = curve->top + (sample - 1 - curve->top) / 2;
            int32_t late = middle + REACH < sample ? onset(curve, middle) : 0; /* otherwise it is not known yet */
            curve->peak[curve->peaks++] = (xn_peak){middle, curve->before, late, 0};
        }
        curve->rising = 0;
    }
    curve->before = p;
    for (int i = 0; i < curve->peaks; i++)
        if (curve->peak[i].sample + REACH == sample) curve->peak[i].tenths = onset(curve, curve->peak[i].sample);
    if (curve->peaks && sample - curve->peak[curve->peaks - 1].sample >= DISTANCE) close_cluster(s, phase);
}

/* A sample leaves the ring, so no window will change its probabilities any more. */
static void finish_sample(xn_stream *s, int64_t sample, int trusted)
{
    int place = (int)((sample - s->origin) % XN_SAMPLES);
    for (int phase = 0; phase < 2; phase++) {
        int32_t p = UNKNOWN;
        if (trusted) p = (int32_t)(((uint64_t)s->total[phase][place] << 4) / s->weight[place]); /* in units of 2^-24 */
        follow(s, phase, sample, p);
        s->total[phase][place] = 0;
    }
    s->weight[place] = 0;
}

/* Add a window's probabilities of sample t. */
static void blend(void *taker, int t, const int32_t logits[3])
{
    xn_stream *s = taker;
    int to_end = t < XN_SAMPLES - 1 - t ? t : XN_SAMPLES - 1 - t;
    uint32_t weight = to_end + 1 < TAPER ? (uint32_t)to_end + 1 : TAPER, probability[2];
    int place = s->window_begin + t;
    if (place >= XN_SAMPLES) place -= XN_SAMPLES;
    softmax(logits, probability);
    for (int phase = 0; phase < 2; phase++) s->total[phase][place] += weight * probability[phase]; /* up to 4 windows: below 2^31 */
    s->weight[place] = (uint16_t)(s->weight[place] + weight);
}

/* Run the network on the latest XN_SAMPLES samples. */
static void add_window(xn_stream *s)
{
    s->window_begin = (int)((s->next - s->origin) % XN_SAMPLES);
    window latest = {&s->raw, s->window_begin};
    run_network(&s->state, &latest, blend, s);
    s->last_window = s->next;
}

static void start_run(xn_stream *s, int64_t sample)
{
    s->origin = s->next = sample;
    s->last_window = sample;
    for (int phase = 0; phase < 2; phase++) {
        s->curve[phase].before = UNKNOWN;
        s->curve[phase].rising = 0;
        s->curve[phase].peaks = 0;
        for (int i = 0; i < XN_RECENT; i++) s->curve[phase].recent[i] = UNKNOWN;
        for (int i = 0; i < XN_SAMPLES; i++) s->total[phase][i] = 0;
    }
    for (int i = 0; i < XN_SAMPLES; i++) s->weight[i] = 0;
}

void xn_begin(xn_stream *s, int64_t sample, xn_on_pick on_pick, void *context)
{
    s->begun = BEGUN;
    s->on_pick = on_pick;
    s->context = context;
    s->threshold[XN_P] = XN_THRESHOLD_P;
    s->threshold[XN_S] = XN_THRESHOLD_S;
    s->clipped = 0;
    start_run(s, sample);
}

int32_t xn_push(xn_stream *s, int32_t e, int32_t n, int32_t z)
{
    if (s->begun != BEGUN) return XN_NOT_BEGUN;
    int64_t leaving = s->next - XN_SAMPLES;
    int place = (int)((s->next - s->origin) % XN_SAMPLES);
    if (leaving >= s->origin) finish_sample(s, leaving, leaving - s->origin >= GUARD);
    s->clipped += (clipped(e) != e) + (clipped(n) != n) + (clipped(z) != z);
    s->raw.component[XN_E][place] = e;
    s->raw.component[XN_N][place] = n;
    s->raw.component[XN_Z][place] = z;
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
        for (int64_t t = end; t < end + DISTANCE; t++)
            for (int phase = 0; phase < 2; phase++) follow(s, phase, t, UNKNOWN);
    }
    start_run(s, sample);
    return 0;
}
