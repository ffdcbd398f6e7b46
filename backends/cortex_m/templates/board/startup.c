/* Start-up code of the emulated board: vectors, floating point, data and bss. */
#include "semihosting.h"

#include <stdint.h>

extern uint32_t data_load[], data_start[], data_end[], bss_start[], bss_end[];
extern uint32_t stack_top[];
extern int main(void);
void reset(void);

void reset(void)
{
    volatile uint32_t *const coprocessor_access = (uint32_t *)0xE000ED88;
    *coprocessor_access |= 0xFu << 20; /* floating-point unit on */
    __asm volatile("dsb\n isb");
    const uint32_t *source = data_load;
    for (uint32_t *target = data_start; target < data_end;)
        *target++ = *source++;
    for (uint32_t *target = bss_start; target < bss_end;)
        *target++ = 0;
    semihosting_exit(main());
}

static void fault(void)
{
    semihosting_exit(99);
}

typedef void handler(void);

__attribute__((section(".vectors"), used)) static handler *const vectors[16] = {
    (handler *)stack_top, reset, fault, fault, fault, fault, fault, 0,
    0, 0, 0, fault, fault, 0, fault, fault,
};
