// Scores to the places of the highest, highest first. The order is total: of equal scores the earlier place goes first,
// and a score that is not a number counts as minus infinity.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <vector>

namespace nb = nanobind;

namespace {

constexpr int64_t kFew = 32;   // so many are kept sorted while the scores pass by

double value_of(double score) { return std::isnan(score) ? -std::numeric_limits<double>::infinity() : score; }

// Of C scores in random order about k log(C / k) are ever inserted; the others cost a comparison.
void few(const double* scores, int64_t count, int64_t k, int64_t* place) {
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

void many(const double* scores, int64_t count, int64_t k, int64_t* place, std::vector<int64_t>& order) {
  order.resize(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::partial_sort(order.begin(), order.begin() + k, order.end(), [&](int64_t a, int64_t b) {
    const double left = value_of(scores[a]), right = value_of(scores[b]);
    return left > right || (left == right && a < b);
  });
  std::copy_n(order.begin(), k, place);
}

using Scores = nb::ndarray<const double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Places = nb::ndarray<int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// Each row of `places` [n, k] <- the places of the k highest of the same row of `scores` [n, C].
void top(const Scores& scores, const Places& places) {
  const int64_t n = static_cast<int64_t>(scores.shape(0)), count = static_cast<int64_t>(scores.shape(1));
  const int64_t k = static_cast<int64_t>(places.shape(1));
  if (static_cast<int64_t>(places.shape(0)) != n || k > count)
    throw std::invalid_argument("places must have a row for each of scores, and no more columns");
  if (k == 0) return;
  std::vector<int64_t> order;
  const nb::gil_scoped_release release;
  for (int64_t row = 0; row < n; ++row) {
    const double* from = scores.data() + row * count;
    int64_t* to = places.data() + row * k;
    if (k <= kFew) few(from, count, k, to);
    else many(from, count, k, to, order);
  }
}

}  // namespace

NB_MODULE(_top, module) {
  nb::set_leak_warnings(false);   // as in posterior.cpp
  module.def("top", &top, nb::arg("scores"), nb::arg("places").noconvert());
}
