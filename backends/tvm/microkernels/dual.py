"""The 16-bit dual instructions of Arm cores in C, and the same for compilers without them."""

WIDEN = """\
#ifndef OFFRAMP_WIDEN
#define OFFRAMP_WIDEN
#define pair_low(a, b) ((int32_t)(((uint32_t)(a) & 0xffffu) | (uint32_t)(b) << 16))
#define pair_high(a, b) ((int32_t)(((uint32_t)(b) & 0xffff0000u) | (uint32_t)(a) >> 16))
#if defined(__ARM_FEATURE_SIMD32)
#include <arm_acle.h>
#define widen_even(w) ((int32_t)__sxtb16(w))
static inline int32_t widen_odd(uint32_t word) {
  int32_t odd;
  __asm("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(word));
  return odd;
}
#else
#define widen_even(w) \\
  ((int32_t)((uint32_t)(int8_t)((w) >> 16) << 16 | (uint16_t)(int16_t)(int8_t)(w)))
#define widen_odd(w) \\
  ((int32_t)((uint32_t)(int8_t)((w) >> 24) << 16 | (uint16_t)(int16_t)(int8_t)((w) >> 8)))
#endif
static inline uint32_t four_bytes(const int8_t *from) {
  uint32_t word;
  memcpy(&word, from, 4);
  return word;
}
static inline uint32_t two_halves(const int16_t *from) {
  uint32_t word;
  memcpy(&word, from, 4);
  return word;
}
#endif
"""
"""Portable spelling of `sxtb16`, plain and rotated by eight bits, of `pkhbt` and `pkhtb`."""

INTRINSICS = """\
#ifndef OFFRAMP_DUAL
#define OFFRAMP_DUAL
#if defined(__ARM_FEATURE_SIMD32)
#include <arm_acle.h>
#define dual(a, b, sum) __smlad(a, b, sum)
#define low_by_low(a, b, sum) __smlabb(a, b, sum)
#define high_by_low(a, b, sum) __smlatb(a, b, sum)
#define saturated(value, bits) __ssat(value, bits)
static inline int32_t scaled(int32_t sum, const int32_t *by, int32_t zero) {
  int32_t value;
  __asm("smmlar %0, %1, %2, %3" : "=r"(value) : "r"(sum), "r"(by[0]), "r"(zero));
  return value;
}
#else
#define dual(a, b, sum) \\
  ((sum) + (int16_t)(a) * (int16_t)(b) + ((a) >> 16) * ((b) >> 16))
#define low_by_low(a, b, sum) ((sum) + (int16_t)(a) * (int16_t)(b))
#define high_by_low(a, b, sum) ((sum) + ((a) >> 16) * (int16_t)(b))
#define saturated(value, bits) \\
  ((value) < -(1 << ((bits) - 1)) ? -(1 << ((bits) - 1)) \\
   : (value) > (1 << ((bits) - 1)) - 1 ? (1 << ((bits) - 1)) - 1 : (value))
static inline int32_t scaled(int32_t sum, const int32_t *by, int32_t zero) {
  return (int32_t)(((int64_t)sum * by[0] + (int64_t)zero * 4294967296 + 0x80000000LL) >> 32);
}
#endif
static inline int32_t scaled_exactly(int32_t sum, const int32_t *by, int32_t zero) {
  const int32_t high = (int32_t)(((int64_t)sum * by[0] + 0x40000000) >> 31);
  return ((high + ((1 << by[1]) >> 1) + (by[2] & (high >> 31))) >> by[1]) + zero;
}
static inline int8_t bounded(int32_t value, int32_t low, int32_t high) {
  if (low == -128 && high == 127) return (int8_t)saturated(value, 8);
  return (int8_t)(value < low ? low : value > high ? high : value);
}
static inline int16_t bounded_16(int32_t value, int32_t low, int32_t high) {
  if (low == -32768 && high == 32767) return (int16_t)saturated(value, 16);
  return (int16_t)(value < low ? low : value > high ? high : value);
}
#endif
"""
"""Portable spelling of `smlad`, `smlabb`, `smlatb`, `ssat` and `smmlar`, and clamps."""
