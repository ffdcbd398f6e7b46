/* Files of the host and the end of the program, through the debugger or QEMU; no C library. */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include "processor.h"

#include <stdint.h>

/* A handle, or -1. mode: 1 reads bytes, 5 writes them. */
static inline int semihosting_open(const char *name, int mode, uint32_t name_length)
{
    const uint32_t block[3] = {(uint32_t)name, (uint32_t)mode, name_length};
    return semihosting_call(0x01, block);
}

/* Both return 0 if all bytes were transferred. */
static inline int semihosting_write(int handle, const void *bytes, uint32_t size)
{
    const uint32_t block[3] = {(uint32_t)handle, (uint32_t)bytes, size};
    return size ? semihosting_call(0x05, block) : 0;
}

static inline int semihosting_read(int handle, void *bytes, uint32_t size)
{
    const uint32_t block[3] = {(uint32_t)handle, (uint32_t)bytes, size};
    return size ? semihosting_call(0x06, block) : 0;
}

static inline void semihosting_exit(int code)
{
    const uint32_t block[2] = {0x20026, (uint32_t)code};
    semihosting_call(0x20, block);
    for (;;) {
    }
}

#endif
