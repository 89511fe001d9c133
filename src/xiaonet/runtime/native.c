/* XiaoNet's network on the vector units of a processor, for any length of window.
 *
 * A window of `samples` is cut into SEGMENTS pieces of equal length, and each piece fills one lane of a vector: lane l holds
 * samples l * rows to (l + 1) * rows - 1. A vector for each sample of a piece and each channel, one row after the other, is a signal.
 * A convolution is then the same multiplication for all lanes. At the ends of a row it reads what the neighbouring lane
 * holds, which `edges` copies there. Eight pieces make one window with AVX2 and two with AVX-512, so both give the same bits.
 *
 * Some convolutions save multiplications: F(4,3) of Winograd (1980; Lavin & Gray 2016) takes six instead of twelve for four samples, and
 * F(2,3) four instead of six for two; a convolution of an upsampled signal is computed before the upsampling if its dilation is even, and otherwise, for a
 * dilation of 1, from three products for two samples.
 *
 * In INT8, four channels share one 32-bit lane where the processor multiplies bytes. Elsewhere samples are whole numbers
 * in float32. Sums stay below 2^24, so both are exact.
 *
 * Around a candidate pick, each lane is a window of its own. Only the rows that the result depends on are computed, fewer in each layer: a cone.
 *
 * This file includes itself once for each set of instructions.
 */
#ifndef LANES

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef INTERFACE
#define INTERFACE 3 /* the same number is in native_runtime.py; raise both when an argument or a result changes */
#endif

#define LEVELS 3
#define LAYERS (4 * LEVELS + 3)
#define COMPONENTS 3
#define PHASES 3
#define STRIDE (1 << LEVELS)
#define TAPS 3
#define LARGEST_BLOCK 10
#define LARGEST_RUN 6
#define PRODUCTS 6 /* at most */
#define BUFFERS 6 /* signals in memory at once */
#define PEAK 2048.0f     /* INT8 windows are rounded to 1 / PEAK */
#define MAGIC 12582912.f /* 1.5 * 2^23: adding it rounds a float below 2^22 to a whole number, halves to even */

#define INLINE static inline __attribute__((always_inline))
#define JOIN_(name, suffix) name##_##suffix
#define JOIN(name, suffix) JOIN_(name, suffix)

enum products { TAPS_ALONE, PAIRS, UPSAMPLED, FOURS }; /* of a tap each, or fewer for two samples, two upsampled ones, or four */

enum finish { RAW, RELU, ROUND, ROUND_TO_BYTES };

struct part { /* the weights for one source of a convolution, in blocks of output channels: [block][product][input][channel] */
    int in;         /* 32-bit values of a row */
    float *direct;  /* three products: the taps */
    float *reduced; /* four of Winograd, or three for two upsampled samples; NULL where the taps are faster */
    float *fours;   /* six of Winograd for four samples; NULL where the taps are faster or the samples are upsampled */
};

struct layer {
    int out, block, dilation, bytes; /* bytes: four channels in a 32-bit value */
    struct part own, up;             /* up: of the upsampled source of a decoder */
    float *bias, *scale, *zeros; /* bias: whole numbers of 32 bits in layers of bytes */
};

struct net {
    int base, int8, bytes, widest, farthest; /* widest: channels; farthest: dilation */
    struct layer layers[LAYERS];
};

struct job {
    const float *x, *weight, *bias, *scale, *add; /* add: sums of the upsampled source */
    float *y, *scratch;
    const int *list; /* rows to compute; NULL for all */
    int count, in, out, width, block, bytes, dilation, add_shift, y_step, y_first, offset[TAPS];
    enum finish finish;
};

static int rounded_up(int value, int step) { return (value + step - 1) / step * step; }

static int smaller(int a, int b) { return a < b ? a : b; }

static int larger(int a, int b) { return a > b ? a : b; }

static int is_decoder(int number) { return number >= 2 * LEVELS + 2 && number < LAYERS - 1 && number % 2 == 0; }

static int level_of(int number) { return number / 2 <= LEVELS ? number / 2 : number == LAYERS - 1 ? 0 : 2 * LEVELS - number / 2; }

/* A signal has this many 32-bit values for each lane, with the rows before and after it. */
static size_t signal_size(const struct net *net, int rows)
{
    size_t size = 0;
    for (int level = 0; level <= LEVELS; level++) {
        size_t width = larger(net->base << level, rounded_up(COMPONENTS, 4));
        size = size > ((rows >> level) + 2 * net->farthest + 2) * width ? size : ((rows >> level) + 2 * net->farthest + 2) * width;
    }
    return size;
}

static int rows_of(int samples, int segments) { return rounded_up(rounded_up(samples, STRIDE), STRIDE * segments) / segments; }

struct range {
    int first, end;
};

/* Rows of each layer, and of what each level of the encoder reads, that some samples depend on. Rows of the decoder are counted from the
 * first sample of the place, and those of the encoder from where their own pooling begins. */
struct cone {
    struct range out[LAYERS], in[LEVELS + 1];
};

static struct range wider(struct range rows, int by) { return (struct range){rows.first - by, rows.end + by}; }

static struct range both(struct range a, struct range b) { return (struct range){smaller(a.first, b.first), larger(a.end, b.end)}; }

static int half_of(int value) { return (value - (value & 1)) / 2; } /* rounded down, also below 0 */

/* What the samples `wanted` depend on, at all STRIDE places of the network. */
static struct cone cone_of(const struct net *net, struct range wanted)
{
    struct cone cone;
    struct range skip[LEVELS], rows = cone.out[LAYERS - 1] = (struct range){wanted.first - STRIDE + 1, wanted.end};
    for (int number = LAYERS - 2; number > 2 * LEVELS; number--) { /* the decoder, from the last layer to the first */
        const struct layer *reader = &net->layers[number + 1];
        if (!is_decoder(number + 1))
            rows = wider(rows, reader->dilation);
        else {
            skip[level_of(number + 1)] = wider(rows, reader->dilation);
            rows = wider((struct range){half_of(rows.first), half_of(rows.end)}, (reader->dilation + 1) / 2);
        }
        if (is_decoder(number)) /* whole pairs of upsampled rows */
            rows = (struct range){2 * half_of(rows.first), 2 * half_of(rows.end + 1)};
        cone.out[number] = rows;
    }
    for (int level = LEVELS; level >= 0; level--) {
        struct range *second = &cone.out[2 * level + 1], *first = second - 1;
        if (level < LEVELS) { /* pooling begins at its first or its second row; the places of the decoder begin up to a stride later */
            struct range pooled = {2 * cone.in[level + 1].first, 2 * cone.in[level + 1].end + 1};
            *second = both(pooled, (struct range){skip[level].first, skip[level].end + (STRIDE >> level) - 1});
        }
        *first = wider(*second, net->layers[2 * level + 1].dilation);
        cone.in[level] = wider(*first, net->layers[2 * level].dilation);
    }
    return cone;
}

/* 32-bit values for each lane of the largest signal of a cone, or of the samples that it begins with. */
static size_t cone_size(const struct net *net, const struct cone *cone, int samples)
{
    size_t size = (size_t)COMPONENTS * samples;
    for (int number = 0; number < LAYERS; number++) {
        size_t width = larger(net->base << level_of(number), 4), each = (cone->out[number].end - cone->out[number].first) * width;
        size = size > each ? size : each;
    }
    for (int level = 0; level <= LEVELS; level++) {
        size_t width = larger(net->base << level, 4), each = (cone->in[level].end - cone->in[level].first) * width;
        size = size > each ? size : each;
    }
    return size;
}

struct run_arguments {
    const struct net *net;
    const float *windows;
    float *results, *memory;
    int samples, count, logits, margin; /* margin: samples at both ends of a window that get no result */
    ptrdiff_t step, row, to_row; /* from a window to the next; from a component to the next in windows, and from a phase in results */
    const struct cone *cone; /* of samples `wanted`, at all places; NULL for whole windows */
    struct range wanted;
};

#if defined(__x86_64__) && !defined(PORTABLE)
#include <cpuid.h>
#include <immintrin.h>
#define LANES 16
#define SUFFIX avx512
#define TARGETED
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,prefer-vector-width=512")
#endif
#define DOT(sum, x, w) ((vi)_mm512_dpbusd_epi32((__m512i)(sum), (__m512i)(x), (__m512i)(w)))
#define TO_BYTES(a, b, c, d) \
    ((vi)_mm512_shuffle_epi8(_mm512_packus_epi16(_mm512_packs_epi32(_mm512_cvtps_epi32((__m512)(a)), _mm512_cvtps_epi32((__m512)(b))), \
                                                 _mm512_packs_epi32(_mm512_cvtps_epi32((__m512)(c)), _mm512_cvtps_epi32((__m512)(d)))), \
                             _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400)))
#include "native.c"
#define TO_BYTES_OF_AVX2(a, b, c, d) \
    ((vi)_mm256_shuffle_epi8(_mm256_packus_epi16(_mm256_packs_epi32(_mm256_cvtps_epi32((__m256)(a)), _mm256_cvtps_epi32((__m256)(b))), \
                                                 _mm256_packs_epi32(_mm256_cvtps_epi32((__m256)(c)), _mm256_cvtps_epi32((__m256)(d)))), \
                             _mm256_set_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400, 0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400)))
#define LANES 8
#define SUFFIX avx2
#define TARGETED
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define DOT(sum, x, w) \
    ((sum) + (vi)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)(x), (__m256i)(w)), _mm256_set1_epi16(1)))
#define TO_BYTES TO_BYTES_OF_AVX2
#include "native.c"
#if defined(__clang__) ? __clang_major__ >= 13 : __GNUC__ >= 11
#define AVX_VNNI
#define LANES 8
#define SUFFIX avxvnni
#define TARGETED
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avxvnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,avxvnni")
#endif
#define DOT(sum, x, w) ((vi)_mm256_dpbusd_avx_epi32((__m256i)(sum), (__m256i)(x), (__m256i)(w)))
#define FOUR_ROWS 3
#define TO_BYTES TO_BYTES_OF_AVX2
#include "native.c"
#endif
#endif
#define LANES 4
#define SUFFIX portable
#include "native.c"

struct kind {
    const char *name;
    int single, windows, lanes, big, bytes; /* number of the kind for a window left over; windows at once; channels of a large block; whether
                                               bytes are multiplied */
    void (*run)(const struct run_arguments *), (*around)(const struct run_arguments *);
    double (*peak)(int bytes, int rounds);
};

static const struct kind kinds[] = {
    {"portable", 0, 1, 4, 4, 0, run_portable, around_portable, peak_portable},
#if defined(__x86_64__) && !defined(PORTABLE)
    {"avx2", 1, 1, 8, 4, 1, run_avx2, around_avx2, peak_avx2},
#ifdef AVX_VNNI
    {"avxvnni", 2, 1, 8, 4, 1, run_avxvnni, around_avxvnni, peak_avxvnni},
#endif
    {"avx512", 1, 2, 16, 8, 1, run_avx512, around_avx512, peak_avx512},
#endif
};

#define KINDS ((int)(sizeof kinds / sizeof *kinds))
#define EXPORTED __attribute__((visibility("default")))

struct model {
    int kind;
    struct net nets[2]; /* of the kind itself, and of the one for a window left over */
};

EXPORTED int xn_interface(void) { return INTERFACE; }

/* The name of a set of instructions, or NULL after the last. */
EXPORTED const char *xn_name(int kind) { return 0 <= kind && kind < KINDS ? kinds[kind].name : NULL; }

/* Whether this processor has it. */
EXPORTED int xn_supported(int kind)
{
    if (kind < 0 || kind >= KINDS)
        return 0;
#if defined(__x86_64__) && !defined(PORTABLE)
    __builtin_cpu_init();
    if (kinds[kind].run == run_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
    if (kind && !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")))
        return 0;
#ifdef AVX_VNNI
    unsigned a = 0, b, c, d;
    if (kinds[kind].run == run_avxvnni)
        return __get_cpuid_count(7, 1, &a, &b, &c, &d) && a >> 4 & 1;
#endif
#endif
    return 1;
}

/* Product number `number` of a kernel g. */
static float product_of(const float *g, int number, enum products products)
{
    double a = g[0], b = g[1], c = g[2];
    const double pairs[] = {a, (a + b + c) / 2, (a - b + c) / 2, c}, upsampled[] = {a, a + b + c, c};
    const double fours[] = {a / 4, -(a + b + c) / 6, -(a - b + c) / 6, (a + 2 * b + 4 * c) / 24, (a - 2 * b + 4 * c) / 24, c};
    return products == TAPS_ALONE ? g[number] : (float)(products == PAIRS ? pairs : products == UPSAMPLED ? upsampled : fours)[number];
}

static int number_of(enum products products) { return products == FOURS ? 6 : products == PAIRS ? 4 : TAPS; }

/* Weights (out, channels, 3), of which `part` reads channels from `first`, as `struct part` wants them. */
static float *packed(const struct layer *layer, const struct part *part, const float *weight, int channels, int first, int own,
                     enum products products)
{
    int number = number_of(products), blocks = rounded_up(layer->out, layer->block) / layer->block;
    int each = layer->bytes ? 4 : 1;
    float *all = calloc((size_t)blocks * number * part->in * layer->block, sizeof *all);
    for (int o = 0; all && o < layer->out; o++)
        for (int k = 0; k < number; k++)
            for (int c = 0; c < own; c++) {
                float value = product_of(weight + ((size_t)o * channels + first + c) * TAPS, k, products);
                float *at = all + (((size_t)(o / layer->block) * number + k) * part->in + c / each) * layer->block + o % layer->block;
                if (layer->bytes)
                    ((int8_t *)at)[c % 4] = (int8_t)value;
                else
                    *at = value;
            }
    return all;
}

static int make_part(struct part *part, const struct layer *layer, const float *weight, int channels, int first, int own, int reduced, int up)
{
    part->in = layer->bytes ? rounded_up(own, 4) / 4 : own;
    part->direct = packed(layer, part, weight, channels, first, own, TAPS_ALONE);
    part->reduced = reduced ? packed(layer, part, weight, channels, first, own, up ? UPSAMPLED : PAIRS) : NULL;
    part->fours = reduced && !up ? packed(layer, part, weight, channels, first, own, FOURS) : NULL;
    return part->direct && (!reduced || (part->reduced && (part->fours || up)));
}

static float *padded_copy(const float *values, int count, float otherwise)
{
    float *copy = malloc(sizeof *copy * (count + LARGEST_BLOCK));
    for (int i = 0; copy && i < count + LARGEST_BLOCK; i++)
        copy[i] = values && i < count ? values[i] : otherwise;
    return copy;
}

static int make_net(struct net *net, const struct kind *kind, int base, const int *dilations, int int8, const float *const *weights,
                    const float *const *biases, const float *const *scales)
{
    *net = (struct net){.base = base, .int8 = int8, .bytes = int8 && kind->bytes, .widest = base << LEVELS, .farthest = 1};
    for (int number = 0, below = COMPONENTS; number < LAYERS; number++) {
        struct layer *layer = &net->layers[number];
        int last = number == LAYERS - 1, out = last ? PHASES : base << level_of(number), other = net->bytes && out != 5 ? 4 : 5;
        int skip = is_decoder(number) ? out : 0; /* channels of the encoder, which follow those from below */
        layer->out = out;
        layer->bytes = net->bytes && number && !last;
        layer->block = rounded_up(out, kind->big) <= rounded_up(out, other) ? kind->big : other;
        if (layer->bytes && out == 10) /* 5 and 10 make a block of bytes only as a whole */
            layer->block = 10;
        layer->dilation = last ? 1 : dilations[number];
        net->farthest = larger(net->farthest, layer->dilation);
        int worth = !int8 && number && !last && out >= LARGEST_BLOCK; /* of products */
        int fine = is_decoder(number) ? make_part(&layer->own, layer, weights[number], below + skip, below, skip, worth, 0) &&
                                            make_part(&layer->up, layer, weights[number], below + skip, 0, below, worth,
                                                      layer->dilation == 1)
                                      : make_part(&layer->own, layer, weights[number], below, 0, below, worth, 0);
        layer->bias = padded_copy(biases[number], out, 0);
        for (int o = 0; layer->bias && layer->bytes && o < out; o++)
            ((int32_t *)layer->bias)[o] = (int32_t)layer->bias[o];
        layer->scale = padded_copy(scales[number], out, 1);
        layer->zeros = padded_copy(NULL, out, 0);
        if (!fine || !layer->bias || !layer->scale || !layer->zeros)
            return 0;
        below = out;
    }
    return 1;
}

static void free_net(struct net *net)
{
    for (struct layer *layer = net->layers; layer < net->layers + LAYERS; layer++) {
        float *owned[] = {layer->own.direct, layer->own.reduced, layer->own.fours, layer->up.direct, layer->up.reduced, layer->up.fours, layer->bias, layer->scale, layer->zeros};
        for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
            free(owned[i]);
    }
}

EXPORTED void xn_free(struct model *model)
{
    free_net(&model->nets[0]);
    free_net(&model->nets[1]);
    free(model);
}

/* A network for a set of instructions. Weights are (out, in, 3), of 15 layers; dilations are those of the first 14. Whole numbers in
 * INT8, except in the first and the last layer. NULL if there is no memory. */
EXPORTED struct model *xn_new(int kind, int base, const int *dilations, int int8, const float *const *weights, const float *const *biases,
                              const float *const *scales)
{
    struct model *model = calloc(1, sizeof *model);
    if (!model)
        return NULL;
    model->kind = kind;
    if (make_net(&model->nets[0], &kinds[kind], base, dilations, int8, weights, biases, scales) &&
        (kinds[kind].windows == 1 || make_net(&model->nets[1], &kinds[kinds[kind].single], base, dilations, int8, weights, biases, scales)))
        return model;
    xn_free(model);
    return NULL;
}

static float *aligned(char *memory) { return (float *)(((uintptr_t)memory + 63) / 64 * 64); }

static size_t lists_size(int rows) { return rounded_up(2 * rows, 64); }

/* Probabilities, or logits, of windows (count, 3, samples), samples >= 8. From one window to the next there are `step` values, also in the
 * results, from one component to the next `row`, and from one phase to the next in the results `to_row`. The results of `margin` samples at
 * both ends of a window are not written. 0 if there is no memory. */
EXPORTED int xn_run(const struct model *model, const float *windows, float *results, int count, int samples, int logits, ptrdiff_t step,
                    ptrdiff_t row, ptrdiff_t to_row, int margin)
{
    const struct kind *kind = &kinds[model->kind];
    const struct net *net = &model->nets[0];
    int rows = rows_of(samples, kind->lanes / kind->windows);
    size_t size = (BUFFERS * signal_size(net, rows) + PRODUCTS * LARGEST_RUN * (size_t)larger(net->widest, 4)) * kind->lanes + lists_size(rows);
    char *memory = malloc(size * sizeof(float) + 64);
    if (!memory)
        return 0;
    struct run_arguments run = {.net = net, .windows = windows, .results = results, .memory = aligned(memory), .samples = samples,
                                .count = kind->windows, .logits = logits, .margin = margin, .step = step, .row = row, .to_row = to_row};
    for (; count; count -= run.count, run.windows += run.count * step, run.results += run.count * step) {
        if (count < run.count) {
            run.net = &model->nets[1];
            run.count = 1;
            kind = &kinds[kind->single];
        }
        kind->run(&run);
    }
    free(memory);
    return 1;
}

/* Probabilities (count, 3, wanted) of samples `first` up to `first + wanted` of windows (count, 3, samples): the mean of those at STRIDE
 * places, one sample apart, at which pooling can begin. 0 if there is no memory, -1 if the windows do not hold all that these depend on. */
EXPORTED int xn_around(const struct model *model, const float *windows, float *results, int count, int samples, int first, int wanted)
{
    const struct kind *kind = &kinds[model->kind];
    const struct net *net = &model->nets[0];
    struct range rows = {first, first + wanted};
    struct cone cone = cone_of(net, rows);
    if (cone.in[0].first < 0 || cone.in[0].end > samples)
        return -1;
    size_t each = cone_size(net, &cone, samples), values = BUFFERS * each + PRODUCTS * LARGEST_RUN * (size_t)larger(net->widest, 4) + PHASES * (size_t)wanted;
    char *memory = malloc((values * kind->lanes + lists_size(samples)) * sizeof(float) + 64);
    if (!memory)
        return 0;
    struct run_arguments run = {.net = net, .windows = windows, .results = results, .memory = aligned(memory), .samples = samples,
                                .step = (ptrdiff_t)COMPONENTS * samples, .row = samples, .cone = &cone, .wanted = rows};
    for (; count; count -= run.count, run.windows += run.count * run.step, run.results += (size_t)run.count * PHASES * wanted) {
        if (kind->windows > 1 && count <= kinds[kind->single].lanes) {
            run.net = &model->nets[1];
            kind = &kinds[kind->single];
        }
        run.count = smaller(count, kind->lanes);
        kind->around(&run);
    }
    free(memory);
    return 1;
}

/* Multiply and add from registers and the nearest cache alone; the number of products is returned. For `benchmarks/kernels.py`. */
EXPORTED double xn_peak(int kind, int bytes, int rounds) { return kinds[kind].peak(bytes && kinds[kind].bytes, rounds); }

#else /* once for each set of instructions */

#define NAME(name) JOIN(name, SUFFIX)
#define vf NAME(vf)
#define vi NAME(vi)
#define vb NAME(vb)
#define vi_anywhere NAME(vi_anywhere)

typedef float vf __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t vi __attribute__((vector_size(4 * LANES), may_alias));
typedef uint8_t vb __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t vi_anywhere __attribute__((vector_size(4 * LANES), may_alias, aligned(4)));

#define SEGMENTS (LANES < 8 ? LANES : 8)

INLINE vf NAME(positive)(vf x) { return (vf)((vi)x & ~(vi)(x < 0)); } /* NaN stays NaN */

/* Samples of INT8: x rounded, halves to even, and kept within 0 to 255. */
INLINE vi NAME(to_byte)(vf x)
{
    vi whole = (vi)(NAME(positive)(x) + MAGIC) - (vi)((vf){0} + MAGIC), much = whole > 255;
    return (whole & ~much) | (much & 255);
}

INLINE vf NAME(to_float)(vi x) { return __builtin_convertvector(x, vf); }

INLINE void NAME(finish)(const struct job *j, const int O, const int P, vf sums[LARGEST_BLOCK][LARGEST_RUN], const int *row, int o0)
{
    for (int p = 0; p < P; p++) {
        vf *y = (vf *)j->y + (ptrdiff_t)(row[p] * j->y_step + j->y_first) * j->width;
        const vf *add = j->add ? (const vf *)j->add + (ptrdiff_t)(row[p] >> j->add_shift) * j->out : NULL;
#pragma GCC unroll 10
        for (int o = 0; o < O; o++)
            if (add && o0 + o < j->out)
                sums[o][p] += add[o0 + o];
#ifdef DOT
        if (j->finish == ROUND_TO_BYTES) {
#pragma GCC unroll 10
            for (int o = 0; o < O; o += 4) {
                vf four[4];
#pragma GCC unroll 4
                for (int i = 0; i < 4; i++)
                    four[i] = o + i < O ? sums[smaller(o + i, O - 1)][p] * j->scale[o0 + o + i] : (vf){0} * 0.f;
                if (o0 + o < j->out)
                    ((vi *)y)[(o0 + o) / 4] = TO_BYTES(four[0], four[1], four[2], four[3]);
            }
            continue;
        }
#endif
#pragma GCC unroll 10
        for (int o = 0; o < O; o++)
            if (o0 + o < j->out)
                y[o0 + o] = j->finish == RAW     ? sums[o][p]
                            : j->finish == RELU ? NAME(positive)(sums[o][p])
                                                : NAME(to_float)(NAME(to_byte)(sums[o][p] * j->scale[o0 + o]));
    }
}

INLINE void NAME(rows_in_run)(const struct job *j, const int P, int start, int *row)
{
    for (int p = 0; p < P; p++) {
        int at = smaller(start + p, j->count - 1); /* the last row again, where the list ends */
        row[p] = j->list ? j->list[at] : at;
    }
}

/* A convolution by its taps, O output channels and P rows at once. */
INLINE void NAME(direct)(const struct job *j, const int O, const int P, const int bytes)
{
    const int in = j->in;
    for (int start = 0; start < j->count; start += P) {
        int row[LARGEST_RUN];
        NAME(rows_in_run)(j, P, start, row);
        const float *w = j->weight;
        for (int o0 = 0; o0 < j->out; o0 += O) {
            vf sums[LARGEST_BLOCK][LARGEST_RUN];
            vi wholes[LARGEST_BLOCK][LARGEST_RUN];
#pragma GCC unroll 10
            for (int o = 0; o < O; o++)
#pragma GCC unroll 10
                for (int p = 0; p < P; p++) {
                    sums[o][p] = (vf){0} + j->bias[o0 + o];
                    wholes[o][p] = (vi){0} + ((const int32_t *)j->bias)[o0 + o];
                }
            for (int tap = 0; tap < TAPS; tap++) {
                const vf *x[LARGEST_RUN];
#pragma GCC unroll 10
                for (int p = 0; p < P; p++)
                    x[p] = (const vf *)j->x + (ptrdiff_t)(row[p] + j->offset[tap]) * in;
                for (int i = 0; i < in; i++, w += O) {
#ifdef DOT
                    if (bytes) {
#pragma GCC unroll 10
                        for (int o = 0; o < O; o++) {
                            vi weight = (vi){0} + ((const int32_t *)w)[o];
#pragma GCC unroll 10
                            for (int p = 0; p < P; p++)
                                wholes[o][p] = DOT(wholes[o][p], ((const vi *)x[p])[i], weight);
                        }
                        continue;
                    }
#endif
#pragma GCC unroll 10
                    for (int o = 0; o < O; o++)
#pragma GCC unroll 10
                        for (int p = 0; p < P; p++)
                            sums[o][p] += w[o] * x[p][i];
                }
            }
            if (bytes)
#pragma GCC unroll 10
                for (int o = 0; o < O; o++)
#pragma GCC unroll 10
                    for (int p = 0; p < P; p++)
                        sums[o][p] = NAME(to_float)(wholes[o][p]);
            NAME(finish)(j, O, P, sums, row, o0);
        }
    }
}

/* The inputs of the products of an output at `row`: `mixed[number * step]`. The names are those of Lavin & Gray (2016), F(2,3) and F(4,3). */
INLINE void NAME(mix)(const vf *row, ptrdiff_t d, vf *mixed, int step, const enum products products)
{
    vf x0 = row[-d], x1 = row[0], x2 = row[d];
    if (products == UPSAMPLED) {
        mixed[0] = x0 - x1, mixed[step] = x1, mixed[2 * step] = x2 - x1;
        return;
    }
    vf x3 = row[2 * d];
    if (products == PAIRS) {
        mixed[0] = x0 - x2, mixed[step] = x1 + x2, mixed[2 * step] = x2 - x1, mixed[3 * step] = x1 - x3;
        return;
    }
    vf x4 = row[3 * d], x5 = row[4 * d];
    vf even = x4 - 4 * x2, odd = x3 - 4 * x1, evens = x4 - x2, odds = 2 * (x3 - x1);
    mixed[0] = 4 * (x0 - x2) + (x4 - x2), mixed[step] = even + odd, mixed[2 * step] = even - odd, mixed[3 * step] = evens + odds;
    mixed[4 * step] = evens - odds, mixed[5 * step] = 4 * (x1 - x3) + (x5 - x3);
}

/* Several samples at once from fewer products: of rows `row` and `row + dilation`, of four such rows, or of rows `2 row` and `2 row + 1`. */
INLINE void NAME(reduced)(const struct job *j, const int O, const int P, const enum products products)
{
    const int in = j->in, d = products == UPSAMPLED ? 1 : j->dilation, number = products == FOURS ? 6 : products == PAIRS ? 4 : 3;
    for (int start = 0; start < j->count; start += P) {
        int row[LARGEST_RUN], to[4][LARGEST_RUN];
        NAME(rows_in_run)(j, P, start, row);
        vf *mixed = (vf *)j->scratch;
        for (int p = 0; p < P; p++) {
            const vf *x = (const vf *)j->x + (ptrdiff_t)row[p] * in;
            for (int i = 0; i < in; i++)
                NAME(mix)(x + i, (ptrdiff_t)d * in, mixed + p * in + i, P * in, products);
            for (int n = 0; n < 4; n++)
                to[n][p] = products == UPSAMPLED ? 2 * row[p] + n : row[p] + n * d;
        }
        const float *w = j->weight;
        for (int o0 = 0; o0 < j->out; o0 += O) {
            vf found[PRODUCTS][LARGEST_BLOCK][LARGEST_RUN];
            for (int k = 0; k < number; k++) {
                vf sums[LARGEST_BLOCK][LARGEST_RUN];
#pragma GCC unroll 10
                for (int o = 0; o < O; o++)
#pragma GCC unroll 10
                    for (int p = 0; p < P; p++)
                        sums[o][p] = (vf){0} + (k == 1 ? j->bias[o0 + o] : 0); /* the second product is in all sums */
                const vf *x = mixed + k * P * in;
                for (int i = 0; i < in; i++, w += O)
#pragma GCC unroll 10
                    for (int o = 0; o < O; o++)
#pragma GCC unroll 10
                        for (int p = 0; p < P; p++)
                            sums[o][p] += w[o] * x[p * in + i];
#pragma GCC unroll 10
                for (int o = 0; o < O; o++)
#pragma GCC unroll 10
                    for (int p = 0; p < P; p++)
                        found[k][o][p] = sums[o][p];
            }
            for (int o = 0; o < O; o++)
                for (int p = 0; p < P; p++) {
                    vf m0 = found[0][o][p], m1 = found[1][o][p], m2 = found[2][o][p];
                    if (products == UPSAMPLED) {
                        found[0][o][p] = m0 + m1, found[1][o][p] = m1 + m2;
                        continue;
                    }
                    vf m3 = found[3][o][p], both = m1 + m2, other = m1 - m2;
                    if (products == PAIRS) {
                        found[0][o][p] = m0 + both, found[1][o][p] = other - m3;
                        continue;
                    }
                    vf m4 = found[4][o][p], m5 = found[5][o][p], fours = m3 + m4, others = m3 - m4;
                    found[0][o][p] = m0 + both + fours, found[1][o][p] = other + 2 * others;
                    found[2][o][p] = both + 4 * fours, found[3][o][p] = other + 8 * others + m5;
                }
            for (int n = 0; n < (products == FOURS ? 4 : 2); n++)
                NAME(finish)(j, O, P, found[n], to[n], o0);
        }
    }
}

#if LANES == 16
#define BIG_ROWS 3
#define BIG 8
#define FIVE_ROWS 5
#define FOUR_ROWS 6
#define TEN_ROWS 2
#else
#define BIG_ROWS 3
#define BIG 4
#define FIVE_ROWS 2
#ifndef FOUR_ROWS
#define FOUR_ROWS 2
#endif
#define TEN_ROWS 1
#endif

static void NAME(by_taps)(const struct job *j)
{
    if (j->bytes) {
        if (j->block == 4)
            NAME(direct)(j, 4, FOUR_ROWS, 1);
        else if (j->block == 5)
            NAME(direct)(j, 5, FIVE_ROWS, 1);
        else if (j->block == 10)
            NAME(direct)(j, 10, TEN_ROWS, 1);
        else
            NAME(direct)(j, BIG, BIG_ROWS, 1);
    } else if (j->block == 4)
        NAME(direct)(j, 4, BIG_ROWS, 0);
    else if (j->block == 5)
        NAME(direct)(j, 5, FIVE_ROWS, 0);
    else
        NAME(direct)(j, BIG, BIG_ROWS, 0);
}

static void NAME(by_products)(const struct job *j, enum products products)
{
    if (j->block == 5 && products == UPSAMPLED)
        NAME(reduced)(j, 5, FIVE_ROWS, UPSAMPLED);
    else if (j->block == 5 && products == PAIRS)
        NAME(reduced)(j, 5, FIVE_ROWS, PAIRS);
    else if (j->block == 5)
        NAME(reduced)(j, 5, FIVE_ROWS, FOURS);
    else if (products == UPSAMPLED)
        NAME(reduced)(j, BIG, BIG_ROWS, UPSAMPLED);
    else if (products == PAIRS)
        NAME(reduced)(j, BIG, BIG_ROWS, PAIRS);
    else
        NAME(reduced)(j, BIG, BIG_ROWS, FOURS);
}

/* One source of a convolution, `rows` of output. */
static void NAME(convolve)(struct job j, const struct part *part, int dilation, int rows, int *lists)
{
    j.in = part->in;
    j.dilation = dilation;
    j.offset[0] = -dilation, j.offset[1] = 0, j.offset[2] = dilation;
    j.y_step = 1, j.y_first = 0;
    j.count = rows;
    if (part->reduced && dilation < rows) { /* fours of rows, then pairs of what is left, then single rows */
        int fours = 0, pairs = 0, singles = 0, *pair = lists + rows / 2, *single = lists + rows;
        for (int row = 0; row < rows; row++) {
            int place = row / dilation % 4;
            if (part->fours && row + (3 - place) * dilation < rows) {
                if (place == 0)
                    lists[fours++] = row;
            } else if (row + (1 - place % 2) * dilation < rows) {
                if (place % 2 == 0)
                    pair[pairs++] = row;
            } else
                single[singles++] = row;
        }
        j.list = lists, j.count = fours, j.weight = part->fours;
        NAME(by_products)(&j, FOURS);
        j.list = pair, j.count = pairs, j.weight = part->reduced;
        NAME(by_products)(&j, PAIRS);
        j.list = single, j.count = singles;
    }
    j.weight = part->direct;
    NAME(by_taps)(&j);
}

/* Set samples after the last to zero, and copy what a convolution reads before and after the rows. */
static void NAME(edges)(float *signal, int width, int rows, int samples, int reach)
{
    vi segment, *at = (vi *)signal;
    for (int lane = 0; lane < LANES; lane++)
        segment[lane] = lane % SEGMENTS;
    for (int row = 0; row < rows; row++) {
        int valid = samples > row ? (samples - row + rows - 1) / rows : 0;
        for (int i = 0; valid < SEGMENTS && i < width; i++)
            at[row * width + i] &= segment < valid;
    }
    for (int number = 1; number <= reach; number++) {
        int back = (number - 1) / rows + 1, ahead = (rows + number - 1) / rows;
        vi *before = at - (ptrdiff_t)number * width, *after = at + (ptrdiff_t)(rows + number - 1) * width;
        const vi *from = at + (ptrdiff_t)(back * rows - number) * width, *to = at + (ptrdiff_t)(rows + number - 1 - ahead * rows) * width;
        for (int i = 0; i < width; i++) {
            before[i] = (vi){0}, after[i] = (vi){0};
            if (back < SEGMENTS)
                before[i] = *(const vi_anywhere *)((const int32_t *)(from + i) - back) & (vi)(segment >= back);
            if (ahead < SEGMENTS)
                after[i] = *(const vi_anywhere *)((const int32_t *)(to + i) + ahead) & (vi)(segment < SEGMENTS - ahead);
        }
    }
}

static void NAME(pool)(const float *x, float *y, int width, int rows, int bytes)
{
    for (int row = 0; row < rows; row++) {
        const vf *a = (const vf *)x + (ptrdiff_t)2 * row * width, *b = a + width;
        vf *to = (vf *)y + (ptrdiff_t)row * width;
        for (int i = 0; i < width; i++)
            if (bytes) {
                vb more = (vb)((vb)a[i] > (vb)b[i]);
                to[i] = (vf)(((vb)a[i] & more) | ((vb)b[i] & ~more));
            } else {
                vi more = (a[i] > b[i]) | (a[i] != a[i]); /* NaN stays NaN */
                to[i] = (vf)(((vi)a[i] & more) | ((vi)b[i] & ~more));
            }
    }
}

/* Windows (count, 3, samples), each in so many lanes, to rows of three vectors. Sets `broken` for windows that hold NaN or infinity. */
static void NAME(load)(const struct run_arguments *run, float *to, int rows, int samples, int segments, int *broken)
{
    for (int lane = 0; lane < LANES; lane++)
        for (int c = 0; c < COMPONENTS; c++) {
            int window = smaller(lane / segments, run->count - 1), begin = lane % segments * rows; /* the last again in lanes left over */
            const float *from = run->windows + window * run->step + c * run->row + begin;
            int inside = larger(0, smaller(rows, samples - begin));
            float nothing = 0;
            for (int row = 0; row < inside; row++) {
                to[((size_t)row * COMPONENTS + c) * LANES + lane] = from[row];
                nothing += from[row] * 0;
            }
            for (int row = inside; row < rows; row++)
                to[((size_t)row * COMPONENTS + c) * LANES + lane] = 0;
            broken[window] |= !(nothing == 0);
        }
    vf *x = (vf *)to;
    for (int i = 0; run->net->int8 && i < COMPONENTS * rows; i++) {
        vf value = x[i] * PEAK, whole = (value + MAGIC) - MAGIC;
        vi small = (value < 4194304.f) & (value > -4194304.f);
        x[i] = (vf)(((vi)whole & small) | ((vi)value & ~small));
    }
}

/* e^x for x <= 0, to 1e-7 of it (Cody & Waite 1980: x = n ln 2 + r, and a polynomial in r). */
INLINE vf NAME(exponential)(vf x)
{
    vi far = x < -87.f;
    vf n = (x * 1.44269504f + MAGIC) - MAGIC, r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    vf p = 1.f + r * (1.f + r * (.5f + r * (1.6666667e-1f + r * (4.1666668e-2f + r * (8.3333340e-3f + r * 1.3888889e-3f)))));
    vi power = (((vi)(n + MAGIC) - (vi)((vf){0} + MAGIC)) + 127) << 23;
    return (vf)((vi)(p * (vf)power) & ~far);
}

INLINE vf NAME(highest)(vf a, vf b)
{
    vi more = a > b;
    return (vf)(((vi)a & more) | ((vi)b & ~more));
}

/* Softmax of the rows, in place. */
static void NAME(softmax)(float *logits, int rows)
{
    for (vf *x = (vf *)logits; rows--; x += PHASES) {
        vf top = NAME(highest)(NAME(highest)(x[0], x[1]), x[2]), sum = {0};
        for (int i = 0; i < PHASES; i++)
            sum += x[i] = NAME(exponential)(x[i] - top);
        for (int i = 0; i < PHASES; i++)
            x[i] /= sum;
    }
}

static void NAME(store)(const struct run_arguments *run, const float *from, int rows, int samples, const int *broken)
{
    for (int lane = 0; lane < run->count * SEGMENTS; lane++)
        for (int c = 0; c < PHASES; c++) {
            int begin = lane % SEGMENTS * rows, end = smaller(rows, samples - run->margin - begin);
            float *whole = run->results + lane / SEGMENTS * run->step + c * run->to_row, *to = whole + begin;
            for (int row = larger(0, run->margin - begin); row < end; row++)
                to[row] = broken[lane / SEGMENTS] && run->net->int8 ? 0.f / 0.f : from[((size_t)row * PHASES + c) * LANES + lane];
            if (lane % SEGMENTS == SEGMENTS - 1)
                for (int row = samples; row < run->samples; row++)
                    whole[row] = whole[samples - 1];
        }
}

static void NAME(bytes_to_floats)(const float *x, float *y, int in, int width, int rows)
{
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < width; i++)
            ((vf *)y)[(ptrdiff_t)row * width + i] = NAME(to_float)((((const vi *)x)[(ptrdiff_t)row * in + i / 4] >> (8 * (i % 4))) & 255);
}

/* What the rows of a decoder get from below: the sums for the upsampled signal `x`. Returns how far right to shift a row to find its sums. */
static int NAME(from_below)(struct job j, const struct layer *layer, int rows, int *lists)
{
    int half = layer->dilation / 2;
    j.bias = layer->zeros, j.finish = RAW, j.add = NULL, j.width = layer->out;
    if (layer->dilation % 2 == 0) {
        NAME(convolve)(j, &layer->up, half, rows, lists);
        return 1;
    }
    j.in = layer->up.in, j.count = rows;
    if (layer->up.reduced && layer->dilation == 1) {
        j.weight = layer->up.reduced, j.y_step = 1, j.y_first = 0;
        NAME(by_products)(&j, UPSAMPLED);
        return 0;
    }
    j.weight = layer->up.direct, j.y_step = 2;
    for (int odd = 0; odd < 2; odd++) {
        j.y_first = odd, j.offset[0] = odd ? -half : -half - 1, j.offset[1] = 0, j.offset[2] = odd ? half + 1 : half;
        NAME(by_taps)(&j);
    }
    return 0;
}

static int NAME(values)(const struct net *net, int channels) { return net->bytes ? rounded_up(channels, 4) / 4 : channels; }

static struct job NAME(job_of)(const struct net *net, int number, float *scratch)
{
    const struct layer *layer = &net->layers[number];
    int last = number == LAYERS - 1;
    return (struct job){.bias = layer->bias, .scale = layer->scale, .out = layer->out, .block = layer->block, .scratch = scratch,
                        .bytes = layer->bytes, .width = last ? PHASES : NAME(values)(net, layer->out),
                        .finish = last ? RAW : !net->int8 ? RELU : net->bytes ? ROUND_TO_BYTES : ROUND};
}

static void NAME(run)(const struct run_arguments *run)
{
    const struct net *net = run->net;
    int samples = run->samples / STRIDE * STRIDE, rows = rows_of(run->samples, SEGMENTS), broken[2] = {0};
    size_t size = signal_size(net, rows) * LANES;
    float *signal[BUFFERS]; /* two in turns, sums of the upsampled source, and what the decoders take from the encoders */
    for (int i = 0; i < BUFFERS; i++)
        signal[i] = run->memory + i * size;
    float *scratch = run->memory + BUFFERS * size;
    int *lists = (int *)(scratch + (size_t)PRODUCTS * LARGEST_RUN * larger(net->widest, 4) * LANES);
#define ROW0(number, width, reach) (signal[number] + (ptrdiff_t)(reach) * (width) * LANES)
    int width = COMPONENTS, reach = net->layers[0].dilation;
    float *x = ROW0(0, width, reach), *below = NULL;
    NAME(load)(run, x, rows, samples, SEGMENTS, broken);
    NAME(edges)(x, width, rows, samples, reach);
    for (int number = 0, turn = 1; number < LAYERS - 1; number++, turn = !turn) {
        const struct layer *layer = &net->layers[number];
        int level = level_of(number), second = number % 2, encoder = number < 2 * LEVELS;
        struct job j = NAME(job_of)(net, number, scratch);
        j.x = x;
        if (is_decoder(number)) {
            struct job up = j;
            up.x = below, up.y = signal[2];
            j.add_shift = NAME(from_below)(up, layer, rows >> (level + 1), lists);
            j.add = signal[2];
            turn = 1; /* `below` was in turn 0 */
        }
        width = j.width;
        int to_skip = encoder && second, next = to_skip ? 2 * (2 * LEVELS - level) : number + 1;
        const struct layer *reader = &net->layers[next];
        reach = !to_skip && is_decoder(next) ? (reader->dilation + 1) / 2 : reader->dilation;
        j.y = ROW0(to_skip ? 3 + level : turn, width, reach);
        NAME(convolve)(j, &layer->own, layer->dilation, rows >> level, lists);
        NAME(edges)(j.y, width, rows >> level, samples >> level, reach);
        x = j.y;
        if (to_skip) {
            reach = net->layers[number + 1].dilation;
            x = ROW0(0, width, reach);
            NAME(pool)(j.y, x, width, rows >> (level + 1), net->bytes);
            NAME(edges)(x, width, rows >> (level + 1), samples >> (level + 1), reach);
            turn = 0;
        } else if (is_decoder(next)) {
            below = x;
            level = level_of(next);
            x = ROW0(3 + level, NAME(values)(net, reader->out), reader->dilation);
        }
    }
    const struct layer *head = &net->layers[LAYERS - 1];
    if (net->bytes) {
        float *wide = ROW0(1, net->base, 1);
        NAME(bytes_to_floats)(x - (ptrdiff_t)width * LANES, wide - (ptrdiff_t)net->base * LANES, width, net->base, rows + 2);
        x = wide;
    }
    struct job j = NAME(job_of)(net, LAYERS - 1, scratch);
    j.x = x, j.y = signal[2];
    NAME(convolve)(j, &head->own, 1, rows, lists);
    if (!run->logits)
        NAME(softmax)(signal[2], rows);
    NAME(store)(run, signal[2], rows, samples, broken);
}

/* Rows of a signal in memory. */
struct NAME(signal) {
    float *values;
    struct range rows;
    int width; /* vectors of a row */
};

static float *NAME(at)(struct NAME(signal) signal, int row) { return signal.values + (ptrdiff_t)(row - signal.rows.first) * signal.width * LANES; }

/* One layer of a cone, from `x` to memory `to`, with the sums of what is below if this is the first of a decoder. */
static struct NAME(signal) NAME(step)(const struct run_arguments *run, int number, struct NAME(signal) x, float *to, const float *sums, int shift,
                                      float *scratch, int *lists)
{
    struct range rows = run->cone->out[number];
    struct job j = NAME(job_of)(run->net, number, scratch);
    const struct layer *layer = &run->net->layers[number];
    j.x = NAME(at)(x, rows.first), j.y = to, j.add = sums, j.add_shift = shift;
    NAME(convolve)(j, &layer->own, layer->dilation, rows.end - rows.first, lists);
    return (struct NAME(signal)){to, rows, j.width};
}

/* The decoder of one place, from the deepest level. Returns logits. `skip` are the encoder's signals, counted from the place. */
static struct NAME(signal) NAME(decode)(const struct run_arguments *run, struct NAME(signal) below, const struct NAME(signal) *skip,
                                        float *const *spare, float *scratch, int *lists)
{
    const struct net *net = run->net;
    for (int number = 2 * LEVELS + 2; number < LAYERS - 1; number += 2) {
        struct range rows = run->cone->out[number];
        struct job up = NAME(job_of)(net, number, scratch);
        up.x = NAME(at)(below, half_of(rows.first)), up.y = spare[1];
        int shift = NAME(from_below)(up, &net->layers[number], half_of(rows.end - rows.first), lists);
        struct NAME(signal) first = NAME(step)(run, number, skip[level_of(number)], spare[2], spare[1], shift, scratch, lists);
        below = NAME(step)(run, number + 1, first, spare[0], NULL, 0, scratch, lists);
    }
    if (net->bytes) {
        NAME(bytes_to_floats)(below.values, spare[1], below.width, net->base, below.rows.end - below.rows.first);
        below = (struct NAME(signal)){spare[1], below.rows, net->base};
    }
    return NAME(step)(run, LAYERS - 1, below, spare[2], NULL, 0, scratch, lists);
}

/* Probabilities of some samples, the mean of all places. Each lane is a window. Places share the levels of the encoder: level l knows 2^l
 * places, so it is computed again only when one of its pooling operations begins at its other row. */
static void NAME(around)(const struct run_arguments *run)
{
    const struct net *net = run->net;
    const struct cone *cone = run->cone;
    struct range wanted = run->wanted;
    int samples = wanted.end - wanted.first, broken[LANES] = {0};
    size_t size = cone_size(net, cone, run->samples) * LANES;
    float *spare[3], *scratch = run->memory + BUFFERS * size;
    vf *mean = (vf *)(scratch + (size_t)PRODUCTS * LARGEST_RUN * larger(net->widest, 4) * LANES);
    int *lists = (int *)(mean + PHASES * samples);
    struct NAME(signal) skip[LEVELS + 1], x = {run->memory, {0, run->samples}, COMPONENTS};
    for (int i = 0; i < BUFFERS / 2; i++) {
        spare[i] = run->memory + i * size;
        skip[i].values = run->memory + (BUFFERS / 2 + i) * size;
    }
    skip[LEVELS].values = spare[0];
    memset(mean, 0, PHASES * samples * sizeof *mean);
    NAME(load)(run, x.values, run->samples, run->samples, 1, broken);
    for (int turn = 0, level = 0; turn < STRIDE; turn++) {
        for (; level <= LEVELS; level++) {
            if (level) {
                int second = turn >> (LEVELS - level) & 1; /* at which of two rows pooling begins */
                struct range rows = cone->in[level];
                x = (struct NAME(signal)){spare[0], rows, skip[level - 1].width};
                NAME(pool)(NAME(at)(skip[level - 1], 2 * rows.first + second), x.values, x.width, rows.end - rows.first, net->bytes);
            }
            struct NAME(signal) first = NAME(step)(run, 2 * level, x, spare[1], NULL, 0, scratch, lists);
            skip[level] = NAME(step)(run, 2 * level + 1, first, skip[level].values, NULL, 0, scratch, lists);
        }
        int place = 0;
        struct NAME(signal) seen[LEVELS];
        for (level = LEVELS - 1; level >= 0; level--) {
            place = 2 * place + (turn >> (LEVELS - 1 - level) & 1);
            seen[level] = skip[level];
            seen[level].rows = (struct range){skip[level].rows.first - place, skip[level].rows.end - place};
        }
        struct NAME(signal) logits = NAME(decode)(run, skip[LEVELS], seen, spare, scratch, lists);
        NAME(softmax)(logits.values, logits.rows.end - logits.rows.first);
        const vf *from = (const vf *)NAME(at)(logits, wanted.first - place);
        for (int i = 0; i < PHASES * samples; i++)
            mean[i] += from[i] * (1.f / STRIDE);
        for (level = LEVELS; level && (turn >> (LEVELS - level) & 1); level--)
            ;
    }
    for (int lane = 0; lane < run->count; lane++)
        for (int i = 0; i < PHASES * samples; i++)
            run->results[((size_t)lane * PHASES + i % PHASES) * samples + i / PHASES] =
                broken[lane] && net->int8 ? 0.f / 0.f : ((const float *)mean)[(size_t)i * LANES + lane];
}

INLINE double NAME(busy)(int rounds, const int bytes)
{
    enum { O = 4, P = 3 };
    vf x[P] = {{0}}, sums[O][P] = {{{0}}}, all = {0};
    vi wholes[O][P] = {{{0}}};
    float w[O] = {0};
    for (int round = 0; round < rounds; round++) {
        __asm__ volatile("" : : "r"(x), "r"(w) : "memory"); /* read them again */
#pragma GCC unroll 10
        for (int o = 0; o < O; o++)
#pragma GCC unroll 10
            for (int p = 0; p < P; p++)
#ifdef DOT
                if (bytes)
                    wholes[o][p] = DOT(wholes[o][p], (vi)x[p], (vi){0} + ((const int32_t *)w)[o]);
                else
#endif
                    sums[o][p] += w[o] * x[p];
    }
#pragma GCC unroll 12
    for (int i = 0; i < O * P; i++)
        all += sums[i / P][i % P] + NAME(to_float)(wholes[i / P][i % P]);
    return (double)rounds * O * P * LANES * (bytes ? 4 : 1) + all[0]; /* all is 0, which the compiler does not know */
}

static double NAME(peak)(int bytes, int rounds) { return bytes ? NAME(busy)(rounds, 1) : NAME(busy)(rounds, 0); }

#undef ROW0
#undef BIG_ROWS
#undef BIG
#undef FIVE_ROWS
#undef FOUR_ROWS
#undef TEN_ROWS
#undef SEGMENTS
#undef NAME
#undef vf
#undef vi
#undef vb
#undef vi_anywhere
#undef LANES
#undef SUFFIX
#undef DOT
#undef TO_BYTES
#ifdef TARGETED
#undef TARGETED
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#endif
