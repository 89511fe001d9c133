/* XiaoNet: P and S phases in three-component seismograms, in whole numbers.
 *
 * Model: $model
 * Written by `xiaonet export --format c`.
 * SPDX-License-Identifier: MIT
 *
 * C99 without malloc, floating point or global variables. All that changes is in an xn_state, which you own: use one for each station.
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
    int16_t x[$widest];                        /* what a kernel sees */
    int16_t near[9];                           /* three normalised samples of each component */
    uint16_t made[$layers];                      /* columns that each layer has made */
    uint8_t columns[$columns_bytes];               /* the latest columns of each layer */
} xn_state;

/* Compute the logits of a window: remove mean and trend, scale each component to its peak, and run the network.
 *
 * Components that are constant or a straight line count as dead: the network sees zeros.
 * Returns the number of raw counts that were clipped to 24 bits, 0 to 9003.
 */
int32_t xn_window(xn_state *state, const xn_raw *raw, xn_logits *logits);

#ifdef __cplusplus
}
#endif

#endif
