/* What the board support needs of an Arm Cortex-M: semihosting, a measured call, timer 0. */
#ifndef PROCESSOR_H
#define PROCESSOR_H

#include <stdint.h>

#define TIMER0_CONTROL (*(volatile uint32_t *)0x40000000)
#define TIMER0_VALUE (*(volatile uint32_t *)0x40000004)
#define TIMER0_RELOAD (*(volatile uint32_t *)0x40000008)

static inline int semihosting_call(int operation, const void *block)
{
    register int r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = block;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

/* The body of a naked function that calls another; instructions are counted up to the label. */
#define MEASURED_CALL(function)                    \
    __asm volatile("push {r4, lr}\n"               \
                   "bl " function "\n"             \
                   ".global measured_run_returned\n" \
                   "measured_run_returned:\n"      \
                   "pop {r4, pc}\n")

static inline void timer_start(void)
{
    TIMER0_RELOAD = 0xFFFFFFFFu;
    TIMER0_CONTROL = 1;
}

/* At 25 MHz; the timer counts down. */
static inline uint32_t timer_ticks(void)
{
    return 0u - TIMER0_VALUE;
}

#endif
