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

// Columns a draw has normals of: column[j], ascending, or j without a list.
struct DrawnColumns {
  const int32_t* column;
  int64_t d;
  int64_t at(int64_t j) const { return column ? static_cast<int64_t>(column[j]) : j; }
};

// (length, turn) of each pair of normals that the columns need; returns how many pairs.
inline int64_t fill_pairs(const DrawName& name, const DrawnColumns& columns, double* length, double* turn) {
  uint64_t words[4];
  int64_t pairs = 0, block = -1, pair = -1;   // those made, and the last of them
  for (int64_t j = 0; j < columns.d; ++j) {
    if (columns.at(j) / 2 == pair) continue;
    pair = columns.at(j) / 2;
    if (pair / 2 != block) philox(name, static_cast<uint64_t>(block = pair / 2), words);
    length[pairs] = in_one_to_two(words[2 * (pair % 2)]);
    turn[pairs++] = in_one_to_two(words[2 * (pair % 2) + 1]);
  }
  return pairs;
}

// The normals of `draws` draws from name.draw on; put(draw, j, normal). Those of all draws are made together: of few
// columns a draw alone does not fill a vector. `room`: 2 * padded(draws * d) values.
template <class Put>
void for_normals(DrawName name, const DrawnColumns& columns, int64_t draws, double* room, const Put& put) {
  double *length = room, *turn = room + padded(draws * columns.d);
  int64_t pairs = 0;   // of a draw
  for (int64_t k = 0; k < draws; ++k, ++name.draw)
    pairs = fill_pairs(name, columns, length + k * pairs, turn + k * pairs);
  const int64_t all = draws * pairs;
  for (int64_t i = all; i < padded(all); ++i) length[i] = turn[i] = 1.0;
  box_muller(length, turn, padded(all));
  for (int64_t j = 0, i = 0; j < columns.d; ++j) {
    if (j > 0 && columns.at(j) / 2 != columns.at(j - 1) / 2) ++i;
    const double* from = columns.at(j) % 2 == 0 ? length : turn;
    for (int64_t k = 0; k < draws; ++k) put(k, j, from[k * pairs + i]);
  }
}

}  // namespace nearline::NEARLINE_ISA
