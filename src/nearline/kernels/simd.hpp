// Vectors of doubles as wide as the instruction set this file is compiled for; exp and log1p on them.
//
// Compiled once per instruction set (see CMakeLists.txt); everything lives in a namespace of that name, so
// that the linker never mixes code of two sets.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifndef NEARLINE_ISA
#define NEARLINE_ISA portable
#endif

#if defined(__GNUC__) && !defined(__clang__)
#define NEARLINE_UNROLL _Pragma("GCC unroll 16")
#else
#define NEARLINE_UNROLL _Pragma("clang loop unroll(full)")
#endif

namespace nearline::NEARLINE_ISA {

#if defined(__AVX512F__)
constexpr int kWidth = 8;      // doubles a vector
constexpr int kTileRows = 8;   // 8 x 3 accumulators of the 32 registers
#elif defined(__AVX2__)
constexpr int kWidth = 4;
constexpr int kTileRows = 4;   // 4 x 3 of 16
#else
constexpr int kWidth = 2;
constexpr int kTileRows = 4;
#endif
constexpr int kBlock = 8;      // dimensions are padded to a multiple of this
constexpr int kTileVectors = 3;

typedef double Vec __attribute__((vector_size(8 * kWidth)));
typedef int64_t VecInt __attribute__((vector_size(8 * kWidth)));

inline Vec load(const double* p) { Vec v; std::memcpy(&v, p, sizeof v); return v; }
inline void store(double* p, Vec v) { std::memcpy(p, &v, sizeof v); }
inline Vec splat(double x) { return x - Vec{}; }

// Sum of the lanes, in halves.
inline double sum(Vec v) {
#if defined(__AVX512F__)
  v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
  v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
#elif defined(__AVX2__)
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1);
  v += __builtin_shufflevector(v, v, 1, 0, 3, 2);
#else
  v += __builtin_shufflevector(v, v, 1, 0);
#endif
  return v[0];
}

// The sums of kWidth vectors, each by the very additions of `sum`, all of them at once.
inline Vec sums(const Vec* v) {
#if defined(__AVX512F__)
  const auto halves = [](Vec a, Vec b) -> Vec {
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) + __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  };
  const auto quarters = [](Vec a, Vec b) -> Vec {
    return __builtin_shufflevector(a, b, 0, 1, 4, 5, 8, 9, 12, 13) + __builtin_shufflevector(a, b, 2, 3, 6, 7, 10, 11, 14, 15);
  };
  const Vec a = quarters(halves(v[0], v[1]), halves(v[2], v[3])), b = quarters(halves(v[4], v[5]), halves(v[6], v[7]));
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14) + __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#elif defined(__AVX2__)
  const auto halves = [](Vec a, Vec b) -> Vec {
    return __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
  };
  const Vec a = halves(v[0], v[1]), b = halves(v[2], v[3]);
  return __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
#else
  return __builtin_shufflevector(v[0], v[1], 0, 2) + __builtin_shufflevector(v[0], v[1], 1, 3);
#endif
}

// exp(x), held to |x| <= 700 so that it never overflows. x = k log 2 + r, |r| <= log(2) / 2; e^r by its
// Taylor polynomial of degree 13 (remainder under 4e-18), 2^k by adding k to the exponent bits. Adding
// 1.5 * 2^52 rounds to an integer and leaves it in the low bits of the sum.
inline Vec exp(Vec x) {
  constexpr double kShift = 6755399441055744.0;
  const Vec limit = splat(700.0);
  x = x > limit ? limit : x;
  x = x < -limit ? -limit : x;
  const Vec shifted = x * 1.4426950408889634 + kShift;
  const Vec k = shifted - kShift;
  // log 2 in two parts: k times the first is exact.
  const Vec r = (x - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10;
  constexpr double c[] = {1.0 / 6227020800.0, 1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0,
                          1.0 / 362880.0,     1.0 / 40320.0,     1.0 / 5040.0,     1.0 / 720.0,
                          1.0 / 120.0,        1.0 / 24.0,        1.0 / 6.0,        0.5,
                          1.0,                1.0};
  Vec p = splat(c[0]);
  NEARLINE_UNROLL
  for (int i = 1; i < 14; ++i) p = p * r + c[i];
  VecInt bits, exponent;
  std::memcpy(&bits, &p, sizeof bits);
  std::memcpy(&exponent, &shifted, sizeof exponent);
  bits += exponent << 52;
  Vec result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

// log(1 + x) for x in [0, 1], as 2 artanh(s) with s = x / (2 + x) <= 1/3, by its series up to s^33 (remainder under
// 1e-17 of the sum). Small x lose nothing.
inline Vec log1p(Vec x) {
  const Vec s = x / (2.0 + x), square = s * s;
  Vec p = splat(1.0 / 33.0);
  NEARLINE_UNROLL
  for (int k = 31; k > 0; k -= 2) p = p * square + 1.0 / k;
  return 2.0 * s * p;
}

// log(x) for x in [2^-52, 1]. x = 2^k m with m in [sqrt(1/2), sqrt(2)), log m as 2 artanh(s) with s = (m - 1) / (m + 1),
// |s| < 0.172, by its series up to s^23 (remainder under 1e-20). k becomes a double by way of the low bits of 1.5 * 2^52.
inline Vec log(Vec x) {
  constexpr double kShift = 6755399441055744.0;
  const Vec shift = splat(kShift);
  VecInt bits, k;
  std::memcpy(&bits, &x, sizeof bits);
  k = (bits >> 52) - 1023;
  bits = (bits & 0x000fffffffffffff) | 0x3ff0000000000000;
  Vec m;
  std::memcpy(&m, &bits, sizeof m);
  const VecInt large = m > 1.4142135623730951;   // -1 where it is so
  m = large ? 0.5 * m : m;
  k -= large;
  std::memcpy(&bits, &shift, sizeof bits);
  bits += k;
  Vec exponent;
  std::memcpy(&exponent, &bits, sizeof exponent);
  exponent -= kShift;
  const Vec s = (m - 1.0) / (m + 1.0), square = s * s;
  Vec p = splat(1.0 / 23.0);
  NEARLINE_UNROLL
  for (int i = 21; i > 0; i -= 2) p = p * square + 1.0 / i;
  return exponent * 0.693147180369123816490 + (2.0 * s * p + exponent * 1.90821492927058770002e-10);
}

// The cosine and sine of `turn` full turns, turn in [0, 1). To the nearest quarter n, and f quarters from it, |f| <= 1/2,
// exactly; Taylor polynomials of f quarters, |.| <= pi / 4 (remainders under 1e-16); then n quarters further.
inline void cos_sin(Vec turn, Vec& cosine, Vec& sine) {
  constexpr double kShift = 6755399441055744.0;
  const Vec shifted = 4.0 * turn + kShift;
  const Vec a = (4.0 * turn - (shifted - kShift)) * 1.5707963267948966, square = a * a;
  constexpr double c[] = {1.0 / 20922789888000.0, -1.0 / 87178291200.0, 1.0 / 479001600.0, -1.0 / 3628800.0,
                          1.0 / 40320.0,          -1.0 / 720.0,         1.0 / 24.0,        -0.5};
  constexpr double d[] = {-1.0 / 1307674368000.0, 1.0 / 6227020800.0, -1.0 / 39916800.0, 1.0 / 362880.0,
                          -1.0 / 5040.0,          1.0 / 120.0,        -1.0 / 6.0};
  Vec even = splat(c[0]), odd = splat(d[0]);
  NEARLINE_UNROLL
  for (int i = 1; i < 8; ++i) even = even * square + c[i];
  NEARLINE_UNROLL
  for (int i = 1; i < 7; ++i) odd = odd * square + d[i];
  even = even * square + 1.0;
  odd = odd * square * a + a;
  VecInt n, bits;
  std::memcpy(&n, &shifted, sizeof n);
  const VecInt swapped = -(n & 1);
  cosine = swapped ? odd : even;
  sine = swapped ? even : odd;
  std::memcpy(&bits, &cosine, sizeof bits);
  bits ^= ((n + 1) & 2) << 62;   // the sign of a double is its highest bit
  std::memcpy(&cosine, &bits, sizeof bits);
  std::memcpy(&bits, &sine, sizeof bits);
  bits ^= (n & 2) << 62;
  std::memcpy(&sine, &bits, sizeof bits);
}

inline Vec absolute(Vec x) { return x < 0.0 ? -x : x; }

// Sum of a[i] * b[i] over n values, n a multiple of kBlock.
inline double dot(const double* a, const double* b, int64_t n) {
  Vec s0 = {}, s1 = {};
  int64_t i = 0;
  for (; i + 2 * kWidth <= n; i += 2 * kWidth) {
    s0 += load(a + i) * load(b + i);
    s1 += load(a + i + kWidth) * load(b + i + kWidth);
  }
  for (; i < n; i += kWidth) s0 += load(a + i) * load(b + i);
  return sum(s0 + s1);
}

// y += s * x over n values, n a multiple of kBlock.
inline void add_scaled(double* y, double s, const double* x, int64_t n) {
  const Vec scale = splat(s);
  for (int64_t i = 0; i < n; i += kWidth) store(y + i, load(y + i) + scale * load(x + i));
}

}  // namespace nearline::NEARLINE_ISA
