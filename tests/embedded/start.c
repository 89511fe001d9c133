/* Vectors and reset of an emulated Cortex-M. Files and the console are those of the host (semihosting). */
#include <stdint.h>
#include <stdlib.h>

extern uint32_t data_begin[], data_end[], data_source[], bss_begin[], bss_end[], stack_top[];
int main(void);
void initialise_monitor_handles(void);

void reset(void)
{
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* the floating-point unit, which the C library may use */
    for (uint32_t *to = data_begin, *from = data_source; to < data_end;) *to++ = *from++;
    for (uint32_t *to = bss_begin; to < bss_end;) *to++ = 0;
    initialise_monitor_handles();
    exit(main());
}

static void fault(void)
{
    exit(70);
}

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    stack_top, (void *)reset, (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault,
};
