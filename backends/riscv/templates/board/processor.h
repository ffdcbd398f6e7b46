/* What the board support needs of a RISC-V core: semihosting, a measured call, the cycle counter. */
#ifndef PROCESSOR_H
#define PROCESSOR_H

#include <stdint.h>

/* The three instructions that mean a call must be uncompressed and lie on one page. */
__attribute__((naked, noinline, aligned(16), unused)) static int semihosting_call(int operation,
                                                                                  const void *block)
{
    (void)operation;
    (void)block;
    __asm volatile(".option push\n"
                   ".option norvc\n"
                   "slli x0, x0, 0x1f\n"
                   "ebreak\n"
                   "srai x0, x0, 7\n"
                   "ret\n"
                   ".option pop\n");
}

/* The body of a naked function that calls another; instructions are counted up to the label. */
#define MEASURED_CALL(function)                    \
    __asm volatile("addi sp, sp, -16\n"            \
                   "sw ra, 12(sp)\n"               \
                   "call " function "\n"           \
                   ".global measured_run_returned\n" \
                   "measured_run_returned:\n"      \
                   "lw ra, 12(sp)\n"               \
                   "addi sp, sp, 16\n"             \
                   "ret\n")

static inline void timer_start(void)
{
}

static inline uint32_t timer_value(void)
{
    uint32_t cycles;
    __asm volatile(".option push\n"
                   ".option arch, +zicsr\n"
                   "csrr %0, mcycle\n"
                   ".option pop\n"
                   : "=r"(cycles));
    return cycles;
}

static inline uint32_t timer_ticks_since(uint32_t value)
{
    return timer_value() - value;
}

#endif
