/* What the board support needs of an Arm Cortex-M: semihosting, a measured call, SysTick. */
#ifndef PROCESSOR_H
#define PROCESSOR_H

#include <stdint.h>

#define SYSTICK_CONTROL (*(volatile uint32_t *)0xE000E010)
#define SYSTICK_RELOAD (*(volatile uint32_t *)0xE000E014)
#define SYSTICK_VALUE (*(volatile uint32_t *)0xE000E018)
#define SYSTICK_MASK 0xFFFFFFu

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
    SYSTICK_RELOAD = SYSTICK_MASK;
    SYSTICK_VALUE = 0;
    SYSTICK_CONTROL = 5; /* the processor's clock, no interrupt */
}

static inline uint32_t timer_value(void)
{
    return SYSTICK_VALUE;
}

/* Modulo 2^24; it counts down. */
static inline uint32_t timer_ticks_since(uint32_t value)
{
    return (value - SYSTICK_VALUE) & SYSTICK_MASK;
}

#endif
