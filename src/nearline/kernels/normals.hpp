// Standard normals as a function of names alone: (request, entity, number of the draw, column).
//
// Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) under the key (request, entity);
// its block b, the counter (b + 1, draw, 0, 0), is words 4 b to 4 b + 3. Words 2 p and 2 p + 1 make normals 2 p and
// 2 p + 1 by the method of Box and Muller (1958). So do numpy's Philox and nearline.posterior.reference_draws.
#pragma once

#include "blocks.hpp"

namespace nearline::NEARLINE_ISA {

struct DrawName {
  uint64_t request, entity, draw;
};

inline void philox(const DrawName& name, uint64_t block, uint64_t words[4]) {
  uint64_t a = block + 1, b = name.draw, c = 0, d = 0, key0 = name.request, key1 = name.entity;
  for (int round = 0; round < 10; ++round) {
    const unsigned __int128 left = static_cast<unsigned __int128>(a) * 0xD2E7470EE14C6C93u;
    const unsigned __int128 right = static_cast<unsigned __int128>(c) * 0xCA5A826395121157u;
    a = static_cast<uint64_t>(right >> 64) ^ b ^ key0;
    b = static_cast<uint64_t>(right);
    c = static_cast<uint64_t>(left >> 64) ^ d ^ key1;
    d = static_cast<uint64_t>(left);
    key0 += 0x9E3779B97F4A7C15u;
    key1 += 0xBB67AE8584CAA73Bu;
  }
  words[0] = a;
  words[1] = b;
  words[2] = c;
  words[3] = d;
}

// The highest 52 bits of a word as a double in [1, 2).
inline double in_one_to_two(uint64_t word) {
  const uint64_t bits = (word >> 12) | 0x3ff0000000000000u;
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// (length, turn), both in [1, 2) -> (r cos, r sin) in place for n pairs, n a multiple of kWidth.
inline void box_muller(double* length, double* turn, int64_t n) {
  for (int64_t i = 0; i < n; i += kWidth) store(length + i, -2.0 * log(2.0 - load(length + i)));
  for (int64_t i = 0; i < n; ++i) length[i] = std::sqrt(length[i]);
  for (int64_t i = 0; i < n; i += kWidth) {
    const Vec radius = load(length + i);
    Vec cosine, sine;
    cos_sin(load(turn + i) - 1.0, cosine, sine);
    store(length + i, radius * cosine);
    store(turn + i, radius * sine);
  }
}

// z[j]: the normal of column[j], ascending, or of column j without a list. `room`: 2 * padded(d) values.
inline void fill_normals(const DrawName& name, const int32_t* column, int64_t d, double* z, double* room) {
  const auto at = [&](int64_t j) { return column ? static_cast<int64_t>(column[j]) : j; };
  double *length = room, *turn = room + padded(d);
  uint64_t words[4];
  int64_t pairs = 0, block = -1, pair = -1;   // those made, and the last of them
  for (int64_t j = 0; j < d; ++j) {
    if (at(j) / 2 == pair) continue;
    pair = at(j) / 2;
    if (pair / 2 != block) philox(name, static_cast<uint64_t>(block = pair / 2), words);
    length[pairs] = in_one_to_two(words[2 * (pair % 2)]);
    turn[pairs++] = in_one_to_two(words[2 * (pair % 2) + 1]);
  }
  for (int64_t i = pairs; i < padded(pairs); ++i) length[i] = turn[i] = 1.0;
  box_muller(length, turn, padded(pairs));
  for (int64_t j = 0, i = 0; j < d; ++j) {
    if (j > 0 && at(j) / 2 != at(j - 1) / 2) ++i;
    z[j] = at(j) % 2 == 0 ? length[i] : turn[i];
  }
}

}  // namespace nearline::NEARLINE_ISA
