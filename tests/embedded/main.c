/* Compute the logits of the windows in the file windows.bin, write them to logits.bin, and print what a window takes. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "xiaonet.h"

#define SYSTICK ((volatile uint32_t *)0xE000E010) /* counts down from 2^24 */
#define PAINT 0xA5A5A5A5u
#define PAINTED 2048 /* words of the stack */

static xn_state state;
static xn_raw raw;
static xn_logits logits;
static xn_stream stream;

/* With `-icount shift=0` an instruction takes 1 ns, and a step of SysTick takes 1000 / CLOCK_MHZ ns. */
static int32_t instructions_since(uint32_t begin)
{
    return (int32_t)((uint64_t)((begin - SYSTICK[2]) & 0xFFFFFF) * 1000 / CLOCK_MHZ);
}

/* Two million instructions, to check the counter: `subs` and `bne`, a million times. */
static void two_million(void)
{
    uint32_t n = 1000000;
    __asm__ volatile("1: subs %0, %0, #1\n bne 1b" : "+r"(n) : : "cc");
}

static void compute_window(void)
{
    xn_window(&state, &raw, &logits);
}

static void take_pick(void *context, const xn_pick *pick)
{
    ++*(int *)context;
    (void)pick;
}

/* Push the counts in `raw` as a whole record. */
static void push_record(void)
{
    int picks = 0;
    xn_begin(&stream, 0, take_pick, &picks);
    for (int t = 0; t < XN_SAMPLES; t++) xn_push(&stream, raw.component[XN_E][t], raw.component[XN_N][t], raw.component[XN_Z][t]);
    xn_gap(&stream, 0);
}

/* The stack that a function uses, in bytes. */
static int32_t stack_of(void (*function)(void), int32_t *instructions)
{
    volatile uint32_t *top = (volatile uint32_t *)__builtin_frame_address(0) - 64, *low = top - PAINTED;
    for (volatile uint32_t *p = low; p < top; p++) *p = PAINT;
    uint32_t begin = SYSTICK[2];
    function();
    *instructions = instructions_since(begin);
    while (low < top && *low == PAINT) low++;
    return (int32_t)(4 * (top - low)) + 256;
}

int main(void)
{
    SYSTICK[1] = 0xFFFFFF;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5; /* on, with the processor's clock, without interrupts */
    uint32_t begin = SYSTICK[2];
    two_million();
    printf("loop %ld\n", (long)instructions_since(begin));

    FILE *in = fopen("windows.bin", "rb"), *out = fopen("logits.bin", "wb");
    if (in == NULL || out == NULL) return 71;
    memset(&state, 0xA5, sizeof state);
    while (fread(&raw, sizeof raw, 1, in) == 1) {
        int32_t instructions, stack = stack_of(compute_window, &instructions);
        printf("window %ld %ld\n", (long)instructions, (long)stack);
        if (fwrite(&logits, sizeof logits, 1, out) != 1) return 72;
    }
    int32_t unused;
    printf("stream %lu %ld\n", (unsigned long)sizeof stream, (long)stack_of(push_record, &unused));
    return fclose(out) ? 73 : 0;
}
