/* Start-up code of the emulated board: traps, stack, data and bss. */
#include "semihosting.h"

#include <stdint.h>

extern uint32_t data_load[], data_start[], data_end[], bss_start[], bss_end[];
extern int main(void);
void reset(void);

/* Trap handlers stand at multiples of four bytes. */
__attribute__((aligned(4), used)) static void fault(void)
{
    semihosting_exit(99);
}

__attribute__((used)) static void start(void)
{
    const uint32_t *source = data_load;
    for (uint32_t *target = data_start; target < data_end;)
        *target++ = *source++;
    for (uint32_t *target = bss_start; target < bss_end;)
        *target++ = 0;
    semihosting_exit(main());
}

__attribute__((section(".vectors"), naked)) void reset(void)
{
    __asm volatile(".option push\n"
                   ".option arch, +zicsr\n"
                   "la sp, stack_top\n"
                   "la t0, fault\n"
                   "csrw mtvec, t0\n"
                   "tail start\n"
                   ".option pop\n");
}
