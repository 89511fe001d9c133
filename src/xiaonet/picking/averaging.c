/* The loops of `averaging.py` over samples, which explains them. Each operation is rounded as it is there, so both give the same bits.
 * Therefore it is compiled without fused multiply-add. Sums are taken in the order of `_folded`. The data hold no NaN.
 */
#include <math.h>
#include <stdint.h>

#ifndef INTERFACE
#define INTERFACE 1 /* the same number is in averaging.py; raise both when an argument or a result changes */
#endif

#define WINDOW 3001
#define DEAD 1e-9

#define INLINE static inline __attribute__((always_inline))
#define EXPORTED __attribute__((visibility("default")))

/* Add `rows` rows of `width` values, one after the other. */
INLINE void fold(const double *restrict values, double *restrict sums, const int rows, const int width)
{
    for (int i = 0; i < width; i++)
        sums[i] = values[i];
    for (int row = 1; row < rows; row++)
        for (int i = 0; i < width; i++)
            sums[i] += values[row * width + i];
}

/* The sum of a window, from the sums `a` of its first folding. */
INLINE double folded(double *a, double last_value)
{
    double b[120], c[24], d[8], last[1];
    fold(a, b, 5, 120);
    fold(b, c, 5, 24);
    fold(c, d, 3, 8);
    fold(d, a, 2, 4);
    fold(a, b, 2, 2);
    fold(b, last, 2, 1);
    return last[0] + last_value;
}

#define TIME(i) ((double)((i) - WINDOW / 2))

/* The sum of a window without its mean, each sample multiplied by its time. */
INLINE double rise_of(const double *restrict window, double mean)
{
    double a[600];
    for (int i = 0; i < 600; i++)
        a[i] = (window[i] - mean) * TIME(i);
    for (int row = 1; row < 5; row++)
        for (int i = 0; i < 600; i++)
            a[i] += (window[row * 600 + i] - mean) * TIME(row * 600 + i);
    return folded(a, (window[WINDOW - 1] - mean) * TIME(WINDOW - 1));
}

/* The largest absolute value of a window without its mean and a line through its middle. */
INLINE double peak_of(const double *restrict window, double mean, double slope)
{
    double low = 0, high = 0;
    for (int i = 0; i < WINDOW; i++) {
        const double rest = (window[i] - mean) - slope * TIME(i);
        low = rest < low ? rest : low;
        high = rest > high ? rest : high;
    }
    return high > -low ? high : -low;
}

INLINE void lines_of(const double *samples, const int64_t *starts, int64_t count, double *mean, double *slope, double *scale)
{
    double power = 0, sums[600];
    for (int i = 0; i < WINDOW; i++)
        power += TIME(i) * TIME(i);
    for (int64_t number = 0; number < count; number++) {
        const double *window = samples + starts[number];
        fold(window, sums, 5, 600);
        const double middle = folded(sums, window[WINDOW - 1]) / WINDOW;
        const double rise = rise_of(window, middle) / power;
        const double peak = peak_of(window, middle, rise);
        const double largest = fabs(middle) + fabs(rise) * (WINDOW / 2) + peak; /* no sample was larger */
        const int dead = peak <= DEAD * largest && peak <= DEAD * peak_of(window, 0, 0);
        mean[number] = middle;
        slope[number] = rise;
        scale[number] = dead ? 0 : 1 / peak;
    }
}

INLINE void average_of(const double *samples, const int64_t *places, const double *scales, const double *lines, int64_t pieces, float *out)
{
    for (int64_t piece = 0; piece < pieces; piece++) {
        const double *restrict x = samples + places[piece];
        float *restrict y = out + places[piece];
        const int length = (int)(places[piece + 1] - places[piece]);
        const double s0 = scales[2 * piece], s1 = scales[2 * piece + 1];
        const double l0 = lines[3 * piece], l1 = lines[3 * piece + 1], l2 = lines[3 * piece + 2];
        for (int i = 0; i < length; i++) {
            const double share = (double)i / length;
            y[i] = (float)(x[i] * (s1 * share + s0) - ((l2 * share + l1) * share + l0));
        }
    }
}

#define LINES (const double *samples, const int64_t *starts, int64_t count, double *mean, double *slope, double *scale)
#define AVERAGE (const double *samples, const int64_t *places, const double *scales, const double *lines, int64_t pieces, float *out)

#define PASS_LINES (samples, starts, count, mean, slope, scale)
#define PASS_AVERAGE (samples, places, scales, lines, pieces, out)

static void lines_portable LINES { lines_of PASS_LINES; }
static void average_portable AVERAGE { average_of PASS_AVERAGE; }

#if defined(__x86_64__)
#if defined(__clang__)
#define AVX512 __attribute__((target("avx512f")))
#else
#define AVX512 __attribute__((target("avx512f,prefer-vector-width=512")))
#endif
#define AVX2 __attribute__((target("avx2")))
AVX512 static void lines_avx512 LINES { lines_of PASS_LINES; }
AVX512 static void average_avx512 AVERAGE { average_of PASS_AVERAGE; }
AVX2 static void lines_avx2 LINES { lines_of PASS_LINES; }
AVX2 static void average_avx2 AVERAGE { average_of PASS_AVERAGE; }
/* Call the function for this processor. */
#define BEST(name, pass)                          \
    do {                                          \
        __builtin_cpu_init();                     \
        if (__builtin_cpu_supports("avx512f"))    \
            name##_avx512 pass;                   \
        else if (__builtin_cpu_supports("avx2"))  \
            name##_avx2 pass;                     \
        else                                      \
            name##_portable pass;                 \
    } while (0)
#else
#define BEST(name, pass) name##_portable pass
#endif

EXPORTED int xa_interface(void) { return INTERFACE; }

EXPORTED void xa_lines LINES { BEST(lines, PASS_LINES); }

EXPORTED void xa_average AVERAGE { BEST(average, PASS_AVERAGE); }
