// Scores to the places of the highest, highest first. The order is total: of equal scores the earlier place goes first,
// and a score that is not a number counts as minus infinity.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

namespace nearline {

constexpr int64_t kFew = 32;   // so many are kept sorted while the scores pass by

inline double value_of(double score) { return std::isnan(score) ? -std::numeric_limits<double>::infinity() : score; }

// Of C scores in random order about k log(C / k) are ever inserted; the others cost a comparison.
inline void few(const double* scores, int64_t count, int64_t k, int64_t* place) {
  double best[kFew];
  for (int64_t i = 0; i < count; ++i) {
    if (i >= k && !(scores[i] > best[k - 1])) continue;   // nor is what is not a number
    const double value = value_of(scores[i]);
    int64_t at = std::min(i, k - 1);
    for (; at > 0 && value > best[at - 1]; --at) {
      best[at] = best[at - 1];
      place[at] = place[at - 1];
    }
    best[at] = value;
    place[at] = i;
  }
}

inline void many(const double* scores, int64_t count, int64_t k, int64_t* place, std::vector<int64_t>& order) {
  order.resize(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::partial_sort(order.begin(), order.begin() + k, order.end(), [&](int64_t a, int64_t b) {
    const double left = value_of(scores[a]), right = value_of(scores[b]);
    return left > right || (left == right && a < b);
  });
  std::copy_n(order.begin(), k, place);
}

// place [k] <- the places of the k highest of `count` scores, k <= count. `order` is room to work in.
inline void find_top(const double* scores, int64_t count, int64_t k, int64_t* place, std::vector<int64_t>& order) {
  if (k == 0) return;
  if (k <= kFew) few(scores, count, k, place);
  else many(scores, count, k, place, order);
}

}  // namespace nearline
