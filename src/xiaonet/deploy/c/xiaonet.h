/* XiaoNet: P and S phases in three-component seismograms, in whole numbers.
 *
 * Model: $model
 * Written by `xiaonet export --format c`.
 * SPDX-License-Identifier: MIT
 *
 * C99 without malloc, floating point or global variables. All that changes is in an xn_state or an xn_stream, which you own.
 */
#ifndef XIAONET_H
#define XIAONET_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define XN_SAMPLES 3001          /* samples in a window: 30 s at 100 Hz */
#define XN_LOGIT_BITS $logit_bits          /* logits are in units of 2^-XN_LOGIT_BITS */

enum { XN_E, XN_N, XN_Z };         /* components: east, north, vertical */
enum { XN_P, XN_S, XN_NOISE };     /* phases */

/* Raw counts of a digitizer, up to 24 bits. Larger counts are clipped to -2^23 ... 2^23 - 1. */
typedef struct {
    int32_t component[3][XN_SAMPLES];
} xn_raw;

/* Logits: the probability of a phase is the softmax over the three phases. */
typedef struct {
    int32_t phase[3][XN_SAMPLES];
} xn_logits;

/* Working memory, $state_bytes bytes. What it holds between two calls of xn_window does not matter. */
typedef struct {
    int64_t line[3], slope[3];                 /* straight line of each component, in units of 1 / XN_TIME_SQUARES */
    uint64_t peak[3];                          /* after the line is removed, in the same unit */
    int16_t x[2 * $widest + 8];                /* what a kernel sees at two columns, and room for the last vector */
    uint8_t bytes[2][$widest + 4];             /* the same, before it is spread to 16 bits */
    int16_t near[16];                          /* four normalised samples of each component */
    uint16_t made[$layers];                      /* columns that each layer has made */
    uint8_t columns[$columns_bytes + 4];           /* the latest columns of each layer */
} xn_state;

#define XN_THRESHOLD_P $threshold_p /* recommended thresholds, in units of 2^-24 */
#define XN_THRESHOLD_S $threshold_s
#define XN_RECENT 256            /* probabilities that the onset of a pick is read from */
#define XN_PEAKS 32              /* peaks in a row that are closer than a second */
#define XN_NOT_BEGUN (-1)

/* Compute the logits of a window: remove mean and trend, scale each component to its peak, and run the network.
 *
 * Components that are constant or a straight line count as dead: the network sees zeros.
 * Returns the number of raw counts that were clipped to 24 bits, 0 to 9003.
 */
int32_t xn_window(xn_state *state, const xn_raw *raw, xn_logits *logits);

typedef struct {
    int64_t tenths;              /* onset in tenths of a sample: milliseconds at 100 Hz, counted as you count samples */
    uint32_t probability;        /* at the peak, in units of 2^-24 */
    int phase;                   /* XN_P or XN_S */
} xn_pick;

/* Called for each pick, about 31 s after the onset. */
typedef void (*xn_on_pick)(void *context, const xn_pick *pick);

typedef struct {
    int64_t sample;
    int32_t height, tenths;
    int fate;                    /* 1: a pick; -1: too close to a higher one; 0: not decided */
} xn_peak;

typedef struct {
    int32_t recent[XN_RECENT];   /* probabilities of a phase */
    int32_t before;              /* the latest of them */
    int64_t top;                 /* where it rose to that */
    int rising, peaks;
    xn_peak peak[XN_PEAKS];
} xn_curve;

/* Reads picks from probabilities. Change only `threshold`, after xn_begin. */
typedef struct {
    int32_t threshold[2];        /* of P and S, in units of 2^-24 */
    xn_on_pick on_pick;
    void *context;
    xn_curve curve[2];
} xn_reader;

/* Pick the logits of a window, with the recommended thresholds. Tenths of a sample are counted from the start of the window.
 * The reader is working memory. Nothing is picked in the half second at either end, as in any record. */
void xn_picks(xn_reader *reader, const xn_logits *logits, xn_on_pick on_pick, void *context);

/* A continuous record, about $stream_kilobytes kB. Change only `reader.threshold`, after xn_begin. */
typedef struct {
    uint32_t begun;
    int64_t clipped;             /* counts beyond 24 bits so far */
    int64_t origin, next;        /* the first sample since the latest gap, and the next sample */
    int64_t last_window;         /* end of the latest window */
    int window_begin;            /* place of its first sample in `raw` */
    int since[3];                /* samples from the start of each earlier window to that of the latest */
    xn_reader reader;
    xn_state state;
    uint8_t raw[XN_SAMPLES][3][3];  /* the latest samples, a ring; 24 bits each */
    uint8_t mean[2][XN_SAMPLES][3]; /* of their probabilities */
} xn_stream;

/* Begin a continuous record. Windows begin at multiples of 2000 samples, so count samples from 1970-01-01, as XiaoNet does on a computer:
 * the same record then gives the same picks. */
void xn_begin(xn_stream *stream, int64_t sample, xn_on_pick on_pick, void *context);

/* Take the next sample. Every 2000 samples the network runs. Returns 0, or XN_NOT_BEGUN. */
int32_t xn_push(xn_stream *stream, int32_t e, int32_t n, int32_t z);

/* Say that samples are missing, or that the record ends: all picks so far are reported. The next sample has the given number.
 * Records without a gap that are shorter than 30 s are not picked. Returns 0, or XN_NOT_BEGUN. */
int32_t xn_gap(xn_stream *stream, int64_t sample);

#ifdef __cplusplus
}
#endif

#endif
