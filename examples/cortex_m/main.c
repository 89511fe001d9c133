/* Replay the record in the file record.bin, sample by sample, and print its picks: phase, time of the day and probability. */
#include <stdint.h>
#include <stdio.h>

#include "xiaonet.h"

static struct {
    int64_t first;    /* number of the first sample, counted from 1970-01-01 */
    int64_t phase_ns; /* time of sample 0 after midnight of that day, less than half a sample */
    int64_t samples;
} head;
static xn_stream stream;

static void print(void *context, const xn_pick *pick)
{
    int64_t ms = (pick->tenths * 1000 + head.phase_ns / 1000) / 1000 % 86400000; /* a tenth of a sample at 100 Hz is 1 ms */
    int second = (int)(ms / 1000);
    ++*(int *)context;
    printf("%c %02d:%02d:%02d.%03d  %.2f\n", "PS"[pick->phase], second / 3600, second / 60 % 60, second % 60, (int)(ms % 1000),
           pick->probability / 16777216.0);
}

int main(void)
{
    int picks = 0;
    FILE *file = fopen("record.bin", "rb");
    if (file == NULL || fread(&head, sizeof head, 1, file) != 1) return 71;
    xn_begin(&stream, head.first, print, &picks);
    for (int64_t i = 0; i < head.samples; i++) {
        int32_t counts[3];
        if (fread(counts, sizeof counts, 1, file) != 1) return 72;
        xn_push(&stream, counts[XN_E], counts[XN_N], counts[XN_Z]);
    }
    xn_gap(&stream, head.first + head.samples);
    printf("%d picks in %d s of data, with %lu bytes of memory\n", picks, (int)(head.samples / 100), (unsigned long)sizeof stream);
    return 0;
}
